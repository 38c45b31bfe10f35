//! Hooks in the life of a VM: when they run, what they give, and what they cannot keep from happening.

use std::time::Duration;

use super::fault::Fault;
use super::plugins::VARIABLE;
use super::world::{Plugins, World};
use super::{AT_REST, Daemon, daemon, outcome, run, running, wish};
use crate::report::Kind;
use crate::vm::{ConnectionId, Doom};
use crate::wire::rpc::{
    ClientContext, CreateVm, EventQuery, ExecVm, Happening, HookPoint, KillSignal, Operation,
    OperationEnd, SetVm, VmState,
};

async fn start(daemon: &Daemon) -> Operation {
    let started = daemon.vms.start("web", ClientContext::default(), true).await;
    started.expect("an operation")
}

/// Runs until a port has been called.
async fn called(daemon: &Daemon, call: &str) {
    while !daemon.faults.calls().contains(&call) {
        tokio::task::yield_now().await;
    }
}

fn count(daemon: &Daemon, call: &str) -> usize {
    daemon.faults.calls().iter().filter(|made| **made == call).count()
}

/// The points at which a hook was said to have failed.
fn failures(daemon: &Daemon) -> Vec<HookPoint> {
    let events = daemon.vms.events().list(&EventQuery::default()).events;
    let failed = events.into_iter().filter_map(|event| match event.what {
        Happening::HookFailed { vm_name, plugin, hook, message, .. } => {
            let told = (vm_name.as_str(), plugin.as_str(), message.as_str());
            assert_eq!(told, ("web", "watcher", "it broke"));
            Some(hook)
        }
        Happening::VmCreated { .. }
        | Happening::VmState { .. }
        | Happening::VmStalled { .. }
        | Happening::VmWentOn { .. }
        | Happening::VmDeleted { .. }
        | Happening::OperationBegan { .. }
        | Happening::OperationEnded { .. }
        | Happening::HookInstalled { .. }
        | Happening::HookGranted { .. }
        | Happening::HookRevoked { .. }
        | Happening::HookRemoved { .. }
        | Happening::HookSwitchedOff { .. }
        | Happening::HookSwitchedOn { .. }
        | Happening::Lagged { .. } => None,
    });
    failed.collect()
}

/// A variable of the environment that a command gets.
async fn variable(world: &World, daemon: &Daemon, name: &str) -> Option<String> {
    let exec = ExecVm {
        vm: "web".to_owned(),
        argv: vec!["env".to_owned()],
        env: std::collections::BTreeMap::new(),
        cwd: None,
        tty: None,
    };
    drop(daemon.vms.exec(exec).await.expect("it runs").open().await.expect("it answers"));
    let command = world.host().commands.pop().expect("it was run");
    command.env.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

#[test]
fn a_refusal_comes_before_anything_is_made() {
    run(async {
        let world = World::default();
        world.plug(Plugins::Fail(HookPoint::Preflight));
        let daemon = daemon(&world, None);
        let refused = daemon.vms.create(wish("web"), None).await.expect_err("refused");
        assert_eq!(refused.message, "the plugin `watcher` says no");
        assert!(daemon.vms.events().list(&EventQuery::default()).events.is_empty());
        let plan = daemon.vms.plan(&wish("web")).await.expect_err("asked here, too");
        assert_eq!(plan.message, refused.message);
        // One that is not to be started is made; only its start is refused.
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("made");
        assert!(outcome(start(&daemon).await).expect_err("refused").contains("says no"));
        assert_eq!(daemon.vms.show("web").expect("there").state, VmState::Created);
        assert_eq!(
            (count(&daemon, "machines.start"), count(&daemon, "hooks.configure_machine")),
            (0, 0)
        );
    });
}

#[test]
fn a_first_start_does_not_ask_plugins_twice() {
    run(async {
        let daemon = running(&World::default()).await;
        assert_eq!(count(&daemon, "hooks.preflight"), 1);
        daemon.vms.stop("web").await.expect("stopped");
        start(&daemon).await;
        assert_eq!(count(&daemon, "hooks.preflight"), 2);
    });
}

#[test]
fn every_boot_gets_what_plugins_give_it_below_what_its_maker_said() {
    run(async {
        let world = World::default();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        world.host().labels = [label("from", "plugin"), label("mine", "plugin")].into();
        let first = daemon(&world, None);
        let create = CreateVm {
            env: [label("OWN", "mine")].into(),
            labels: [label("mine", "mine")].into(),
            ..wish("web")
        };
        first.vms.create(create, None).await.expect("created");
        let own = [label("mine", "mine")].into();
        let both = [label("from", "plugin"), label("mine", "mine")].into();
        assert_eq!(variable(&world, &first, "OWN").await.as_deref(), Some("mine"));
        assert_eq!(variable(&world, &first, VARIABLE).await.as_deref(), Some("1"));
        assert_eq!(first.vms.show("web").expect("there").labels, both);
        first.tasks.drain(Duration::from_secs(100)).await;

        let next = daemon(&world, None);
        next.vms.recover().await.expect("recovers");
        assert_eq!(variable(&world, &next, VARIABLE).await.as_deref(), Some("1"), "the same boot");
        assert_eq!(next.vms.show("web").expect("there").labels, both);
        next.vms.restart("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(variable(&world, &next, VARIABLE).await.as_deref(), Some("2"), "another boot");
        let stopped = next.vms.stop("web").await.expect("stopped");
        assert_eq!(stopped.labels, own, "nothing of a boot is left");
    });
}

#[test]
fn plugins_cannot_give_what_a_user_cannot() {
    run(async {
        let world = World::default();
        world.host().labels = [("long".to_owned(), "x".repeat(300))].into();
        let daemon = daemon(&world, None);
        let created = daemon.vms.create(wish("web"), None).await.expect("an operation");
        let error = outcome(created).expect_err("refused");
        assert!(error.contains("plugins ask for what a VM cannot have: `long`"), "{error}");
        assert!(world.host().rows.is_empty());
    });
}

#[test]
fn soft_failures_are_notes_and_events_and_stop_nothing() {
    run(async {
        let world = World::default();
        world.plug(Plugins::FailSoftly);
        let daemon = daemon(&world, None);
        let created = daemon.vms.create(wish("web"), None).await.expect("an operation");
        assert_eq!(created.notes, ["watcher: it broke"; 4]);
        let stages: Vec<_> = created.stages.iter().map(|stage| stage.name.as_str()).collect();
        for stage in ["preflight", "configure-machine", "post-start"] {
            assert!(stages.contains(&format!("hook watcher {stage}").as_str()), "{stages:?}");
        }
        assert!(stages.contains(&"hook watcher"), "{stages:?}");
        assert_eq!(outcome(created), Ok(VmState::Running));
        let restarted = daemon.vms.restart("web", ClientContext::default(), true).await;
        assert_eq!(restarted.expect("an operation").notes, ["watcher: it broke"; 5]);
        daemon.vms.stop("web").await.expect("stopped");
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        use HookPoint::{
            Cleanup, ConfigureMachine, PostStart, PreStop, Preflight, PrepareWorkDisk,
        };
        let start = [Preflight, ConfigureMachine, PrepareWorkDisk, PostStart];
        let all = [&start[..], &[PreStop], &start, &[PreStop, Cleanup]].concat();
        assert_eq!(failures(&daemon), all);
    });
}

#[test]
fn a_failure_after_the_start_undoes_it() {
    run(async {
        let world = World::default();
        world.plug(Plugins::Fail(HookPoint::PostStart));
        let first = daemon(&world, None);
        let created = first.vms.create(wish("web"), None).await.expect("an operation");
        let Some(OperationEnd::Failed { error, vm_kept, .. }) = created.end else {
            panic!("a hook failed")
        };
        assert_eq!((error.kind, vm_kept), (Kind::Refused, false));
        assert_eq!(count(&first, "hooks.cleanup"), 1);
        assert!(world.host().rows.is_empty() && world.host().folders.is_empty());

        world.plug(Plugins::Fine);
        let daemon = running(&world).await;
        daemon.vms.stop("web").await.expect("stopped");
        world.plug(Plugins::Fail(HookPoint::PostStart));
        outcome(start(&daemon).await).expect_err("a hook failed");
        assert_eq!(daemon.vms.show("web").expect("kept").state, VmState::Stopped);
        assert_eq!((world.monitors(), count(&daemon, "hooks.cleanup")), (Vec::new(), 0));
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_hook_that_hangs_after_the_start_is_cut_short_by_whoever_gives_up() {
    for cancel in [true, false] {
        run(async {
            let world = World::default();
            world.plug(Plugins::Hang(HookPoint::PostStart));
            let daemon = daemon(&world, None);
            let create = CreateVm { wait: false, ..wish("web") };
            let began = daemon.vms.create(create, None).await.expect("an operation");
            called(&daemon, "hooks.post_start").await;
            let now = tokio::time::Instant::now();
            if cancel {
                let state = daemon.vms.operations().cancel(&began.id).expect("known");
                super::super::operation::ended(state).await.expect("ended");
            } else {
                daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
            }
            assert!(now.elapsed() < Duration::from_secs(1), "{:?}", now.elapsed());
            assert!(world.host().rows.is_empty() && world.host().processes.is_empty());
        });
    }
}

#[test]
fn graceful_stops_tell_plugins_before_and_others_do_not() {
    run(async {
        let daemon = running(&World::default()).await;
        daemon.vms.stop("web").await.expect("stopped");
        let calls = daemon.faults.calls();
        let at = |call: &str| calls.iter().position(|made| *made == call);
        assert!(at("hooks.pre_stop").is_some() && at("hooks.pre_stop") < at("guest.power_off"));
        start(&daemon).await;
        daemon.vms.restart("web", ClientContext::default(), true).await.expect("an operation");
        assert_eq!(count(&daemon, "hooks.pre_stop"), 2);
        let set = SetVm { vm: "web".to_owned(), auto_stop_after_s: Some(60), ..SetVm::default() };
        daemon.vms.set(set).await.expect("set");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!((daemon.vms.show("web").expect("there").state), VmState::Stopped);
        assert_eq!(count(&daemon, "hooks.pre_stop"), 3, "nobody used it");

        daemon.vms.stop("web").await.expect("it rests");
        for signal in [KillSignal::Term, KillSignal::Kill] {
            start(&daemon).await;
            daemon.vms.kill("web", signal).await.expect("killed");
        }
        start(&daemon).await;
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        assert_eq!(count(&daemon, "hooks.pre_stop"), 3);
    });
}

#[test]
fn no_hook_is_in_the_way_of_a_stop() {
    for plugins in [Plugins::Hang(HookPoint::PreStop), Plugins::Fail(HookPoint::PreStop)] {
        run(async {
            let world = World::default();
            let daemon = running(&world).await;
            world.plug(plugins);
            let began = tokio::time::Instant::now();
            let stopped = daemon.vms.stop("web").await.expect("stopped");
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            assert_eq!((stopped.state, stopped.cause), (VmState::Stopped, None));
            assert_eq!(count(&daemon, "guest.power_off"), 1, "it stops gracefully all the same");
        });
    }
}

#[test]
fn a_kill_or_a_delete_waits_for_no_hook_before_a_stop() {
    for delete in [true, false] {
        run(async {
            let world = World::default();
            let daemon = running(&world).await;
            world.plug(Plugins::Hang(HookPoint::PreStop));
            let began = tokio::time::Instant::now();
            let end = async {
                called(&daemon, "hooks.pre_stop").await;
                match delete {
                    true => daemon.vms.delete("web", Doom::WHATEVER).await.map(drop),
                    false => daemon.vms.kill("web", KillSignal::Kill).await.map(drop),
                }
            };
            let (stopped, ended) = tokio::join!(daemon.vms.stop("web"), end);
            ended.expect("ended");
            stopped.expect("stopped by that");
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            assert_eq!(world.monitors(), []);
            assert_eq!(world.complaints(), Vec::<String>::new());
        });
    }
}

#[test]
fn whatever_way_a_vm_goes_plugins_are_told() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        assert_eq!(count(&daemon, "hooks.cleanup"), 1);
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("made");
        daemon.vms.delete("web", AT_REST).await.expect("pruned");
        assert_eq!(count(&daemon, "hooks.cleanup"), 2, "one that never ran, too");
        let connection = ConnectionId(1);
        daemon.vms.connection_opened(connection);
        let leased = CreateVm { lease: true, ..wish("web") };
        daemon.vms.create(leased, Some(connection)).await.expect("created");
        daemon.vms.connection_closed(connection);
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(count(&daemon, "hooks.cleanup"), 3);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_that_dies_before_the_row_is_gone_has_plugins_told_again() {
    let at = run(async {
        let daemon = running(&World::default()).await;
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
        daemon.faults.calls().iter().position(|call| *call == "rows.remove").expect("called")
    });
    let world = World::default();
    run(async {
        let daemon = daemon(&world, Some((at, Fault::DieBefore)));
        daemon.vms.create(wish("web"), None).await.expect("created");
        tokio::select! {
            deleted = daemon.vms.delete("web", Doom::WHATEVER) => panic!("the daemon lived: {deleted:?}"),
            () = daemon.faults.until(super::fault::Fate::Dead) => {}
        }
        assert_eq!(count(&daemon, "hooks.cleanup"), 1);
    });
    run(async {
        let daemon = daemon(&world, None);
        daemon.vms.recover().await.expect("recovers");
        assert_eq!((count(&daemon, "hooks.cleanup"), world.host().rows.len()), (1, 0));
    });
}

#[test]
fn no_hook_is_in_the_way_of_a_delete() {
    for plugins in [Plugins::Hang(HookPoint::Cleanup), Plugins::Fail(HookPoint::Cleanup)] {
        run(async {
            let world = World::default();
            let daemon = running(&world).await;
            world.plug(plugins);
            let began = tokio::time::Instant::now();
            daemon.vms.delete("web", Doom::WHATEVER).await.expect("deleted");
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            assert!(world.host().rows.is_empty() && world.host().folders.is_empty());
        });
    }
}

#[test]
fn a_plan_shows_wishes_and_plugins_do_not_get_to_know_of_it() {
    run(async {
        let world = World::default();
        world.plug(Plugins::FailSoftly);
        let daemon = daemon(&world, None);
        let plan = daemon.vms.plan(&wish("web")).await.expect("planned");
        assert_eq!(plan.notes, ["watcher: it broke"]);
        let [hook] = plan.hooks.as_slice() else { panic!("one plugin: {:?}", plan.hooks) };
        let wishes: Vec<_> = hook.wishes.iter().map(|wish| wish.name.as_str()).collect();
        assert_eq!((wishes, hook.log.len()), (vec![VARIABLE, "OWN"], 2));
        assert!(world.host().introduced.is_empty() && failures(&daemon).is_empty());
    });
}
