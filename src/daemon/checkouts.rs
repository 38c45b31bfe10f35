//! Repositories of the host, for the VM service.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::GUEST_HOME;
use crate::report::Report;
use crate::vm::ports::{Checkout, Checkouts, Guest, PackedCheckout, PortResult};
use crate::wire::guest::TreeChange;
use crate::wire::rpc::{CreateWorkspace, VmWorkspace, WorkspacePlan};
use crate::workspace::{Inspection, Kept, Package, Untracked, WorkspaceError, Workspaces};

/// The workspace service.
pub(super) struct Repositories(pub(super) Arc<Workspaces>);

fn report(error: &WorkspaceError) -> Report {
    Report::of(error)
}

#[async_trait]
impl Checkouts for Repositories {
    async fn inspect(&self, wanted: &CreateWorkspace) -> PortResult<Arc<dyn Checkout>> {
        let untracked = match wanted.include_untracked {
            true => Untracked::Include,
            false => Untracked::Leave,
        };
        let inspection = self.0.inspect(Path::new(&wanted.path), untracked).await;
        let inspection = inspection.map_err(|error| report(&error))?;
        Ok(Arc::new(Repository { workspaces: self.0.clone(), inspection }))
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
        VmWorkspace {
            guest_path: format!("{GUEST_HOME}/{}", self.inspection.guest_folder_name()),
            source_path: self.inspection.source_root().to_string_lossy().into_owned(),
            base_commit: self.inspection.base_commit().map(str::to_owned),
        }
    }

    fn notes(&self) -> Vec<String> {
        self.inspection.notes().to_vec()
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
        let begun = kept.record(&package).await;
        let (record, recording) = begun.map_err(|error| report(&error))?;
        let write = Box::new(move |sink: &mut dyn std::io::Write| {
            let written = package.write_tar_recorded(sink, record);
            written.map(drop).map_err(|error| report(&error))
        });
        let delivered = guest.receive_tree(&folder, TreeChange::Make, write);
        let (delivered, recorded) = tokio::join!(delivered, recording.done());
        // A record that ended early because nothing more was delivered says nothing of the cause.
        delivered.and(recorded.map_err(|error| report(&error)))
    }
}
