//! How long the network of a start takes: by pasta with and without one that was made ahead, and on the
//! bridge, where none is made ahead, in turns.
//!
//! It is [`Networks::start`] that is timed, with rows in a database on disk as the daemon has them. There are
//! several `Networks` with one spare each, and all are used up before one of them makes another, seconds
//! after its start: what is timed has the processors for itself. The first VM on the bridge in a turn makes
//! the bridge, and the last one takes it away.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove::egress::Policy;
use cove::id::{Digest, VmId};
use cove::net::{Ahead, Attached, Networks, Place, Wanted};
use cove::process::{Process, ProcessId};
use cove::store::Store;
use cove::task::Tasks;
use cove::vm::ledger::SpareRows;
use cove::vm::ports::Rows;
use cove::vm::record::{VmRecord, VmSpec};
use cove::vm::state::State;
use cove::wire::guest::SshHostKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{GRACE, Settings, on_bridge};

/// How many networks are made ahead at a time.
const STOCK: usize = 6;

/// How many such stocks are used up.
const STOCKS: usize = 8;

/// How long a spare whose processes run may take to be ready: the uplink configures its end.
const READY: Duration = Duration::from_millis(500);

/// How long each start took.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timed {
    pub(crate) made_ahead: Vec<Duration>,
    pub(crate) not_made_ahead: Vec<Duration>,
    /// Bridge, rules and resolver among it.
    pub(crate) first_on_bridge: Vec<Duration>,
    pub(crate) next_on_bridge: Vec<Duration>,
}

/// Times them, as the user that this process runs as.
pub(crate) async fn time(settings: &Settings) -> Timed {
    let store = Arc::new(Store::open(&settings.folder.join("cove.db")).expect("a database"));
    let tasks = Tasks::default();
    let networks = |number: usize, count| {
        let folder = settings.folder.join(format!("ahead-{number}"));
        let (rows, path) = (Arc::clone(&store) as Arc<dyn SpareRows>, OsStr::new(&settings.path));
        let (coved, ahead) = (settings.coved.clone(), Ahead { rows, folder, count });
        Networks::new(coved, path, ahead, on_bridge(settings), tasks.clone())
    };
    let with: Vec<_> = (1..=STOCK).map(|number| networks(number, 1)).collect();
    let without = networks(0, 0);
    let mut timed = Timed::default();
    // The first starts find out what the others know. The others are made ahead after them.
    for networks in with.iter().chain([&without]) {
        end(networks, [start(settings, &store, networks, None).await]).await;
    }
    end(&without, [start(settings, &store, &without, Some(0)).await]).await;
    for _ in 0..STOCKS {
        let spares = stock(&store).await;
        let mut all = Vec::new();
        for (slot, ahead) in (0..).zip(&with) {
            let began = start(settings, &store, &without, Some(slot)).await;
            match slot {
                0 => timed.first_on_bridge.push(began.took),
                _ => timed.next_on_bridge.push(began.took),
            }
            all.push(began);
            let order = if slot % 2 == 0 { [ahead, &without] } else { [&without, ahead] };
            for networks in order {
                let started = start(settings, &store, networks, None).await;
                let made_ahead = spares.contains(&started.attached.keeper);
                // One that should have been there and was not is none of either kind.
                if made_ahead {
                    timed.made_ahead.push(started.took);
                } else if std::ptr::eq(networks, &without) {
                    timed.not_made_ahead.push(started.took);
                }
                all.push(started);
            }
        }
        end(&without, all).await;
    }
    assert_eq!(tasks.drain(GRACE).await, 0, "tasks end at shutdown");
    timed
}

/// Waits until a stock is there, and says which processes it has.
async fn stock(store: &Store) -> Vec<ProcessId> {
    let end = Instant::now() + GRACE;
    loop {
        let rows = SpareRows::all(store).await.expect("rows");
        let processes: Vec<_> = rows.into_iter().flat_map(|(_, row)| row).flatten().collect();
        // A keeper and an uplink each.
        if processes.len() == STOCK * 2 {
            tokio::time::sleep(READY).await;
            return processes;
        }
        assert!(Instant::now() < end, "no stock within {} s: {processes:?}", GRACE.as_secs());
        tokio::time::sleep(READY / 10).await;
    }
}

struct Started {
    vm: VmId,
    attached: Attached,
    took: Duration,
}

/// Starts one, on the bridge where it is told its place there.
async fn start(
    settings: &Settings,
    store: &Store,
    networks: &Networks,
    slot: Option<u32>,
) -> Started {
    let vm = VmId::random();
    let name = format!("vm-{vm}").parse().expect("a name");
    let place = slot.map(|slot| Place { name, slot, peers: BTreeSet::new() });
    let folder = settings.folder.join(vm.as_str());
    std::fs::create_dir(&folder).expect("made");
    store.insert(&record(&vm)).await.expect("written");
    let ledger = Rows::ledger(store, &vm);
    let policy = Policy::default();
    let began = Instant::now();
    let wanted = Wanted { vm: &vm, folder: &folder, policy: &policy, place: place.as_ref() };
    let attached = networks.start(wanted, &*ledger).await.expect("started");
    let took = began.elapsed();
    Started { vm, attached, took }
}

/// Some VM: rows of networks are rows of VMs.
fn record(vm: &VmId) -> VmRecord {
    let key = SshHostKey { private: String::new(), public: String::new() };
    let spec = json!({
        "image": "default", "image_digest": Digest::of(b"image"), "kernel_digest": Digest::of(b"kernel"),
        "vcpu": 1, "memory_mib": 512, "disk_bytes": 0, "root_disk_bytes": 0, "net": "user",
        "env": {}, "labels": {}, "ssh_host_key": key,
    });
    let spec: VmSpec = serde_json::from_value(spec).expect("what a VM has to be");
    let now = cove::vm::now();
    VmRecord {
        id: vm.clone(),
        name: format!("bench-{vm}").parse().expect("a name"),
        spec,
        state: State::Created,
        workspace: None,
        leased: false,
        created_at: now.clone(),
        started_at: None,
        last_touched_at: now,
    }
}

/// Ends them; `networks` has the bridge that they may be on.
async fn end(networks: &Networks, all: impl IntoIterator<Item = Started>) {
    for Started { vm, attached, .. } in all {
        if attached.uplink.is_none() {
            networks.detach(&vm).await.expect("off the bridge");
        }
        for process in attached.uplink.into_iter().chain([attached.keeper]) {
            let Some(process) = Process::open(process).expect("looked at") else { continue };
            process.kill(GRACE).await.expect("killed");
        }
    }
}
