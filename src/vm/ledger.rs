//! The ledger of host resources: every resource of a VM has a row before it exists.
//!
//! Whoever makes a process or a file for a VM says so here first, and says afterwards what it became.
//! Recovery reads the rows: a row without an identity is a resource that may or may not exist.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::Report;

/// The kinds of host resources a VM may have, at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// The VM's folder with its disks, sockets and console.
    Folder,
    /// The process that holds the VM's network namespace.
    NetworkKeeper,
    /// The process that carries the VM's traffic to the host's network.
    Uplink,
    /// The VM's port on the bridge, with what the host's rules say of it. No process.
    BridgePort,
    /// The vhost-user process of the VM's vsock device.
    VsockDevice,
    /// The monitor.
    Monitor,
}

impl ResourceKind {
    /// All kinds, in the order in which they are made; they are released in reverse.
    pub const ALL: [Self; 6] = [
        Self::Folder,
        Self::NetworkKeeper,
        Self::Uplink,
        Self::BridgePort,
        Self::VsockDevice,
        Self::Monitor,
    ];

    /// The kind as it is written in the database and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::NetworkKeeper => "network_keeper",
            Self::Uplink => "uplink",
            Self::BridgePort => "bridge_port",
            Self::VsockDevice => "vsock_device",
            Self::Monitor => "monitor",
        }
    }
}

/// A row could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write down the resource `{}`", .kind.as_str())]
pub struct LedgerError {
    /// The resource.
    pub kind: ResourceKind,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The rows of one VM.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The resource is about to be made. Called before anything of it exists.
    ///
    /// # Errors
    /// When the row cannot be written; then the resource must not be made.
    async fn intend(&self, kind: ResourceKind) -> Result<(), LedgerError>;

    /// The resource, a process, has been made.
    ///
    /// # Errors
    /// When the row cannot be written; then the process must be killed.
    async fn made(&self, kind: ResourceKind, process: ProcessId) -> Result<(), LedgerError>;
}

/// A spare network with the processes that its rows name. A row without one may or may not have one.
pub type SpareProcesses = (VmId, Vec<Option<ProcessId>>);

/// The rows of spare networks: made ahead, and no VM's yet. Each has an id of the same kind as a VM's.
#[async_trait]
pub trait SpareRows: Send + Sync {
    /// The rows of one spare.
    fn ledger(&self, spare: &VmId) -> Arc<dyn Ledger>;

    /// All rows of a spare become rows of a VM, or none does.
    ///
    /// # Errors
    /// When they cannot be written; then they are still the spare's.
    async fn hand_over(&self, spare: &VmId, vm: &VmId) -> Result<(), LedgerError>;

    /// All spares that have rows.
    ///
    /// # Errors
    /// When the rows cannot be read.
    async fn all(&self) -> Result<Vec<SpareProcesses>, Report>;

    /// The processes that rows of VMs name.
    ///
    /// # Errors
    /// When the rows cannot be read.
    async fn owned(&self) -> Result<HashSet<ProcessId>, Report>;

    /// A spare is gone.
    ///
    /// # Errors
    /// When its rows cannot be removed.
    async fn released(&self, spare: &VmId) -> Result<(), Report>;
}
