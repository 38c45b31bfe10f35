//! Restarts and signals: what they leave, and what cuts them short.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::fault::Fault;
use super::world::{Behaviour, Plugins, World};
use super::{Daemon, daemon, outcome, run, running, wish};
use crate::id::BootId;
use crate::report::Kind;
use crate::vm::Doom;
use crate::wire::rpc::{ClientContext, CreateVm, KillSignal, Operation, OperationEnd, VmState};

fn boot_id(daemon: &Daemon) -> Option<BootId> {
    daemon.vms.show("web").expect("there").boot_id
}

async fn restart(daemon: &Daemon) -> Operation {
    let restarted = daemon.vms.restart("web", ClientContext::default(), true).await;
    restarted.expect("an operation")
}

#[test]
fn a_restart_is_one_operation_and_another_boot() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        let first = boot_id(&daemon).expect("it runs");
        let operation = restart(&daemon).await;
        assert_eq!(operation.action, "restart");
        let stages: Vec<_> = operation.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(stages[0], "stop", "{stages:?}");
        assert!(stages.contains(&"boot"), "{stages:?}");
        assert_eq!(outcome(operation), Ok(VmState::Running));
        assert_ne!(boot_id(&daemon), Some(first));
        assert_eq!(world.monitors().len(), 1);
        assert_eq!(world.complaints(), Vec::<String>::new());
        // One that rests is started.
        daemon.vms.stop("web").await.expect("stopped");
        assert_eq!(outcome(restart(&daemon).await), Ok(VmState::Running));
    });
}

#[test]
fn a_restart_whose_start_fails_leaves_it_stopped() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        world.plug(Plugins::BROKEN);
        match restart(&daemon).await.end.expect("it was waited for") {
            OperationEnd::Failed { error, vm_kept, .. } => {
                assert_eq!((error.kind, vm_kept), (Kind::Refused, true));
                assert!(error.operation.is_some());
            }
            OperationEnd::Done { vm } => panic!("a hook failed: {vm:?}"),
        }
        assert_eq!(daemon.vms.show("web").expect("there").state, VmState::Stopped);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_restart_that_is_cancelled_in_its_stop_does_not_start() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        world.behave(Behaviour { ignores_power_off: true, ..Behaviour::default() });
        let client = ClientContext::default();
        let begun = daemon.vms.restart("web", client, false).await.expect("an operation");
        let state = daemon.vms.operations().cancel(&begun.id).expect("known");
        let ended = super::super::operation::ended(state).await.expect("ended");
        assert_eq!(ended.end.and_then(|end| end.failure()), Some(Kind::Cancelled));
        assert_eq!(daemon.vms.show("web").expect("there").state, VmState::Stopped);
        assert_eq!(world.monitors(), []);
    });
}

#[test]
fn a_delete_cuts_a_restart_short() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        world.behave(Behaviour { ignores_power_off: true, ..Behaviour::default() });
        let began = tokio::time::Instant::now();
        let client = ClientContext::default();
        let (restarted, deleted) = tokio::join!(
            daemon.vms.restart("web", client, true),
            daemon.vms.delete("web", Doom::WHATEVER)
        );
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        deleted.expect("deleted");
        let end = restarted.expect("an operation").end.expect("ended");
        assert_eq!(end.failure(), Some(Kind::Cancelled));
        assert!(world.host().rows.is_empty() && world.host().processes.is_empty());
    });
}

#[test]
fn a_restart_of_what_is_being_started_is_refused() {
    run(async {
        let world = World::default();
        world.behave(Behaviour { never_answers: true, ..Behaviour::default() });
        let daemon = daemon(&world, None);
        let create = CreateVm { wait: false, ..wish("web") };
        daemon.vms.create(create, None).await.expect("an operation");
        while !daemon.faults.calls().contains(&"guest.wait_answering") {
            tokio::task::yield_now().await;
        }
        let client = ClientContext::default();
        let refused = daemon.vms.restart("web", client, true).await.expect_err("refused");
        let text = "`web`: the VM is being started, so it cannot be restarted";
        assert_eq!((refused.kind, refused.message.as_str()), (Kind::Conflict, text));
    });
}

#[test]
fn a_frozen_machine_goes_on_running_and_can_be_ended() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        let monitor = world.monitors()[0];
        for signal in [KillSignal::Stop, KillSignal::Cont] {
            let vm = daemon.vms.kill("web", signal).await.expect("signalled");
            assert_eq!(vm.state, VmState::Running);
        }
        let signals = [(monitor, Signal::SIGSTOP), (monitor, Signal::SIGCONT)];
        assert_eq!(world.host().signals, signals);
        let vm = daemon.vms.kill("web", KillSignal::Term).await.expect("ended");
        assert_eq!((vm.state, vm.cause), (VmState::Stopped, None), "it was asked for");
        assert_eq!(world.complaints(), Vec::<String>::new());
        let refused = daemon.vms.kill("web", KillSignal::Stop).await.expect_err("refused");
        assert_eq!(refused.kind, Kind::Conflict);
        daemon.vms.kill("web", KillSignal::Term).await.expect("there is nothing left to end");
    });
}

#[test]
fn a_monitor_that_does_not_end_in_order_is_cut_off() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        world.behave(Behaviour { ignores_signals: true, ..Behaviour::default() });
        let began = tokio::time::Instant::now();
        daemon.vms.kill("web", KillSignal::Int).await.expect("ended");
        assert!((10..12).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        assert_eq!(world.monitors(), []);
        // Another kill ends that wait.
        daemon.vms.start("web", ClientContext::default(), true).await.expect("an operation");
        let began = tokio::time::Instant::now();
        let (one, two) = tokio::join!(
            daemon.vms.kill("web", KillSignal::Term),
            daemon.vms.kill("web", KillSignal::Kill)
        );
        one.and(two).expect("both ended it");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn a_signal_that_cannot_be_sent_is_followed_by_a_cut_off() {
    let at = {
        let world = World::default();
        run(async {
            let daemon = running(&world).await;
            daemon.vms.kill("web", KillSignal::Term).await.expect("ended");
            let calls = daemon.faults.calls();
            calls.iter().position(|call| *call == "processes.signal").expect("it is called")
        })
    };
    run(async {
        let world = World::default();
        let daemon = daemon(&world, Some((at, Fault::Error)));
        daemon.vms.create(wish("web"), None).await.expect("created");
        let vm = daemon.vms.kill("web", KillSignal::Term).await.expect("ended all the same");
        assert_eq!(vm.state, VmState::Stopped);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}
