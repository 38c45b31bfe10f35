//! Changes of what a VM is: what holds when, what is refused, what a failure leaves.

use std::time::Duration;

use super::fault::{Fate, Fault};
use super::world::{SimDisk, World};
use super::{Daemon, daemon, larger, run, wish};
use crate::report::Kind;
use crate::wire::rpc::{ClientContext, CreateVm, Holds, KillSignal, SetVm, Setting, VmState};

async fn running(world: &World, planned: Option<(usize, Fault)>) -> Daemon {
    let daemon = daemon(world, planned);
    daemon.vms.create(wish("web"), None).await.expect("created");
    daemon
}

fn disk(world: &World) -> SimDisk {
    *world.host().disks.values().next().expect("one disk")
}

fn nothing() -> SetVm {
    SetVm { vm: "web".to_owned(), ..SetVm::default() }
}

#[test]
fn a_vm_that_runs_gets_its_disk_at_once_and_the_rest_with_its_next_boot() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let reply = daemon.vms.set(larger("web", 2)).await.expect("set");
        let changes: Vec<_> =
            reply.changes.iter().map(|change| (change.setting, change.holds)).collect();
        let expected = [
            (Setting::Vcpu, Holds::AfterRestart),
            (Setting::Memory, Holds::AfterRestart),
            (Setting::Disk, Holds::Now),
        ];
        assert_eq!(changes, expected);
        assert_eq!(reply.vm.restart_needed, [Setting::Vcpu, Setting::Memory]);
        assert_eq!((reply.vm.vcpu, reply.vm.memory_mib, reply.vm.disk_bytes), (2, 1024, 2 << 30));
        assert_eq!(disk(&world).system, 2 << 30);
        let client = ClientContext::default();
        daemon.vms.restart("web", client, true).await.expect("an operation");
        let vm = daemon.vms.show("web").expect("there");
        assert_eq!((vm.state, vm.restart_needed), (VmState::Running, Vec::new()));
        let again = daemon.vms.set(larger("web", 2)).await.expect("set");
        assert_eq!(again.changes, [], "it is like that already");
    });
}

#[test]
fn a_vm_at_rest_has_everything_at_its_next_start() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("created");
        let reply = daemon.vms.set(larger("web", 3)).await.expect("set");
        assert!(reply.changes.iter().all(|change| change.holds == Holds::Now), "{reply:?}");
        assert_eq!((disk(&world).file, disk(&world).system), (3 << 30, 1 << 30));
        daemon.vms.start("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(disk(&world).system, 3 << 30);
    });
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let label = |key: &str| [(key.to_owned(), Some("x".to_owned()))].into();
        for bad in [
            SetVm { disk_bytes: Some(1 << 29), ..nothing() },
            SetVm { disk_bytes: Some((2 << 30) + 1), ..nothing() },
            SetVm { disk_bytes: Some(17 << 40), ..nothing() },
            SetVm { vcpu: Some(0), ..nothing() },
            SetVm { vcpu: Some(65), ..nothing() },
            SetVm { memory_mib: Some(64), ..nothing() },
            // The host of these tests has 4 GiB.
            SetVm { memory_mib: Some(4097), ..nothing() },
            SetVm { labels: label(""), ..nothing() },
            SetVm { labels: label("a=b"), ..nothing() },
            SetVm { auto_stop_after_s: Some(u64::MAX), ..nothing() },
            SetVm { vcpu: Some(2), memory_mib: Some(64), ..nothing() },
        ] {
            let error = daemon.vms.set(bad.clone()).await.expect_err("refused");
            assert!(error.kind == Kind::Invalid && error.hint.is_some(), "{bad:?}: {error:?}");
        }
        let vm = daemon.vms.show("web").expect("there");
        assert_eq!((vm.vcpu, vm.memory_mib, vm.disk_bytes), (1, 256, 1 << 30));
        assert!(vm.labels.is_empty() && vm.auto_stop_after_s.is_none());
        let unknown = SetVm { vm: "none".to_owned(), ..nothing() };
        assert_eq!(daemon.vms.set(unknown).await.expect_err("refused").kind, Kind::NotFound);
    });
}

#[test]
fn labels_are_set_one_by_one_and_removed_one_by_one() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        let labels = |labels: &[(&str, Option<&str>)]| SetVm {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect(),
            ..nothing()
        };
        daemon.vms.set(labels(&[("a", Some("1")), ("b", Some("2"))])).await.expect("set");
        let reply = daemon.vms.set(labels(&[("a", None), ("c", Some(""))])).await.expect("set");
        let shown: Vec<_> = reply.vm.labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(shown, [("b", "2"), ("c", "")]);
        assert_eq!(reply.changes.len(), 1);
        assert_eq!(
            (reply.changes[0].setting, reply.changes[0].holds),
            (Setting::Labels, Holds::Now)
        );
    });
}

/// A VM that runs, in which the `count`th call of `name` fails.
fn failing(name: &'static str, count: usize) -> Option<(usize, Fault)> {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        daemon.vms.set(larger("web", 2)).await.expect("set");
        let calls = daemon.faults.calls();
        let named = calls.iter().enumerate().filter(|(_, call)| **call == name);
        named.map(|(at, _)| (at, Fault::Error)).nth(count)
    })
}

#[test]
fn a_disk_whose_file_cannot_grow_leaves_everything_as_it_was() {
    // The first is of its start.
    let planned = failing("disks.grow", 1);
    assert!(planned.is_some());
    run(async {
        let world = World::default();
        let daemon = running(&world, planned).await;
        daemon.vms.set(larger("web", 2)).await.expect_err("the file does not grow");
        let vm = daemon.vms.show("web").expect("there");
        assert_eq!((vm.vcpu, vm.memory_mib, vm.disk_bytes), (1, 256, 1 << 30));
        assert_eq!(world.host().rows[0].spec.disk_bytes, 1 << 30);
    });
}

#[test]
fn a_disk_that_cannot_grow_in_the_guest_grows_at_its_next_start() {
    for call in ["machines.grow_work_disk", "guest.grow_work_disk"] {
        let planned = failing(call, 0);
        assert!(planned.is_some(), "{call}");
        run(async {
            let world = World::default();
            let daemon = running(&world, planned).await;
            let reply = daemon.vms.set(larger("web", 2)).await.expect("set");
            let disk_change = &reply.changes[2];
            assert_eq!(
                (disk_change.setting, disk_change.holds),
                (Setting::Disk, Holds::AfterRestart)
            );
            assert!(disk_change.cause.as_deref().is_some_and(|cause| cause.contains("injected")));
            assert!(reply.vm.restart_needed.contains(&Setting::Disk));
            assert_eq!(world.complaints(), Vec::<String>::new(), "{call}");
            let client = ClientContext::default();
            daemon.vms.restart("web", client, true).await.expect("an operation");
            assert_eq!(disk(&world).system, 2 << 30);
            assert_eq!(daemon.vms.show("web").expect("there").restart_needed, []);
        });
    }
}

#[test]
fn a_kill_cuts_a_growth_short_and_the_next_start_finishes_it() {
    for call in ["machines.grow_work_disk", "guest.grow_work_disk"] {
        let (at, _) = failing(call, 0).expect("it is called");
        run(async {
            let world = World::default();
            let daemon = running(&world, Some((at, Fault::Hang))).await;
            let began = tokio::time::Instant::now();
            let kill = async {
                daemon.faults.until(Fate::Hangs).await;
                daemon.vms.kill("web", KillSignal::Kill).await
            };
            let (set, killed) = tokio::join!(daemon.vms.set(larger("web", 2)), kill);
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            assert_eq!(set.expect("set").changes[2].holds, Holds::AfterRestart);
            assert_eq!(killed.expect("killed").state, VmState::Stopped);
            daemon.vms.start("web", ClientContext::default(), true).await.expect("an operation");
            assert_eq!(disk(&world).system, 2 << 30);
            assert_eq!(world.complaints(), Vec::<String>::new());
        });
    }
}
