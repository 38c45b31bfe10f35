//! Work in a VM's workspace, which must not be lost with the VM.
//!
//! A VM that runs is looked at when it is to be deleted. One that is to stop is looked at for the last time, and
//! when it then powers off by itself, what was seen counts until it runs again. One that ended otherwise counts
//! as having work. Programs of the guest run on while it is looked at: what they write in the moment between
//! the look and the end is not seen.

use std::time::Duration;

use super::owner::Owner;
use super::ports::{Guest, LastSeen, PortResult, Stall, WorkSeen, WorkspaceOf};
use super::state::{Boot, State};
use super::workspace::KEPT;
use crate::report::{Kind, Report};

/// How long a look may take; a first one reads every file of the workspace in the guest.
const LOOK: Duration = Duration::from_secs(120);

impl Owner {
    /// Looks at the workspace of a guest that is about to be powered off. When that cannot be done, the VM counts
    /// as having work; it is stopped all the same.
    pub(super) async fn last_look(&self, boot: &Boot, stall: Option<Stall>) -> Option<LastSeen> {
        let workspace = WorkspaceOf::of(&self.record, &self.folder)?;
        let (None, Some(guest)) = (stall, self.shared.ports.guest_of(&self.folder, boot)) else {
            return None;
        };
        let work = self.shared.ports.work.clone();
        let stillness = self.shared.stillness(&self.record);
        let look = self.bounded(stillness.unless(work.last_look(&workspace, &*guest))).await;
        look.unwrap_or_else(|error| {
            self.not_known(&error);
            None
        })
    }

    /// Keeps what a last look has seen, as the guest has powered off by itself after it.
    pub(super) async fn leaves(&self, seen: &LastSeen) {
        let Some(workspace) = WorkspaceOf::of(&self.record, &self.folder) else { return };
        if let Err(error) = self.shared.ports.work.leaves(&workspace, seen).await {
            self.not_known(&error);
        }
    }

    fn not_known(&self, error: &Report) {
        let (vm, error) = (&self.record.id, error.one_line());
        tracing::warn!(%vm, error, "what is in the workspace is not known");
    }

    /// Whether nothing is lost in the workspace when the VM goes.
    pub(super) async fn check_work(&self) -> Result<(), Report> {
        let Some(workspace) = WorkspaceOf::of(&self.record, &self.folder) else {
            return self.check_unheard().await;
        };
        let seen = match &self.record.state {
            State::Running { boot } => match self.shared.ports.guest_of(&self.folder, boot) {
                Some(guest) => self.look(&workspace, &*guest).await,
                None => Ok(WorkSeen::Unknown),
            },
            State::Making
            | State::Created
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Stopped { .. }
            | State::Error { .. } => self.shared.ports.work.left(&workspace).await,
            // It was said before that nothing of it is to be kept.
            State::Deleting => return Ok(()),
        };
        let name = &self.record.name;
        let (report, export) = match seen {
            Ok(WorkSeen::Safe) => return Ok(()),
            Ok(WorkSeen::Unexported { what }) => {
                let message = format!("`{name}` has work that was not exported: {what}");
                (Report::new(Kind::Conflict, message), "")
            }
            Ok(WorkSeen::Unknown) => {
                let message = format!(
                    "`{name}` may have work that was not exported: what it held when it ended is not known"
                );
                let start = "start it, then ";
                (Report::new(Kind::Conflict, message), start)
            }
            Err(error) => {
                let message = format!("cannot see whether `{name}` has work that was not exported");
                let mut report = Report::new(Kind::Conflict, message);
                report.cause.push(error.one_line());
                (report, "try again, or ")
            }
        };
        Err(report.with_hint(format!(
            "nothing was deleted. To take its work out, {export}`cove workspace export {name} --output FILE`; to \
             delete it with all work, `cove delete --discard-work {name}`"
        )))
    }

    /// Whether nothing may be lost in a VM whose row says that no repository went in: one may have, when a first
    /// prepare was cut off and nobody heard how it ended.
    async fn check_unheard(&self) -> Result<(), Report> {
        let on_its_way = self.shared.ports.work.is_kept(&self.folder.join(KEPT)).await;
        if !on_its_way || matches!(self.record.state, State::Deleting) {
            return Ok(());
        }
        let name = &self.record.name;
        let message = format!(
            "`{name}` may have work that was not exported: a repository was on its way in, and it is not known \
             whether it arrived"
        );
        Err(Report::new(Kind::Conflict, message).with_hint(format!(
            "nothing was deleted. While it runs, `cove workspace prepare {name} PATH` with that repository finds out; \
             to delete it with all work, `cove delete --discard-work {name}`"
        )))
    }

    async fn look(&self, workspace: &WorkspaceOf, guest: &dyn Guest) -> PortResult<WorkSeen> {
        let work = self.shared.ports.work.clone();
        let stillness = self.shared.stillness(&self.record);
        self.bounded(stillness.unless(work.look(workspace, guest))).await
    }

    /// A look that ends in time, and when the VM is killed or deleted with all work.
    async fn bounded<T>(&self, look: impl Future<Output = PortResult<T>>) -> PortResult<T> {
        let mut interrupts = self.interrupts.clone();
        // What is dropped here is a look: it has changed nothing that another does not begin with.
        tokio::select! {
            seen = tokio::time::timeout(LOOK, look) => seen.unwrap_or_else(|_| {
                let message = format!("looking at the workspace took longer than {} s", LOOK.as_secs());
                Err(Report::new(Kind::TimedOut, message))
            }),
            _ = interrupts.wait_for(|count| *count > 0) => {
                Err(Report::new(Kind::Cancelled, "the VM is being killed or deleted"))
            }
        }
    }
}
