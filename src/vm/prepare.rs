//! Putting a repository into a VM that runs: an operation beside the VM's owner, so that nobody waits for it.
//!
//! ```text
//!  service ──▶ task of its own ──▶ work (the composition root's) ──▶ owner: the row has the workspace ──▶ end
//! ```
//!
//! The row is written once everything is in the guest: until then it says what was there before.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::command::Command;
use super::operation::Running;
use super::owner::Owner;
use super::ports::Guest;
use super::service::{Handle, VmService};
use super::shown::Seen;
use super::workspace::{KEPT, WorkspaceVm};
use crate::id::{BootId, VmId};
use crate::report::{Kind, Report};
use crate::wire::rpc::{Operation, OperationEnd, Vm, VmState, VmWorkspace};

/// A VM that runs, and that a repository is to go into.
pub struct PrepareVm {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Where the host keeps what goes in.
    pub kept: PathBuf,
    /// Its guest.
    pub guest: Arc<dyn Guest>,
    /// The operation.
    pub operation: Running,
    disk_bytes: u64,
    boot: BootId,
    handle: Arc<Handle>,
}

/// What is done with it.
pub type Prepare = Box<dyn FnOnce(PrepareVm) -> BoxFuture<'static, Result<Vm, Report>> + Send>;

impl VmService {
    /// Begins to put a repository into a VM; returns the operation.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or it stands still.
    pub async fn prepare(
        &self,
        wanted: &str,
        wait: bool,
        work: Prepare,
    ) -> Result<Operation, Report> {
        let handle = self.handle(wanted)?;
        let record = handle.view.borrow().record.clone();
        let guest = self.guest(&record)?;
        let stillness = self.shared.stillness(&record);
        if let Some(stall) = stillness.now() {
            return Err(stillness.report(Kind::Conflict, stall));
        }
        let Some(boot) = record.state.boot().map(|boot| boot.id.clone()) else {
            let message = format!("the VM `{}` is not running", record.name);
            return Err(Report::new(Kind::Conflict, message));
        };
        let operation = self.operations.begin("prepare", &record.id, &record.name, super::now());
        let id = operation.id.clone();
        let vm = PrepareVm {
            kept: self.folder(&record.id).join(KEPT),
            id: record.id,
            name: record.name.to_string(),
            guest,
            operation: operation.clone(),
            disk_bytes: record.spec.disk_bytes,
            boot,
            handle: handle.clone(),
        };
        let span = operation.span();
        let carry_out = async move {
            let _in_use = handle.usage().begin();
            let ending = Ending(operation);
            let done = work(vm).await;
            ending.end(done);
        };
        self.tasks.spawn("prepare", carry_out.instrument(span));
        self.report(&id, wait).await
    }
}

impl PrepareVm {
    /// The repository that is in it now.
    #[must_use]
    pub fn workspace(&self) -> Option<VmWorkspace> {
        self.handle.view.borrow().record.workspace.clone()
    }

    /// The same VM, to look at this workspace.
    #[must_use]
    pub fn with(&self, workspace: VmWorkspace) -> WorkspaceVm {
        WorkspaceVm {
            id: self.id.clone(),
            name: self.name.clone(),
            workspace,
            kept: self.kept.clone(),
            disk_bytes: self.disk_bytes,
            guest: Some(self.guest.clone()),
            usage: self.handle.usage(),
        }
    }

    /// Work that may be dropped: it ends when somebody cancels the operation, and with the VM's boot.
    ///
    /// # Errors
    /// As the work, and when it was given up.
    pub async fn unless_given_up<T>(
        &self,
        work: impl Future<Output = Result<T, Report>>,
    ) -> Result<T, Report> {
        let mut view = self.handle.view.clone();
        // All arms are cancel-safe but the work, which says that it may be dropped.
        tokio::select! {
            biased;
            () = self.operation.cancelled() => Err(cancelled()),
            () = boot_is_over(&mut view, &self.boot) => {
                let message = format!("the VM `{}` has stopped meanwhile", self.name);
                Err(Report::new(Kind::Conflict, message))
            }
            done = work => done,
        }
    }

    /// Writes down that this is in it now.
    ///
    /// # Errors
    /// When the VM is gone, or its row cannot be written.
    pub async fn prepared(&self, workspace: VmWorkspace) -> Result<Vm, Report> {
        let command = |answer| Command::Prepared { workspace, answer };
        self.handle.ask(&self.name, command).await
    }
}

/// The failure of an operation that somebody has cancelled.
#[must_use]
pub fn cancelled() -> Report {
    Report::new(Kind::Cancelled, "the prepare was given up: it was cancelled")
}

async fn boot_is_over(view: &mut watch::Receiver<Seen>, boot: &BootId) {
    let over = |seen: &Seen| {
        let runs = seen.record.state.view() == VmState::Running;
        !runs || seen.record.state.boot().is_none_or(|now| now.id != *boot)
    };
    // When the owner is gone, so is the VM; or the daemon ends, which waits for what is under way.
    view.wait_for(over).await.ok();
}

/// Ends the operation, also when its task breaks off: nobody waits for it for ever.
struct Ending(Running);

impl Ending {
    fn end(&self, done: Result<Vm, Report>) {
        self.0.end(match done {
            Ok(vm) => OperationEnd::Done { vm: Box::new(vm) },
            Err(error) => {
                let error = error.in_operation(self.0.id.clone());
                OperationEnd::Failed { error, vm_kept: true, console_saved: None }
            }
        });
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            self.end(Err(Report::new(Kind::Failed, "the prepare broke off")));
        }
    }
}

impl Owner {
    /// Writes down which repository is in the VM. When that cannot be done the row is as before.
    pub(super) async fn prepared(&mut self, workspace: VmWorkspace) -> Result<Vm, Report> {
        self.check_whole()?;
        let mut next = self.record.clone();
        next.workspace = Some(workspace);
        next.last_touched_at = super::now();
        self.replace(next).await?;
        Ok(self.shown())
    }
}
