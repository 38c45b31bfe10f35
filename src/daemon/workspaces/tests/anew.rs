//! Repositories that go in whole and do not arrive: what is kept of them, and what is said.

use std::io::{self, Write};

use async_trait::async_trait;

use super::super::anew::send_whole;
use super::*;
use crate::daemon::checkouts::inspection;
use crate::daemon::course::Course;
use crate::guest::{Agent, Dial};
use crate::id::{BootId, OperationId, VmId, VmName};
use crate::vm::operation::Operations;
use crate::vm::ports::{ByteStream, GuestTrees, NotTaken, PortResult, SurveyTake, TreeWrite};
use crate::wire::guest::{CopyFiles, TreeChange, TreeFailure};
use crate::wire::proof::BootKey;
use crate::wire::survey::ListedBy;

/// What becomes of a tree when the last byte of it has come.
enum Script {
    /// Somebody cancels its operation, before the guest hears that this was all.
    Cancelled(Arc<Operations>, OperationId),
    /// The guest says this of it.
    Says(TreeFailure),
}

/// A guest in which that becomes of every tree.
struct Scripted {
    guest: AgentGuest,
    script: Script,
}

#[async_trait]
impl GuestTrees for Scripted {
    async fn receive_tree(
        &self,
        path: &str,
        how: TreeChange,
        write: TreeWrite,
    ) -> Result<Vec<u8>, NotTaken> {
        match &self.script {
            Script::Cancelled(operations, operation) => {
                let (operations, operation) = (operations.clone(), operation.clone());
                let write = Box::new(move |sink: &mut dyn Write| {
                    write(&mut LastByte { sink, operations, operation })
                });
                self.guest.receive_tree(path, how, write).await
            }
            Script::Says(reason) => {
                let written = tokio::task::spawn_blocking(move || write(&mut io::sink())).await;
                written.expect("no panic").map_err(NotTaken::unheard)?;
                let report = Report::new(Kind::Failed, "it was not taken");
                Err(NotTaken { reason: *reason, report })
            }
        }
    }

    async fn survey(
        &self,
        path: &str,
        by: ListedBy,
        known: Vec<u8>,
        take: SurveyTake,
    ) -> PortResult<()> {
        self.guest.survey(path, by, known, take).await
    }

    async fn copy(&self, files: &CopyFiles) -> PortResult<Box<dyn ByteStream>> {
        self.guest.copy(files).await
    }
}

/// A sink that cancels an operation when it is flushed, as it is behind the last byte.
struct LastByte<'a> {
    sink: &'a mut dyn Write,
    operations: Arc<Operations>,
    operation: OperationId,
}

impl Write for LastByte<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()?;
        self.operations.cancel(&self.operation).map(drop).map_err(io::Error::other)
    }
}

impl Work {
    fn scripted(&self, script: Script) -> Scripted {
        Scripted { guest: self.agent(), script }
    }

    /// Sends the source to a guest that has none.
    async fn send_to(&self, guest: &dyn GuestTrees, course: &Course) -> Result<(), Report> {
        let path = self.source().to_string_lossy().into_owned();
        let wanted = CreateWorkspace { path, ..CreateWorkspace::default() };
        let inspection = inspection(&self.workspaces, &wanted).await?;
        let package = self.workspaces.pack(&inspection).await.map_err(report)?;
        send_whole(package, guest, "web", "repo", &self.kept, course).await.map(drop)
    }
}

fn is_in_the_way(error: &Report) {
    assert_eq!(error.kind, Kind::Conflict);
    let expected = "cannot put the repository at `~/repo` in `web`: something is there already";
    assert_eq!(error.one_line(), expected);
    let hint = error.hint.as_deref().expect("a way on");
    assert!(hint.contains("`cove exec web -- mv 'repo' 'repo.old'`"), "{hint}");
}

#[tokio::test]
async fn a_cancel_behind_the_last_byte_leaves_what_is_kept() {
    let work = Work::begun().await;
    let (operations, name) = (Arc::new(Operations::default()), "web".parse::<VmName>());
    let name = name.expect("valid");
    let running = operations.begin("prepare", &VmId::random(), &name, crate::vm::now());
    let guest = work.scripted(Script::Cancelled(operations, running.id.clone()));
    let error = work.send_to(&guest, &Course::of(running)).await.expect_err("cancelled");
    assert_eq!(error.kind, Kind::Cancelled, "{error:?}");
    assert!(work.kept.is_there().await, "the guest may have it");
    assert!(!work.checkout().exists());
    work.send_to(&work.agent(), &Course::default()).await.expect("nothing is in its way");
    assert_eq!(work.changes().await, []);
}

#[tokio::test]
async fn what_the_guest_says_it_has_not_is_forgotten() {
    let work = Work::begun().await;
    let send = async |reason| {
        let guest = work.scripted(Script::Says(reason));
        work.send_to(&guest, &Course::default()).await.expect_err("not taken")
    };
    for (reason, stays) in [
        (TreeFailure::Untouched, false),
        (TreeFailure::ThereAlready, false),
        (TreeFailure::Unknown, true),
    ] {
        for earlier in [false, true] {
            work.kept.forget().await;
            if earlier {
                send(TreeFailure::Unknown).await;
            }
            assert_eq!(work.kept.is_there().await, earlier);
            let error = send(reason).await;
            assert_eq!(work.kept.is_there().await, stays || earlier, "{reason:?}");
            match reason {
                TreeFailure::ThereAlready => is_in_the_way(&error),
                TreeFailure::Untouched | TreeFailure::Unknown => {
                    assert_eq!(error.message, "it was not taken");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_has_its_place_stays_and_is_told_with_what_to_do() {
    let work = Work::begun().await;
    write(&work.checkout().join("notes"), b"mine\n");
    let error = work.send_to(&work.agent(), &Course::default()).await.expect_err("refused");
    is_in_the_way(&error);
    assert!(!work.kept.is_there().await);
    assert_eq!(fs::read(work.checkout().join("notes")).expect("kept"), b"mine\n");
}

#[tokio::test]
async fn of_what_was_never_sent_nothing_is_kept() {
    let work = Work::begun().await;
    let (folder, socket) = (work.folder.path().to_owned(), "nobody.sock".to_owned());
    let dial = Dial::Unix { folder, socket };
    let nobody = AgentGuest(Agent::new(dial, BootKey::random(), BootId::random()));
    let error = work.send_to(&nobody, &Course::default()).await.expect_err("nobody is there");
    assert_eq!(error.kind, Kind::Failed, "{error:?}");
    assert!(!work.kept.is_there().await);
}
