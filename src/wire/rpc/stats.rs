//! What VMs use, on the host and inside.

use serde::{Deserialize, Serialize};

use super::VmState;
use crate::id::{VmId, VmName};
use crate::wire::guest::GuestStats;

/// Parameters of `vm.stats.subscribe`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WatchStats {
    /// The VM.
    pub vm: String,
    /// Milliseconds from one event to the next, 200 to 3,600,000; 1000 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
}

/// What a VM uses.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct VmStats {
    /// Its id.
    pub vm: VmId,
    /// Its name.
    pub name: VmName,
    /// Its state.
    pub state: VmState,
    /// When this was so.
    pub at: String,
    /// What it takes of the host.
    pub host: HostStats,
    /// What its guest says of itself; none when it does not run or does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestStats>,
    /// Why a guest that runs says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_error: Option<String>,
}

/// What a VM takes of the host: sums over its processes, and its disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HostStats {
    /// Milliseconds of processor time since this boot of it began.
    pub cpu_ms: u64,
    /// Milliseconds since this boot of it began; none when it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Resident memory in bytes, where what processes share counts in parts, except for processes of
    /// which the kernel does not tell; none where it tells of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proportional_bytes: Option<u64>,
    /// Bytes that the work disk takes up.
    pub work_disk_bytes: u64,
    /// Bytes that the root disk takes up.
    pub root_disk_bytes: u64,
    /// Its processes.
    pub processes: Vec<ProcessStats>,
}

/// What one process of a VM takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct ProcessStats {
    /// What it is to the VM: `monitor`, `vsock_device`, `network_keeper` or `uplink`.
    pub role: String,
    /// Its process id.
    pub pid: i32,
    /// Milliseconds of processor time since it started.
    pub cpu_ms: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Resident memory in bytes, where what processes share counts in parts; none where the kernel does
    /// not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proportional_bytes: Option<u64>,
}
