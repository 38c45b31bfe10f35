//! What the workspace service may know of a VM.

use std::path::PathBuf;
use std::sync::Arc;

use super::command::Command;
use super::idle::Usage;
use super::ports::Guest;
use super::service::VmService;
use crate::id::VmId;
use crate::report::{Kind, Report};
use crate::wire::rpc::VmWorkspace;

/// The folder below a VM's own in which the host keeps what went into its workspace.
pub(super) const KEPT: &str = "workspace";

/// A VM that runs or is at rest, and has a repository in it.
pub struct WorkspaceVm {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its repository.
    pub workspace: VmWorkspace,
    /// Where the host keeps what went in.
    pub kept: PathBuf,
    /// The size of its work disk in bytes: more than that is not in it.
    pub disk_bytes: u64,
    /// Its guest, when it runs.
    pub guest: Option<Arc<dyn Guest>>,
    /// To say how long it is being used.
    pub usage: Usage,
}

impl VmService {
    /// A VM whose workspace is to be looked at.
    ///
    /// # Errors
    /// When there is no such VM, it is on its way to run or to rest, it stands still, or no repository went into
    /// it.
    pub async fn workspace(&self, wanted: &str) -> Result<WorkspaceVm, Report> {
        let handle = self.handle(wanted)?;
        let record = handle.view.borrow().record.clone();
        let name = record.name.to_string();
        let Some(workspace) = record.workspace.clone() else {
            let message =
                format!("the VM `{name}` has no workspace: no repository was put into it");
            return Err(Report::new(Kind::Conflict, message)
                .with_hint("make one with a repository: `cove run PATH`"));
        };
        let guest = match record.state.check_start() {
            Ok(()) => None,
            Err(_) => Some(self.guest(&record)?),
        };
        let stillness = self.shared.stillness(&record);
        if let Some(stall) = stillness.now() {
            return Err(stillness.report(Kind::Conflict, stall));
        }
        if guest.is_some() {
            handle.send(Command::Touch { answer: None }, wanted).await?;
        }
        Ok(WorkspaceVm {
            kept: self.folder(&record.id).join(KEPT),
            id: record.id,
            name,
            workspace,
            disk_bytes: record.spec.disk_bytes,
            guest,
            usage: handle.usage(),
        })
    }
}
