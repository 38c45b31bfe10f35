//! Looking at VMs: what they use and who listens, also when something does not answer.

use super::fault::Fault;
use super::world::World;
use super::{daemon, run, wish};
use crate::report::Kind;
use crate::wire::rpc::{CreateVm, VmState};

#[test]
fn a_vm_that_runs_tells_of_host_and_guest() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        let stats = daemon.vms.stats("web").await.expect("told");
        let roles: Vec<_> = stats.host.processes.iter().map(|one| one.role.as_str()).collect();
        assert_eq!(roles, ["network_keeper", "uplink", "vsock_device", "monitor"]);
        assert_eq!((stats.host.cpu_ms, stats.host.age_ms), (2000, Some(1000)));
        assert_eq!(stats.host.resident_bytes, 8 << 20);
        assert_eq!(stats.host.proportional_bytes, Some(4 << 20));
        assert_eq!((stats.host.work_disk_bytes, stats.host.root_disk_bytes), (4096, 8192));
        assert_eq!(stats.guest.expect("it runs").memory_bytes, 256 << 20);
        assert_eq!(daemon.vms.listening("web").await.expect("told").sockets[0].port, 8080);
        let touched = daemon.vms.show("web").expect("there").last_touched_at;
        assert!(touched <= stats.at, "looking is no use");
    });
}

#[test]
fn a_vm_at_rest_takes_room_and_nothing_else() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("created");
        let stats = daemon.vms.stats("web").await.expect("told");
        assert_eq!((stats.state, stats.host.age_ms), (VmState::Created, None));
        assert!(stats.guest.is_none() && stats.guest_error.is_none());
        assert!(stats.host.processes.is_empty());
        assert_eq!(daemon.vms.listening("web").await.expect_err("it rests").kind, Kind::Conflict);
        assert_eq!(daemon.vms.stats("none").await.expect_err("none").kind, Kind::NotFound);
    });
}

#[test]
fn a_guest_that_does_not_answer_hides_nothing_of_the_host() {
    let at = run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        daemon.vms.stats("web").await.expect("told");
        daemon.faults.calls().iter().position(|call| *call == "guest.stats").expect("asked")
    });
    for fault in [Fault::Error, Fault::Hang] {
        run(async {
            let world = World::default();
            let daemon = daemon(&world, Some((at, fault)));
            daemon.vms.create(wish("web"), None).await.expect("created");
            let stats = daemon.vms.stats("web").await.expect("told");
            assert!(stats.guest.is_none() && stats.guest_error.is_some(), "{stats:?}");
            assert_eq!(stats.host.processes.len(), 4);
        });
    }
}
