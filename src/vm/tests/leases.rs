//! Leases: a VM goes with its client, and only with its client.

use std::time::Duration;

use super::fault::Fault;
use super::world::World;
use super::{daemon, run, wish};
use crate::report::Kind;
use crate::vm::{ConnectionId, Doom};
use crate::wire::rpc::CreateVm;

const CLIENT: ConnectionId = ConnectionId(4);
const AFTER_GRACE: Duration = Duration::from_secs(12);

fn leased(name: &str) -> CreateVm {
    CreateVm { lease: true, ..wish(name) }
}

#[test]
fn a_leased_vm_goes_ten_seconds_after_its_client() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.connection_opened(CLIENT);
        daemon.vms.create(leased("web"), Some(CLIENT)).await.expect("created");
        daemon.vms.create(wish("kept"), Some(CLIENT)).await.expect("created");
        daemon.vms.connection_closed(CLIENT);
        tokio::time::sleep(Duration::from_secs(8)).await;
        daemon.vms.show("web").expect("within the grace");
        tokio::time::sleep(AFTER_GRACE).await;
        assert_eq!(daemon.vms.show("web").expect_err("gone").kind, Kind::NotFound);
        daemon.vms.show("kept").expect("it had no lease");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_connection_that_closes_during_the_create_still_takes_the_vm_along() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.connection_opened(CLIENT);
        let mut create = std::pin::pin!(daemon.vms.create(leased("web"), Some(CLIENT)));
        // Until the row is there, and not a step further.
        tokio::select! {
            biased;
            () = async { while world.host().rows.is_empty() { tokio::task::yield_now().await; } } => {}
            _ = &mut create => panic!("it cannot be through already"),
        }
        daemon.vms.connection_closed(CLIENT);
        create.await.expect("an operation");
        tokio::time::sleep(AFTER_GRACE).await;
        let host = world.host();
        assert!(host.rows.is_empty() && host.processes.is_empty() && host.folders.is_empty());
    });
}

#[test]
fn a_lease_wants_a_connection_that_stays() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let error = daemon.vms.create(leased("web"), None).await.expect_err("refused");
        assert_eq!(error.kind, Kind::Invalid);
        assert!(world.host().rows.is_empty());
    });
}

#[test]
fn a_lease_of_a_deleted_vm_deletes_no_namesake() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.connection_opened(CLIENT);
        let made = daemon.vms.create(leased("web"), Some(CLIENT)).await.expect("created");
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        daemon.vms.create(wish("web"), None).await.expect("created");
        // Even one whose name is the other's id.
        daemon.vms.create(wish(made.vm.as_str()), None).await.expect("created");
        daemon.vms.connection_closed(CLIENT);
        tokio::time::sleep(AFTER_GRACE).await;
        assert_eq!(world.host().rows.len(), 2);
    });
}

#[test]
fn a_leased_vm_that_cannot_be_deleted_is_tried_again() {
    let play = |planned: Option<(usize, Fault)>| {
        run(async {
            let world = World::default();
            let daemon = daemon(&world, planned);
            daemon.vms.connection_opened(CLIENT);
            daemon.vms.create(leased("web"), Some(CLIENT)).await.expect("created");
            daemon.vms.connection_closed(CLIENT);
            tokio::time::sleep(2 * AFTER_GRACE).await;
            assert!(world.host().rows.is_empty(), "{:?}", daemon.faults.calls());
            daemon.faults.calls()
        })
    };
    let calls = play(None);
    let removal = calls.iter().position(|call| *call == "disks.remove").expect("it is removed");
    play(Some((removal, Fault::Error)));
}

#[test]
fn a_leased_vm_goes_after_its_daemon_died() {
    let world = World::default();
    run(async {
        let daemon = daemon(&world, None);
        daemon.vms.connection_opened(CLIENT);
        daemon.vms.create(leased("web"), Some(CLIENT)).await.expect("created");
    });
    run(async {
        let daemon = daemon(&world, None);
        daemon.vms.recover().await.expect("recovers");
        daemon.vms.show("web").expect("adopted");
        tokio::time::sleep(AFTER_GRACE).await;
        assert!(world.host().rows.is_empty() && world.host().processes.is_empty());
    });
}
