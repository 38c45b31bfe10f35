//! Repositories that go into a VM that runs: what its row says, and what ends that early.

use tokio::sync::oneshot;

use super::world::World;
use super::{Daemon, daemon, outcome, run, running, wish};
use crate::report::{Kind, Report};
use crate::vm::{Doom, Prepare};
use crate::wire::rpc::{CreateVm, Operation, OperationEnd, VmState, VmWorkspace, WorkspaceMode};

fn workspace(commit: &str) -> VmWorkspace {
    VmWorkspace {
        guest_path: "/root/repo".to_owned(),
        source_path: "/src/repo".to_owned(),
        base_commit: Some(commit.to_owned()),
        mode: WorkspaceMode::Shallow,
    }
}

/// Work that is done at once.
fn done(commit: &'static str) -> Prepare {
    Box::new(move |vm| Box::pin(async move { vm.prepared(workspace(commit)).await }))
}

/// Work that goes on until it is given up, and says when it has begun.
fn endless(begun: oneshot::Sender<()>) -> Prepare {
    Box::new(move |vm| {
        Box::pin(async move {
            begun.send(()).ok();
            vm.unless_given_up(std::future::pending()).await
        })
    })
}

fn shown(daemon: &Daemon) -> Option<VmWorkspace> {
    daemon.vms.show("web").expect("there").workspace
}

fn failure(operation: Operation) -> Report {
    match operation.end.expect("it was waited for") {
        OperationEnd::Failed { error, vm_kept: true, console_saved: None } => error,
        other => panic!("{other:?}"),
    }
}

/// Begins a prepare that does not end by itself.
async fn begun(daemon: &Daemon) -> Operation {
    let (begun, waits) = oneshot::channel();
    let operation = daemon.vms.prepare("web", false, endless(begun)).await.expect("begun");
    assert!(operation.end.is_none() && operation.action == "prepare", "{operation:?}");
    waits.await.expect("it has begun");
    operation
}

async fn ended(daemon: &Daemon, operation: &Operation) -> Operation {
    let state = daemon.vms.operations().watch(&operation.id).expect("kept");
    crate::vm::operation::ended(state).await.expect("it ends")
}

#[test]
fn the_row_says_what_is_in_it_and_a_daemon_that_comes_back_knows() {
    run(async {
        let world = World::default();
        let first = running(&world).await;
        assert_eq!(shown(&first), None);
        for commit in ["one", "two"] {
            let prepared = first.vms.prepare("web", true, done(commit)).await.expect("ended");
            assert_eq!(outcome(prepared), Ok(VmState::Running));
            assert_eq!(shown(&first), Some(workspace(commit)));
        }
        assert_eq!(world.complaints(), Vec::<String>::new());
        let second = daemon(&world, None);
        second.vms.recover().await.expect("recovers");
        assert_eq!(shown(&second), Some(workspace("two")));
    });
}

#[test]
fn a_cancel_a_stop_and_a_delete_end_it_and_the_row_stays() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        let operation = begun(&daemon).await;
        daemon.vms.operations().cancel(&operation.id).expect("kept");
        let error = failure(ended(&daemon, &operation).await);
        assert_eq!((error.kind, error.operation.as_ref()), (Kind::Cancelled, Some(&operation.id)));

        let operation = begun(&daemon).await;
        daemon.vms.stop("web").await.expect("a stop does not wait for it");
        assert_eq!(failure(ended(&daemon, &operation).await).kind, Kind::Conflict);
        assert_eq!(shown(&daemon), None);

        let client = crate::wire::rpc::ClientContext::default();
        daemon.vms.start("web", client, true).await.expect("started");
        let operation = begun(&daemon).await;
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("nor does a delete");
        assert_eq!(failure(ended(&daemon, &operation).await).kind, Kind::Conflict);
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_machine_that_does_not_run_is_refused_at_once() {
    run(async {
        let daemon = daemon(&World::default(), None);
        let refused = async || daemon.vms.prepare("web", true, done("x")).await.err();
        assert_eq!(refused().await.expect("refused").kind, Kind::NotFound);
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("made");
        assert_eq!(refused().await.expect("refused").kind, Kind::Conflict);
        assert_eq!(shown(&daemon), None);
    });
}

#[test]
fn work_that_breaks_off_ends_its_operation() {
    run(async {
        let world = World::default();
        let daemon = running(&world).await;
        let breaks: Prepare =
            Box::new(|_| Box::pin(async { Err(Report::new(Kind::Failed, "no luck")) }));
        let error = failure(daemon.vms.prepare("web", true, breaks).await.expect("ended"));
        assert_eq!(error.message, "no luck");
        assert_eq!(shown(&daemon), None);
    });
}
