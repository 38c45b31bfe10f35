//! Copies of files: of which VMs and paths there are any.

use std::time::Duration;

use super::world::World;
use super::{Doom, daemon, run, wish};
use crate::process::ProcessId;
use crate::report::Kind;
use crate::vm::ledger::ResourceKind;
use crate::wire::guest::{CopyDirection, CopyFailure, CopyFiles, CopyKind, Incoming, Reply};
use crate::wire::rpc::{ClientContext, CopyVm, KillSignal, OperationEnd, VmState};

fn copy(path: &str, direction: CopyDirection) -> CopyVm {
    CopyVm { vm: "web".to_owned(), path: path.to_owned(), direction }
}

fn into(name: &str) -> CopyDirection {
    CopyDirection::In(Incoming { name: Some(name.to_owned()), kind: CopyKind::File })
}

#[test]
fn a_copy_needs_a_guest_that_runs_and_a_path() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let kind = async |wanted| match daemon.vms.copy(wanted).await {
            Ok(_) => panic!("it was not refused"),
            Err(error) => error.kind,
        };
        assert_eq!(kind(copy("notes", CopyDirection::Out)).await, Kind::NotFound);
        daemon.vms.create(wish("web"), None).await.expect("created");
        assert_eq!(kind(copy(&"x".repeat(4096), CopyDirection::Out)).await, Kind::Invalid);
        assert_eq!(kind(copy("a\0b", CopyDirection::Out)).await, Kind::Invalid);
        assert_eq!(kind(copy("notes", into(&"x".repeat(4096)))).await, Kind::Invalid);
        let target = daemon.vms.copy(copy("notes", into("mine"))).await.expect("it runs");
        target.open().await.expect("it answers");
        let asked = CopyFiles { path: "notes".to_owned(), direction: into("mine") };
        assert_eq!(world.host().copied, [asked]);
        daemon.vms.stop("web").await.expect("stopped");
        assert_eq!(kind(copy("notes", into("mine"))).await, Kind::Conflict);
    });
}

#[test]
fn a_vm_is_not_started_while_its_disk_is_read_nor_read_once_it_is_started() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let start = async || {
            let started = daemon.vms.start("web", ClientContext::default(), true).await;
            started.expect("begun").end
        };
        daemon.vms.create(wish("web"), None).await.expect("created");
        daemon.vms.stop("web").await.expect("stopped");
        let target = daemon.vms.copy(copy("notes", CopyDirection::Out)).await.expect("at rest");
        let late = daemon.vms.copy(copy("notes", CopyDirection::Out)).await.expect("at rest");
        target.open().await.expect("begun");
        match start().await {
            Some(OperationEnd::Failed { error, vm_kept: true, .. }) => {
                assert_eq!(error.kind, Kind::Conflict);
                assert!(error.message.contains("being copied"), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
        let read = std::mem::take(&mut world.host().read);
        assert_eq!(read.iter().map(|copy| copy.path.as_str()).collect::<Vec<_>>(), ["notes"]);
        assert_eq!(daemon.vms.show("web").expect("there").state, VmState::Stopped);
        // A copy that has ended, or ends in a moment, stands in nobody's way.
        let end = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(read);
        };
        let (started, ()) = tokio::join!(start(), end);
        assert!(matches!(started, Some(OperationEnd::Done { .. })), "{started:?}");
        let error = late.open().await.map(drop).expect_err("it runs by now");
        assert_eq!(error.kind, Kind::Conflict);
        match late.refusal(&error) {
            Reply::CopyFailed { reason: CopyFailure::NotNow, message } => {
                assert_eq!(message, "`web` is running by now; copy again");
            }
            other => panic!("{other:?}"),
        }
        assert!(world.host().read.is_empty() && world.host().copied.is_empty());
    });
}

#[test]
fn a_disk_is_not_read_while_a_monitor_may_write_it() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let vm = daemon.vms.create(wish("web"), None).await.expect("created").vm;
        daemon.vms.stop("web").await.expect("stopped");
        let left = ProcessId { pid: 4711, start_ticks: 7 };
        world.host().resources.insert((vm, ResourceKind::Monitor), Some(left));
        let target = daemon.vms.copy(copy("notes", CopyDirection::Out)).await.expect("at rest");
        let error = target.open().await.map(drop).expect_err("it may write");
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.hint.is_some_and(|hint| hint.contains("cove kill web")), "no way on");
        assert!(world.host().read.is_empty());
        daemon.vms.kill("web", KillSignal::Kill).await.expect("ended");
        target.open().await.expect("nobody writes");
    });
}

#[test]
fn a_vm_is_not_deleted_while_its_disk_is_read() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        daemon.vms.create(wish("web"), None).await.expect("created");
        daemon.vms.stop("web").await.expect("stopped");
        let target = daemon.vms.copy(copy("notes", CopyDirection::Out)).await.expect("at rest");
        let late = daemon.vms.copy(copy("notes", CopyDirection::Out)).await.expect("at rest");
        target.open().await.expect("begun");
        let error = daemon.vms.delete("web", Doom::WHATEVER).await.expect_err("it is read");
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.hint.is_some_and(|hint| hint.contains("end it, or wait")), "no way on");
        assert_eq!(daemon.vms.show("web").expect("there").state, VmState::Stopped);
        world.host().read.clear();
        daemon.vms.delete("web", Doom::WHATEVER).await.expect("nobody reads");
        late.open().await.map(drop).expect_err("it is gone");
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}
