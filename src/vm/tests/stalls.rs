//! Machines that stand still because the host's disk is full: what is shown, and what may be asked of them.

use std::time::Duration;

use super::fault::Fault;
use super::world::World;
use super::{Daemon, daemon, larger, outcome, run, wish};
use crate::report::{Kind, Report};
use crate::vm::Doom;
use crate::wire::rpc::{
    ClientContext, EventQuery, ExecVm, Happening, Holds, KillSignal, OperationEnd, SetVm, Vm,
    VmState,
};

const FULL: &str = "the host's disk is full";

/// A daemon with the VM `web`, which stands still.
async fn stalled(world: &World) -> Daemon {
    let daemon = daemon(world, None);
    daemon.vms.create(wish("web"), None).await.expect("created");
    world.fill();
    daemon
}

fn web(daemon: &Daemon) -> Vm {
    daemon.vms.show("web").expect("there")
}

async fn start(daemon: &Daemon) -> Result<VmState, Report> {
    let operation = daemon.vms.start("web", ClientContext::default(), true).await?;
    match operation.end.expect("it was waited for") {
        OperationEnd::Done { vm } => Ok(vm.state),
        OperationEnd::Failed { error, vm_kept, .. } => {
            assert!(vm_kept);
            Err(error)
        }
    }
}

#[test]
fn a_vm_that_stands_still_runs_and_says_why() {
    run(async {
        let world = World::default();
        let daemon = stalled(&world).await;
        let vm = web(&daemon);
        assert_eq!(
            (vm.state, vm.stalled.as_deref(), vm.cause),
            (VmState::Running, Some(FULL), None)
        );
        let error = start(&daemon).await.expect_err("there is no room");
        assert_eq!(error.kind, Kind::Failed);
        assert_eq!(error.message, format!("the VM `web` is stalled: {FULL}"));
        assert!(error.hint.expect("a hint").starts_with("make room on the file system of `/vms/"));
        assert_eq!(web(&daemon).stalled.as_deref(), Some(FULL), "as it was");
        world.make_room();
        assert_eq!(start(&daemon).await, Ok(VmState::Running));
        assert_eq!(
            (web(&daemon).stalled, web(&daemon).boot_id),
            (None, vm.boot_id),
            "the same boot"
        );
        let conflict = start(&daemon).await.expect_err("it runs");
        let text = "`web`: the VM is running, so it cannot be started";
        assert_eq!((conflict.kind, conflict.message.as_str()), (Kind::Conflict, text));
    });
}

/// The clock of a guest stands still with it.
#[test]
fn a_clock_that_is_not_set_is_said_and_ends_nothing() {
    let set = |planned| {
        run(async move {
            let world = World::default();
            let daemon = daemon(&world, planned);
            daemon.vms.create(wish("web"), None).await.expect("created");
            world.fill();
            world.make_room();
            let operation = daemon.vms.start("web", ClientContext::default(), true).await;
            let operation = operation.expect("an operation");
            assert!(matches!(operation.end, Some(OperationEnd::Done { .. })), "{operation:?}");
            let calls = daemon.faults.calls();
            let at = calls.iter().position(|call| *call == "guest.set_clock").expect("it is set");
            (at, operation.notes)
        })
    };
    let (at, notes) = set(None);
    assert_eq!(notes, Vec::<String>::new());
    let (_, notes) = set(Some((at, Fault::Error)));
    assert!(notes[0].starts_with("the guest's clock is late by as long as it stood still: "));
}

#[test]
fn it_is_told_when_a_vm_comes_to_stand_still_and_when_it_goes_on() {
    run(async {
        let world = World::default();
        let daemon = stalled(&world).await;
        let vm = web(&daemon);
        let mut events = daemon.vms.events().follow(&EventQuery::default());
        let (id, name) = (vm.id, vm.name);
        let stalled =
            Happening::VmStalled { vm: id.clone(), vm_name: name.clone(), reason: FULL.to_owned() };
        assert_eq!(events.next().await.what, stalled);
        world.make_room();
        start(&daemon).await.expect("it goes on");
        let went_on = |what: &Happening| {
            *what == Happening::VmWentOn { vm: id.clone(), vm_name: name.clone() }
        };
        while !went_on(&events.next().await.what) {}
        // Once more, and its end is told as an end and as nothing else.
        world.fill();
        assert_eq!(events.next().await.what, stalled);
        daemon.vms.kill("web", KillSignal::Kill).await.expect("killed");
        let ended = events.next().await.what;
        assert!(matches!(ended, Happening::VmState { state: VmState::Stopped, .. }), "{ended:?}");
    });
}

#[test]
fn the_next_daemon_finds_it_standing_still_though_no_row_says_so() {
    run(async {
        let world = World::default();
        let first = daemon(&world, None);
        first.vms.create(wish("web"), None).await.expect("created");
        first.tasks.drain(Duration::from_secs(10)).await;
        world.fill();
        let next = daemon(&world, None);
        next.vms.recover().await.expect("recovers");
        assert_eq!(
            (web(&next).state, web(&next).stalled.as_deref()),
            (VmState::Running, Some(FULL))
        );
        world.make_room();
        assert_eq!(start(&next).await, Ok(VmState::Running));
    });
}

#[test]
fn nobody_waits_for_a_guest_that_cannot_answer() {
    run(async {
        let world = World::default();
        let daemon = stalled(&world).await;
        let (vms, began) = (&daemon.vms, tokio::time::Instant::now());
        let vm = || "web".to_owned();
        let exec =
            ExecVm { vm: vm(), argv: Vec::new(), env: Default::default(), cwd: None, tty: None };
        let refused = [
            vms.exec(exec).await.err().expect("refused"),
            vms.listening("web").await.expect_err("refused"),
            vms.health("web").await.expect_err("refused"),
        ];
        for error in refused {
            assert_eq!(error.kind, Kind::Conflict);
            assert_eq!(error.message, format!("the VM `web` is stalled: {FULL}"));
            assert!(error.hint.expect("a hint").contains("`cove start web`"));
        }
        let stats = vms.stats("web").await.expect("the host can tell");
        let guest = stats.guest_error.expect("the guest cannot");
        assert!(guest.contains(FULL) && guest.contains("`cove start web`"), "{guest}");
        let disk_bytes = Some(2 << 30);
        let set = vms.set(SetVm { vm: vm(), disk_bytes, ..SetVm::default() }).await.expect("set");
        assert_eq!(set.changes[0].holds, Holds::AfterRestart);
        assert!(set.changes[0].cause.as_ref().is_some_and(|cause| cause.contains(FULL)));
        assert_eq!(began.elapsed(), Duration::ZERO, "no deadline was waited for");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_program_that_is_being_started_hears_of_it() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        let exec = ExecVm {
            vm: "web".to_owned(),
            argv: Vec::new(),
            env: Default::default(),
            cwd: None,
            tty: None,
        };
        let target = daemon.vms.exec(exec).await.expect("a target");
        world.fill();
        let error = target.open().await.err().expect("the guest cannot answer");
        assert_eq!(error.message, format!("the VM `web` is stalled: {FULL}"));
    });
}

#[test]
fn it_can_be_stopped_restarted_killed_and_deleted() {
    run(async {
        let world = World::default();
        let daemon = stalled(&world).await;
        let began = tokio::time::Instant::now();
        let vm = daemon.vms.stop("web").await.expect("stopped");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(vm.state, VmState::Stopped);
        let cause = vm.cause.expect("a cause");
        assert!(cause.contains(FULL) && cause.contains("lost"), "{cause}");
        world.make_room();
        for room in [false, true] {
            start(&daemon).await.expect("started");
            world.fill();
            if room {
                world.make_room();
            }
            let client = ClientContext::default();
            let restarted = daemon.vms.restart("web", client, true).await.expect("an operation");
            assert_eq!(outcome(restarted), Ok(VmState::Running));
            assert_eq!(web(&daemon).stalled, None);
            world.make_room();
            assert_eq!(daemon.vms.stop("web").await.expect("stopped").cause, None);
        }
        start(&daemon).await.expect("started");
        world.fill();
        let killed = daemon.vms.kill("web", KillSignal::Kill).await.expect("killed");
        assert_eq!((killed.state, killed.stalled), (VmState::Stopped, None));
        world.make_room();
        start(&daemon).await.expect("started");
        world.fill();
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        assert!(world.host().processes.is_empty() && world.host().rows.is_empty());
    });
}

#[test]
fn one_that_comes_to_stand_still_while_it_powers_off_is_cut_off() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        world.host().behaviour.ignores_power_off = true;
        let began = tokio::time::Instant::now();
        let fill = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.fill();
        };
        let (stopped, ()) = tokio::join!(daemon.vms.stop("web"), fill);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(stopped.expect("stopped").cause.is_some_and(|cause| cause.contains(FULL)));
    });
}

#[test]
fn a_full_database_keeps_no_stalled_vm_from_being_stopped() {
    let at = run(async {
        let world = World::default();
        let daemon = stalled(&world).await;
        let before = daemon.faults.calls().len();
        daemon.vms.stop("web").await.expect("stopped");
        let calls = daemon.faults.calls();
        before + calls[before..].iter().position(|call| *call == "rows.update").expect("written")
    });
    run(async {
        let world = World::default();
        let daemon = daemon(&world, Some((at, Fault::Error)));
        daemon.vms.create(wish("web"), None).await.expect("created");
        world.fill();
        let stopped = daemon.vms.stop("web").await.expect("stopped all the same");
        assert_eq!(daemon.faults.calls()[at], "rows.update");
        assert_eq!(stopped.state, VmState::Stopped);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_guest_that_stands_still_in_its_start_ends_the_start() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        daemon.vms.stop("web").await.expect("stopped");
        world.host().behaviour.never_answers = true;
        let fill = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.fill();
        };
        let (started, ()) = tokio::join!(start(&daemon), fill);
        let error = started.expect_err("there is no room");
        assert_eq!(error.message, format!("the VM `web` is stalled: {FULL}"));
        assert_eq!(web(&daemon).state, VmState::Stopped, "it is undone");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn it_is_not_stopped_for_being_idle() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        let auto_stop_after_s = Some(60);
        let set = SetVm { auto_stop_after_s, ..larger("web", 1) };
        daemon.vms.set(set).await.expect("set");
        world.fill();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(web(&daemon).state, VmState::Running);
        world.make_room();
        start(&daemon).await.expect("it goes on");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(web(&daemon).state, VmState::Stopped);
    });
}

#[test]
fn a_start_that_is_cancelled_while_it_goes_on_leaves_it_running() {
    run(async {
        let world = World::default();
        let daemon = stalled(&world).await;
        world.make_room();
        let client = ClientContext::default();
        let begun = daemon.vms.start("web", client, false).await.expect("an operation");
        let state = daemon.vms.operations().cancel(&begun.id).expect("known");
        let ended = super::super::operation::ended(state).await.expect("ended");
        assert_eq!(ended.end.and_then(|end| end.failure()), Some(Kind::Cancelled));
        assert_eq!(web(&daemon).state, VmState::Running);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}
