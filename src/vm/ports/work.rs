//! What was done in the repository that went into a VM, for the VM service: it must not be lost with the VM.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::super::record::VmRecord;
use super::super::workspace::KEPT;
use super::{Guest, PortResult};
use crate::id::VmId;
use crate::wire::rpc::WorkspaceMode;

/// The workspace of one VM.
#[derive(Debug, Clone)]
pub struct WorkspaceOf {
    /// The VM.
    pub vm: VmId,
    /// Where it is in the guest.
    pub guest_path: String,
    /// In which form it is there.
    pub mode: WorkspaceMode,
    /// Where the host keeps what went in.
    pub kept: PathBuf,
    /// The size of its disk in bytes: more than that is not in it.
    pub disk_bytes: u64,
}

impl WorkspaceOf {
    /// That of a VM with this folder, if a repository went into it.
    pub(in crate::vm) fn of(record: &VmRecord, folder: &Path) -> Option<Self> {
        let workspace = record.workspace.as_ref()?;
        Some(Self {
            vm: record.id.clone(),
            guest_path: workspace.guest_path.clone(),
            mode: workspace.mode,
            kept: folder.join(KEPT),
            disk_bytes: record.spec.disk_bytes,
        })
    }
}

/// What was seen of the work in a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkSeen {
    /// It is as it went in, or as it was exported.
    Safe,
    /// There is work that went in no export.
    Unexported {
        /// How much, for people, as in "3 files, such as src/main.rs".
        what: String,
    },
    /// Nobody has looked since somebody could last work in it.
    Unknown,
}

/// What a last look has seen: a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSeen(pub String);

/// The work in VMs. Nothing is decided by what a guest says of itself: everything is compared here.
#[async_trait]
pub trait Work: Send + Sync {
    /// Looks into a guest that runs.
    async fn look(&self, workspace: &WorkspaceOf, guest: &dyn Guest) -> PortResult<WorkSeen>;
    /// Looks into a guest that is about to stop; nothing where it could not be known again.
    async fn last_look(
        &self,
        workspace: &WorkspaceOf,
        guest: &dyn Guest,
    ) -> PortResult<Option<LastSeen>>;
    /// It has stopped in order after that: what was seen counts until it returns.
    async fn leaves(&self, workspace: &WorkspaceOf, seen: &LastSeen) -> PortResult<()>;
    /// What was seen when it stopped.
    async fn left(&self, workspace: &WorkspaceOf) -> PortResult<WorkSeen>;
    /// Its guest is about to run again: what was seen is worth nothing from now on.
    async fn returns(&self, workspace: &WorkspaceOf) -> PortResult<()>;
    /// Whether something is kept in this folder, though it may be that nothing of it went into the guest.
    async fn is_kept(&self, kept: &Path) -> bool;
}
