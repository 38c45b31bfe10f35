//! Repositories of the host, for the VM service.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::GUEST_HOME;
use super::course::Course;
use crate::report::{Kind, Report};
use crate::vm::ports::{
    Checkout, Checkouts, Guest, GuestTrees, NotTaken, PackedCheckout, PortResult,
};
use crate::wire::guest::TreeChange;
use crate::wire::rpc::{CreateWorkspace, VmWorkspace, WorkspacePlan};
use crate::workspace::{
    History, Inspection, Kept, Package, PackageSummary, Untracked, WorkspaceError, Workspaces,
};

/// The workspace service.
pub(super) struct Repositories(pub(super) Arc<Workspaces>);

fn report(error: &WorkspaceError) -> Report {
    Report::of(error)
}

#[async_trait]
impl Checkouts for Repositories {
    async fn inspect(&self, wanted: &CreateWorkspace) -> PortResult<Arc<dyn Checkout>> {
        let inspection = inspection(&self.0, wanted).await?;
        Ok(Arc::new(Repository { workspaces: self.0.clone(), inspection }))
    }
}

/// Looks at a repository, of which so much is to go in.
pub(super) async fn inspection(
    workspaces: &Workspaces,
    wanted: &CreateWorkspace,
) -> PortResult<Inspection> {
    let untracked = match wanted.include_untracked {
        true => Untracked::Include,
        false => Untracked::Leave,
    };
    let history = match (wanted.full_history, wanted.depth) {
        (true, _) => History::Whole,
        (false, Some(commits)) => History::Last(commits),
        (false, None) => History::Usual,
    };
    if wanted.from.is_some() && (wanted.branch.is_none() || wanted.include_untracked) {
        let message = "`from` is where a `branch` begins, and no untracked files are there";
        return Err(Report::new(Kind::Invalid, message));
    }
    let mode = wanted.mode.unwrap_or_default();
    if let Some((what, why)) = mode.contradiction(wanted) {
        // The command line does not know in which mode a repository is there already.
        let (flag, mode) = (what.replace('_', "-"), mode.as_str());
        let message =
            format!("`{what}` (`--{flag}`) and the mode `{mode}` exclude each other: {why}");
        let hint =
            format!("leave `--{flag}` out, or put the repository into another VM in another mode");
        return Err(Report::new(Kind::Invalid, message).with_hint(hint));
    }
    let inspection = workspaces.inspect(Path::new(&wanted.path), untracked).await;
    let inspection = inspection.map_err(|error| report(&error))?;
    let mut inspection = inspection.with_history(history).in_mode(mode);
    if let Some(commit) = &wanted.from {
        let there = workspaces.inspect_at(inspection, commit).await;
        inspection = there.map_err(|error| report(&error))?;
    }
    match &wanted.branch {
        Some(branch) => inspection.on_branch(branch).await.map_err(|error| report(&error)),
        None => Ok(inspection),
    }
}

/// What a VM's row says of a repository that goes in.
pub(super) fn record(inspection: &Inspection) -> VmWorkspace {
    VmWorkspace {
        guest_path: format!("{GUEST_HOME}/{}", inspection.guest_folder_name()),
        source_path: inspection.source_root().to_string_lossy().into_owned(),
        base_commit: inspection.base_commit().map(str::to_owned),
        mode: inspection.mode(),
    }
}

struct Repository {
    workspaces: Arc<Workspaces>,
    inspection: Inspection,
}

#[async_trait]
impl Checkout for Repository {
    fn plan(&self) -> WorkspacePlan {
        self.inspection.plan()
    }

    fn record(&self) -> VmWorkspace {
        record(&self.inspection)
    }

    fn notes(&self) -> Vec<String> {
        self.inspection.notes()
    }

    async fn pack(&self) -> PortResult<Box<dyn PackedCheckout>> {
        let package = self.workspaces.pack(&self.inspection).await;
        let package = package.map_err(|error| report(&error))?;
        Ok(Box::new(Packed { package, folder: self.inspection.guest_folder_name() }))
    }
}

struct Packed {
    package: Package,
    folder: String,
}

#[async_trait]
impl PackedCheckout for Packed {
    async fn deliver(self: Box<Self>, guest: &dyn Guest, kept: &Path) -> PortResult<()> {
        let Self { package, folder } = *self;
        let kept = Kept::at(kept.to_owned());
        deliver(package, &folder, guest, &kept, &Course::default()).await?;
        Ok(())
    }
}

/// Sends a whole package into a new folder of the guest's home, and keeps what went in. That is written down before
/// the guest hears that it has all: when nobody hears whether it took effect, it is known what that was.
pub(super) async fn deliver(
    package: Package,
    folder: &str,
    guest: &dyn GuestTrees,
    kept: &Kept,
    course: &Course,
) -> Result<PackageSummary, NotTaken> {
    let begun = kept.record(&package).await;
    let (record, recording) = begun.map_err(|error| NotTaken::unsent(report(&error)))?;
    let ((sum, summed), (written_down, is_written_down)) = (oneshot::channel(), oneshot::channel());
    let course = course.clone();
    let lost = |what: &str, error: &dyn std::error::Error| {
        Report::new(Kind::Failed, format!("what was sent to the guest was not {what}"))
            .with_cause(error)
    };
    let write = Box::new(move |sink: &mut dyn std::io::Write| {
        let written = package.write_tar_recorded(course.over(sink), record);
        let summary = written.map_err(|error| report(&error))?;
        let recorded = is_written_down.blocking_recv();
        recorded.unwrap_or_else(|error| Err(lost("written down", &error)))?;
        course.check()?;
        // Whoever asked may have gone.
        sum.send(summary).ok();
        Ok(())
    });
    let delivered = guest.receive_tree(folder, TreeChange::Make, write);
    let recorded = async move {
        let recorded = recording.done().await.map_err(|error| report(&error));
        // When the sending has failed, nobody waits for it, and that it ended early says nothing of the cause.
        written_down.send(recorded).ok();
    };
    let (delivered, ()) = tokio::join!(delivered, recorded);
    // Looked at from now on, it need not be read to be known again.
    kept.know_again(delivered?).await;
    summed.await.map_err(|error| NotTaken::unheard(lost("counted", &error)))
}
