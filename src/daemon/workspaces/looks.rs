//! Looking at workspaces, one look after the other at each, and what that says of the work in them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::report;
use crate::id::VmId;
use crate::report::{Kind, Report};
use crate::vm::ports::{Guest, LastSeen, PortResult, Work, WorkSeen, WorkspaceOf};
use crate::wire::rpc::WorkspaceMode;
use crate::wire::survey::ListedBy;
use crate::workspace::{Against, Comparison, Kept, Limit, Seeing};

/// How long a stop or a delete waits for others.
const SOON: Duration = Duration::from_secs(5);

/// Who looks at which VM's workspace. Looks at one go one after the other; at others' beside it.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>);

impl Looks {
    /// Waits until nobody else looks at the workspace of this VM.
    pub(super) async fn alone(&self, vm: &VmId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().expect("no panic under the lock");
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(vm.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// The same, for whoever has something else to do: an export may be long, and a prepare ends only with the boot.
    async fn alone_soon(&self, vm: &VmId) -> PortResult<OwnedMutexGuard<()>> {
        tokio::time::timeout(SOON, self.alone(vm)).await.map_err(|_| {
            Report::new(
                Kind::Conflict,
                "somebody else looks at its workspace, or puts files into it",
            )
        })
    }
}

#[async_trait]
impl Work for Looks {
    async fn look(&self, workspace: &WorkspaceOf, guest: &dyn Guest) -> PortResult<WorkSeen> {
        let alone = self.alone_soon(&workspace.vm).await?;
        let (kept, seeing) = seen(workspace, guest, alone).await?;
        judge(&kept, &seeing).await
    }

    async fn last_look(
        &self,
        workspace: &WorkspaceOf,
        guest: &dyn Guest,
    ) -> PortResult<Option<LastSeen>> {
        let alone = self.alone_soon(&workspace.vm).await?;
        let (_kept, seeing) = seen(workspace, guest, alone).await?;
        // Of a repository inside it, nothing is kept by which it could be known again.
        Ok(seeing.beside().is_none().then_some(LastSeen(seeing.tree)))
    }

    async fn leaves(&self, workspace: &WorkspaceOf, seen: &LastSeen) -> PortResult<()> {
        let LastSeen(tree) = seen;
        Kept::at(workspace.kept.clone()).leave(tree).await.map_err(report)
    }

    async fn left(&self, workspace: &WorkspaceOf) -> PortResult<WorkSeen> {
        let kept = Kept::at(workspace.kept.clone());
        match kept.left().await.map_err(report)? {
            Some(tree) => judge(&kept, &Seeing::plain(tree)).await,
            None => Ok(WorkSeen::Unknown),
        }
    }

    async fn returns(&self, workspace: &WorkspaceOf) -> PortResult<()> {
        Kept::at(workspace.kept.clone()).forget_left().await.map_err(report)
    }

    async fn is_kept(&self, kept: &Path) -> bool {
        Kept::at(kept.to_owned()).is_there().await
    }
}

async fn seen(
    workspace: &WorkspaceOf,
    guest: &dyn Guest,
    alone: OwnedMutexGuard<()>,
) -> PortResult<(Kept, Seeing)> {
    let kept = Kept::at(workspace.kept.clone()).while_alone(alone);
    let WorkspaceOf { guest_path, mode, disk_bytes, .. } = workspace;
    let seeing = look(guest, guest_path, *mode, Limit(*disk_bytes), &kept).await?;
    Ok((kept, seeing))
}

/// What would be lost with what was seen.
async fn judge(kept: &Kept, seeing: &Seeing) -> PortResult<WorkSeen> {
    if let Some(beside) = seeing.beside() {
        let what = format!("{}, which no export takes out", beside.trim_end_matches(','));
        return Ok(WorkSeen::Unexported { what });
    }
    if kept.is_safe(&seeing.tree).await.map_err(report)? {
        return Ok(WorkSeen::Safe);
    }
    let comparison = Comparison::of(kept, Against::Base, &seeing.tree).await.map_err(report)?;
    let changes = comparison.changes().await.map_err(report)?;
    let what = match &changes[..] {
        [] => "everything is as it went in, but that is not what was exported last".to_owned(),
        [one] => format!("`{}` has changed", one.path),
        [first, ..] => format!("{} files have changed, such as `{}`", changes.len(), first.path),
    };
    Ok(WorkSeen::Unexported { what })
}

/// Looks at the tree at `path` in the guest, and keeps what is new in it.
pub(super) async fn look(
    guest: &dyn Guest,
    path: &str,
    mode: WorkspaceMode,
    limit: Limit,
    kept: &Kept,
) -> Result<Seeing, Report> {
    let mut look = kept.look().await.map_err(report)?;
    let (writer, import) = look.import().map_err(report)?;
    let known = std::mem::take(&mut look.records);
    let (found, finding) = oneshot::channel();
    let take = move |records: &[u8], contents: &mut dyn std::io::Read| {
        let taken = look.take(records, contents, limit, writer).map_err(report)?;
        // Whoever asked may have gone.
        found.send(taken).ok();
        Ok(())
    };
    let by = match mode {
        WorkspaceMode::Shallow | WorkspaceMode::Metadata => ListedBy::Repository,
        WorkspaceMode::Full => ListedBy::Rules,
    };
    let survey = guest.survey(path, by, known, Box::new(take));
    let (surveyed, imported) = tokio::join!(survey, import.done());
    // An import that ended early because nothing more came says nothing of the cause.
    surveyed?;
    imported.map_err(report)?;
    let found = finding.await.map_err(|error| {
        Report::new(Kind::Failed, "what was seen in the guest was lost").with_cause(&error)
    })?;
    found.keep(kept).await.map_err(report)
}
