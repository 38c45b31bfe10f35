//! Copies of files: of which VMs and paths there are any.

use super::world::World;
use super::{daemon, run, wish};
use crate::report::Kind;
use crate::wire::guest::{CopyDirection, CopyFiles, CopyKind, Incoming};
use crate::wire::rpc::CopyVm;

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
        assert_eq!(kind(copy("notes", CopyDirection::Out)).await, Kind::Conflict);
    });
}
