//! A VM whose workspace holds work that was not exported is not deleted, unless that is what is wanted.

use super::fault::{Fate, Fault};
use super::world::{Behaviour, World};
use super::{Daemon, daemon, run, wish};
use crate::report::{Kind, Report};
use crate::vm::ports::WorkSeen;
use crate::vm::{Doom, Doomed, Unexported};
use crate::wire::rpc::{ClientContext, CreateVm, CreateWorkspace, KillSignal, VmState};

/// As `cove delete` does.
const CAREFUL: Doom = Doom { which: Doomed::Any, work: Unexported::Keep };
/// As `cove prune` does.
const PRUNE: Doom = Doom { which: Doomed::AtRest, work: Unexported::Keep };

fn with_repository(name: &str) -> CreateVm {
    let path = "/src/repo".to_owned();
    let workspace = Some(CreateWorkspace { path, ..CreateWorkspace::default() });
    CreateVm { workspace, ..wish(name) }
}

/// A daemon with a VM that runs and has a repository in it.
async fn running(world: &World, fault: Option<(usize, Fault)>) -> Daemon {
    let daemon = daemon(world, fault);
    daemon.vms.create(with_repository("web"), None).await.ok();
    daemon
}

/// Somebody works in every VM.
fn work(world: &World) {
    let mut host = world.host();
    let vms: Vec<_> = host.rows.iter().map(|row| row.id.clone()).collect();
    let what = "`README` has changed".to_owned();
    host.work =
        vms.into_iter().map(|vm| (vm, WorkSeen::Unexported { what: what.clone() })).collect();
}

/// A refusal that says what is in danger, and what to do.
fn refused(error: &Report, what: &str, how: &str) {
    assert_eq!(error.kind, Kind::Conflict, "{error:?}");
    assert!(error.one_line().contains(what), "{error:?}");
    let hint = error.hint.as_deref().expect("a way on");
    assert!(hint.contains(how) && hint.contains("cove delete --discard-work web"), "{hint}");
}

#[test]
fn a_vm_that_runs_is_looked_at_before_it_is_deleted() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        work(&world);
        let error = daemon.vms.delete("web", CAREFUL).await.expect_err("there is work in it");
        refused(&error, "`README` has changed", "out, `cove workspace export web");
        assert_eq!(daemon.vms.show("web").expect("there").state, VmState::Running);
        world.host().work.clear();
        daemon.vms.delete("web", CAREFUL).await.expect("nothing is lost");
        daemon.vms.create(with_repository("web"), None).await.expect("created");
        work(&world);
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("it is to be discarded");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn what_was_there_at_the_stop_counts_until_the_next_start() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        work(&world);
        daemon.vms.stop("web").await.expect("stopped");
        for doom in [CAREFUL, PRUNE] {
            let error = daemon.vms.delete("web", doom).await.expect_err("there is work in it");
            refused(&error, "`README` has changed", "out, `cove workspace export web");
        }
        let start = || daemon.vms.start("web", ClientContext::default(), true);
        start().await.expect("started");
        world.host().work.clear();
        daemon.vms.stop("web").await.expect("stopped");
        // What was seen is worth nothing any more once it runs again.
        start().await.expect("started");
        daemon.vms.kill("web", KillSignal::Kill).await.expect("killed");
        let error = daemon.vms.delete("web", PRUNE).await.expect_err("nobody has looked");
        refused(&error, "is not known", "start it, then `cove workspace export web");
        start().await.expect("started");
        daemon.vms.stop("web").await.expect("stopped");
        daemon.vms.delete("web", PRUNE).await.expect("nothing is lost");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_stop_by_force_leaves_nothing_that_is_known() {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        world.behave(Behaviour { ignores_power_off: true, ..Behaviour::default() });
        daemon.vms.stop("web").await.expect("stopped");
        let error = daemon.vms.delete("web", PRUNE).await.expect_err("it has gone on working");
        refused(&error, "is not known", "start it, then `cove workspace export web");
    });
}

#[test]
fn a_machine_without_a_repository_has_no_work() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        daemon.vms.delete("web", CAREFUL).await.expect("deleted");
        assert!(!daemon.faults.calls().iter().any(|call| call.starts_with("work.")));
    });
}

#[test]
fn a_machine_whose_first_prepare_nobody_heard_of_may_have_work() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        work(&world);
        let error = daemon.vms.delete("web", CAREFUL).await.expect_err("there may be work in it");
        refused(&error, "not known whether it arrived", "`cove workspace prepare web PATH`");
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("it is to be discarded");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

/// The index of the first call of this name in a careful delete of a VM that runs.
fn call_of(name: &str) -> usize {
    run(async {
        let world = World::default();
        let daemon = running(&world, None).await;
        daemon.vms.delete("web", CAREFUL).await.expect("deleted");
        daemon.faults.calls().iter().position(|call| *call == name).expect("it is called")
    })
}

#[test]
fn whoever_wants_the_work_discarded_does_not_wait_for_a_look() {
    let at = call_of("work.look");
    run(async {
        let world = World::default();
        let daemon = running(&world, Some((at, Fault::Hang))).await;
        let began = tokio::time::Instant::now();
        let (careful, other) = tokio::join!(daemon.vms.delete("web", CAREFUL), async {
            daemon.faults.until(Fate::Hangs).await;
            daemon.vms.delete("web", Doom::WHATEVER).await
        });
        other.expect("deleted");
        refused(&careful.expect_err("given up"), "cannot see whether", "try again, or `cove");
        assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn no_failure_of_any_call_deletes_work() {
    let calls = |fault| {
        run(async {
            let world = World::default();
            let daemon = running(&world, fault).await;
            if daemon.vms.show("web").is_err() {
                // Its making failed: there was no work yet.
                return daemon.faults.calls().len();
            }
            work(&world);
            let has_workspace = |world: &World| {
                world
                    .host()
                    .rows
                    .iter()
                    .any(|row| row.name.as_str() == "web" && row.workspace.is_some())
            };
            let had = has_workspace(&world);
            daemon.vms.delete("web", CAREFUL).await.ok();
            daemon.vms.stop("web").await.ok();
            daemon.vms.delete("web", PRUNE).await.ok();
            daemon.vms.delete("web", CAREFUL).await.ok();
            assert_eq!(has_workspace(&world), had, "{fault:?}: {:?}", daemon.faults.calls());
            daemon.faults.calls().len()
        })
    };
    let count = calls(None);
    assert!(count > 20, "{count}");
    for at in 0..count {
        for fault in [Fault::Error, Fault::ErrorAfter, Fault::Hang] {
            calls(Some((at, fault)));
        }
    }
}
