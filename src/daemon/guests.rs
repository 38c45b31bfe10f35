//! Connections to guests, for the VM service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::guest::{Agent, Dial, GuestError, Proven};
use crate::id::{BootId, ExecId};
use crate::report::Report;
use crate::task::Tasks;
use crate::vm::plan::WorkDiskPlan;
use crate::vm::ports::{
    ByteStream, Guest, GuestDetached, GuestSystem, GuestTrees, Guests, NotTaken, PortResult,
    SurveyTake, TreeWrite,
};
use crate::vm::state::VsockAddress;
use crate::wire::guest::{
    CopyFiles, Detach, DetachOutcome, DetachedPrograms, Exec, GuestStats, Health, Listening,
    ReceiveTree, Setup, TreeChange, TreeFailure,
};
use crate::wire::proof::BootKey;
use crate::wire::survey::ListedBy;

/// Makes connections to agents. Those that can be used again are shared by all guests of a boot.
pub(super) struct Agents {
    proven: Proven,
}

impl Agents {
    /// What goes on in the background goes on in `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { proven: Proven::new(tasks) }
    }
}

impl Guests for Agents {
    fn guest(
        &self,
        folder: &Path,
        vsock: &VsockAddress,
        key: BootKey,
        boot: &BootId,
    ) -> Arc<dyn Guest> {
        let dial = match vsock {
            VsockAddress::Socket { name } => {
                Dial::Unix { folder: folder.to_owned(), socket: name.clone() }
            }
            VsockAddress::Context { cid } => Dial::Vsock { cid: *cid },
        };
        Arc::new(AgentGuest(Agent::sharing(dial, key, boot.clone(), self.proven.clone())))
    }
}

pub(super) struct AgentGuest(pub(super) Agent);

fn report(error: GuestError) -> Report {
    Report::of(&error)
}

/// What is known of a tree whose sending has failed: as much as the agent has said.
fn not_taken(error: GuestError) -> NotTaken {
    let reason = match &error {
        GuestError::NotTaken { reason, .. } => *reason,
        GuestError::NotAnswering { .. }
        | GuestError::Connect(_)
        | GuestError::AnotherMachine
        | GuestError::Version { .. }
        | GuestError::Connection(_)
        | GuestError::TimedOut { .. }
        | GuestError::Failed { .. }
        | GuestError::Content { .. } => TreeFailure::Unknown,
    };
    NotTaken { reason, report: report(error) }
}

#[async_trait]
impl GuestSystem for AgentGuest {
    async fn stats(&self) -> PortResult<GuestStats> {
        self.0.stats().await.map_err(report)
    }

    async fn listening(&self) -> PortResult<Listening> {
        self.0.listening().await.map_err(report)
    }

    async fn grow_work_disk(&self, bytes: u64) -> PortResult<()> {
        self.0.grow_work_disk(bytes).await.map_err(report)
    }

    async fn set_clock(&self) -> PortResult<()> {
        self.0.set_clock().await.map_err(report)
    }
}

#[async_trait]
impl GuestDetached for AgentGuest {
    async fn detach(&self, detach: Detach) -> PortResult<DetachOutcome> {
        self.0.detach(detach).await.map_err(report)
    }

    async fn attach(&self, id: &ExecId) -> PortResult<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.attach(id).await.map_err(report)?))
    }

    async fn detached(&self) -> PortResult<DetachedPrograms> {
        self.0.detached().await.map_err(report)
    }
}

#[async_trait]
impl Guest for AgentGuest {
    async fn wait_answering(&self, deadline: Duration) -> PortResult<Health> {
        self.0.wait_answering(deadline).await.map_err(report)
    }

    async fn health(&self) -> PortResult<Health> {
        self.0.health().await.map_err(report)
    }

    async fn set_up(&self, setup: Setup, plan: WorkDiskPlan) -> PortResult<()> {
        self.0.set_up(setup, plan).await.map_err(report)
    }

    async fn exec(&self, exec: &Exec) -> PortResult<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.exec(exec).await.map_err(report)?))
    }

    async fn connect(&self, port: u16) -> PortResult<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.connect(port).await.map_err(report)?))
    }

    async fn power_off(&self) -> PortResult<()> {
        self.0.power_off().await.map_err(report)
    }
}

#[async_trait]
impl GuestTrees for AgentGuest {
    async fn receive_tree(
        &self,
        path: &str,
        how: TreeChange,
        write: TreeWrite,
    ) -> Result<Vec<u8>, NotTaken> {
        let request = ReceiveTree { path: path.to_owned(), how };
        let sink = self.0.receive_tree(request).await;
        let sink = sink.map_err(|error| NotTaken::unsent(report(error)))?;
        let runtime = Handle::current();
        let sent = tokio::task::spawn_blocking(move || {
            let mut writer = sink.into_blocking(runtime);
            match write(&mut writer) {
                Ok(()) => writer.finish().map_err(not_taken),
                // A write that failed failed because of the guest: its reason is the better one.
                Err(failure) => {
                    let failed = writer.into_failure();
                    Err(failed.map_or_else(|| NotTaken::unheard(failure), not_taken))
                }
            }
        });
        sent.await.expect("sending a tree does not panic")
    }

    async fn survey(
        &self,
        path: &str,
        by: ListedBy,
        known: Vec<u8>,
        take: SurveyTake,
    ) -> PortResult<()> {
        let survey = self.0.survey(path, by, known).await.map_err(report)?;
        let runtime = Handle::current();
        let taken = tokio::task::spawn_blocking(move || {
            let mut contents = survey.contents.into_blocking(runtime);
            let taken = take(&survey.records, &mut contents);
            // A read that failed failed because of the guest: its reason is the better one.
            taken.map_err(|failure| contents.into_failure().map_or(failure, report))
        });
        taken.await.expect("taking a tree does not panic")
    }

    async fn copy(&self, files: &CopyFiles) -> PortResult<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.copy(files).await.map_err(report)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_word_says_that_nothing_of_a_tree_is_there() {
        let said = |reason| GuestError::not_taken(reason, "unpack `~/song`", "no luck");
        for (error, nowhere) in [
            (said(TreeFailure::Untouched), true),
            (said(TreeFailure::ThereAlready), true),
            (said(TreeFailure::Unknown), false),
            (GuestError::failed("unpack `~/song`", "something is there already"), false),
            (GuestError::Connection(std::io::ErrorKind::UnexpectedEof.into()), false),
            (GuestError::TimedOut { doing: "unpack the tree", deadline: Duration::ZERO }, false),
        ] {
            let not_taken = not_taken(error);
            assert_eq!(not_taken.is_nowhere(), nowhere, "{not_taken:?}");
        }
    }
}
