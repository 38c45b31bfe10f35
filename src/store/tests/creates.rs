//! A thousand creates of machines in memory over the real database: that none is lost however many are
//! under way at once, and, with `--nocapture`, how many a second there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::store::Store;
use crate::vm::ports::Ports;
use crate::vm::tests::world::World;
use crate::vm::tests::{Daemon, daemon, daemon_with, wish};
use crate::wire::rpc::{OperationEnd, VmState};

const CREATES: u32 = 1000;

/// Where the rows go.
#[derive(Debug, Clone, Copy)]
enum Place {
    Memory,
    Database,
}

/// So many clients make all VMs between them, one after the other each.
async fn make_all(daemon: &Daemon, clients: u32) -> Duration {
    let next = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let clients = (0..clients).map(|_| {
        let (vms, next) = (daemon.vms.clone(), next.clone());
        daemon.tasks.spawn("client", async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= CREATES {
                    return;
                }
                let made = vms.create(wish(&format!("vm-{number}")), None).await.expect("made");
                match made.end.expect("it was waited for") {
                    OperationEnd::Done { vm } => assert_eq!(vm.state, VmState::Running),
                    OperationEnd::Failed { error, .. } => panic!("{error}"),
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic");
    }
    began.elapsed()
}

fn a_thousand(place: Place, clients: u32) -> Duration {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all();
    runtime.build().expect("a runtime").block_on(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let world = World::default();
        let daemon = match place {
            Place::Memory => daemon(&world, None),
            Place::Database => {
                let store = Store::open(&folder.path().join("cove.db")).expect("opens");
                daemon_with(&world, None, |ports| Ports { rows: Arc::new(store), ..ports })
            }
        };
        let took = make_all(&daemon, clients).await;
        assert_eq!((daemon.vms.count(), world.monitors().len()), (1000, 1000));
        assert_eq!(daemon.tasks.drain(Duration::from_secs(20)).await, 0);
        took
    })
}

#[test]
#[expect(clippy::print_stderr, reason = "a measurement is for reading")]
fn a_thousand_creates_at_once_are_a_thousand_vms() {
    for place in [Place::Memory, Place::Database] {
        for clients in [1, 2, 4, 8] {
            let took = a_thousand(place, clients);
            let rate = f64::from(CREATES) / took.as_secs_f64();
            eprintln!("rows in {place:?}, {clients} at once: {rate:.0} creates a second");
        }
    }
}
