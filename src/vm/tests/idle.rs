//! VMs that stop by themselves when nobody uses them, and deletes that spare what runs.

use std::time::Duration;

use super::fault::Fault;
use super::world::{Behaviour, World};
use super::{AT_REST, Daemon, daemon, run, wish};
use crate::report::Kind;
use crate::wire::guest::{DetachedState, DetachedStdin};
use crate::wire::rpc::{ClientContext, CreateVm, DetachVm, ExecVm, SetVm, Vm, VmState};

/// A daemon with the VM `web`, which runs and stops after so many idle seconds.
async fn running(world: &World, after: u64) -> Daemon {
    let daemon = daemon(world, None);
    daemon.vms.create(wish("web"), None).await.expect("created");
    let auto_stop_after_s = Some(after);
    let set = SetVm { vm: "web".to_owned(), auto_stop_after_s, ..SetVm::default() };
    daemon.vms.set(set).await.expect("set");
    daemon
}

fn web(daemon: &Daemon) -> Vm {
    daemon.vms.show("web").expect("there")
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn a_vm_that_nobody_uses_stops_and_says_why() {
    run(async {
        let world = World::default();
        let daemon = running(&world, 60).await;
        pass(58).await;
        assert_eq!(web(&daemon).state, VmState::Running);
        pass(4).await;
        let vm = web(&daemon);
        assert_eq!(vm.state, VmState::Stopped);
        assert!(vm.cause.is_some_and(|cause| cause.contains("nobody used it for 60 s")));
        assert_eq!(world.complaints(), Vec::<String>::new());
        assert!(daemon.faults.calls().contains(&"guest.power_off"), "its guest was asked");
    });
}

#[test]
fn without_being_told_a_vm_runs_for_ever() {
    run(async {
        let world = World::default();
        let daemon = running(&world, 60).await;
        let off = SetVm { auto_stop_after_s: Some(0), ..SetVm::default() };
        let reply = daemon.vms.set(SetVm { vm: "web".to_owned(), ..off }).await.expect("set");
        assert_eq!(reply.vm.auto_stop_after_s, None);
        daemon.vms.create(wish("other"), None).await.expect("created");
        pass(1_000_000).await;
        assert_eq!(web(&daemon).state, VmState::Running);
        assert_eq!(daemon.vms.show("other").expect("there").state, VmState::Running);
    });
}

#[test]
fn a_touch_begins_the_time_anew() {
    run(async {
        let world = World::default();
        let daemon = running(&world, 60).await;
        for _ in 0..5 {
            pass(40).await;
            let touched = daemon.vms.touch("web").await.expect("touched");
            assert_eq!(touched.state, VmState::Running);
        }
        pass(62).await;
        assert_eq!(web(&daemon).state, VmState::Stopped);
        let unknown = daemon.vms.touch("none").await.expect_err("refused");
        assert_eq!(unknown.kind, Kind::NotFound);
    });
}

#[test]
fn an_open_stream_is_use_until_its_end() {
    run(async {
        let world = World::default();
        let daemon = running(&world, 60).await;
        let exec = ExecVm {
            vm: "web".to_owned(),
            argv: vec!["true".to_owned()],
            env: std::collections::BTreeMap::new(),
            cwd: None,
            tty: None,
        };
        let target = daemon.vms.exec(exec).await.expect("it runs");
        let (one, two) = (target.usage.begin(), target.usage.begin());
        pass(500).await;
        drop(one);
        pass(500).await;
        assert_eq!(web(&daemon).state, VmState::Running);
        drop(two);
        pass(58).await;
        assert_eq!(web(&daemon).state, VmState::Running, "from its end on");
        pass(4).await;
        assert_eq!(web(&daemon).state, VmState::Stopped);
    });
}

#[test]
fn a_command_that_runs_detached_is_use_until_its_end() {
    run(async {
        let world = World::default();
        let daemon = running(&world, 60).await;
        let detach = DetachVm {
            vm: "web".to_owned(),
            argv: vec!["make".to_owned()],
            env: std::collections::BTreeMap::new(),
            cwd: None,
            tty: None,
            stdin: DetachedStdin::Ended,
        };
        daemon.vms.detach(detach).await.expect("it runs");
        pass(1000).await;
        assert_eq!(web(&daemon).state, VmState::Running);
        // Also for a daemon that knows nothing of it.
        daemon.tasks.drain(Duration::from_secs(10)).await;
        let next = super::daemon(&world, None);
        next.vms.recover().await.expect("recovers");
        pass(1000).await;
        assert_eq!(web(&next).state, VmState::Running);
        world.host().detached[0].state = DetachedState::Exited(0);
        pass(130).await;
        assert_eq!(web(&next).state, VmState::Stopped);
    });
}

#[test]
fn a_guest_that_does_not_say_what_runs_in_it_is_not_stopped() {
    run(async {
        let world = World::default();
        let probe = running(&world, 60).await;
        pass(62).await;
        let asked = probe.faults.calls().iter().position(|call| *call == "guest.detached");
        let world = World::default();
        let daemon = daemon(&world, Some((asked.expect("it was asked"), Fault::Error)));
        daemon.vms.create(wish("web"), None).await.expect("created");
        let auto_stop_after_s = Some(60);
        let set = SetVm { vm: "web".to_owned(), auto_stop_after_s, ..SetVm::default() };
        daemon.vms.set(set).await.expect("set");
        pass(100).await;
        assert_eq!(web(&daemon).state, VmState::Running);
        pass(30).await;
        assert_eq!(web(&daemon).state, VmState::Stopped, "it is asked again");
    });
}

#[test]
fn the_time_goes_on_over_a_daemon_and_its_successor_waits_a_little() {
    run(async {
        let world = World::default();
        let first = running(&world, 3600).await;
        first.tasks.drain(Duration::from_secs(10)).await;
        let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2);
        world.host().rows[0].last_touched_at = long_ago.to_string();
        let next = daemon(&world, None);
        next.vms.recover().await.expect("recovers");
        pass(28).await;
        assert_eq!(web(&next).state, VmState::Running);
        pass(4).await;
        assert_eq!(web(&next).state, VmState::Stopped);
        // Whoever comes for it in that time gets it.
        next.vms.start("web", ClientContext::default(), true).await.expect("an operation");
        next.tasks.drain(Duration::from_secs(10)).await;
        world.host().rows[0].last_touched_at = long_ago.to_string();
        let last = daemon(&world, None);
        last.vms.recover().await.expect("recovers");
        pass(20).await;
        last.vms.touch("web").await.expect("touched");
        pass(3590).await;
        assert_eq!(web(&last).state, VmState::Running);
    });
}

#[test]
fn a_delete_of_what_is_at_rest_spares_what_runs_or_starts() {
    run(async {
        let world = World::default();
        let daemon = running(&world, 60).await;
        let spared = daemon.vms.delete("web", AT_REST).await.expect_err("it runs");
        assert_eq!(spared.kind, Kind::Conflict);
        assert!(spared.message.contains("`web` is running"), "{spared:?}");
        // One that is being started is not interrupted.
        world.behave(Behaviour { never_answers: true, ..Behaviour::default() });
        let create = CreateVm { wait: false, ..wish("late") };
        daemon.vms.create(create, None).await.expect("an operation");
        let began = tokio::time::Instant::now();
        daemon.vms.delete("late", AT_REST).await.expect("deleted when its start had failed");
        assert!(began.elapsed() > Duration::from_secs(30), "{:?}", began.elapsed());
        daemon.vms.stop("web").await.expect("stopped");
        daemon.vms.delete("web", AT_REST).await.expect("deleted");
        assert!(world.host().rows.is_empty() && world.host().folders.is_empty());
    });
}
