//! Changing what a VM is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Vm;
use crate::egress::Mode;

/// Parameters of `vm.set`. What is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetVm {
    /// The VM.
    pub vm: String,
    /// Virtual processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Size of the work disk in bytes. It can only grow; the file system in it is grown by the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Labels to set; one without a value is removed. Other labels stay.
    #[serde(default)]
    pub labels: BTreeMap<String, Option<String>>,
    /// The VM is stopped when nobody has used it for so many seconds; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_stop_after_s: Option<u64>,
    /// What it may reach at all, at once. Its rules stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Mode>,
}

/// The result of `vm.set`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct SetVmReply {
    /// The VM as it is now.
    pub vm: Vm,
    /// What has changed, in a fixed order; nothing when it was like that before.
    pub changes: Vec<Change>,
}

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Change {
    /// What.
    pub setting: Setting,
    /// Since when it holds.
    pub holds: Holds,
    /// Why it does not hold yet, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What can be changed of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Virtual processors.
    Vcpu,
    /// Memory.
    Memory,
    /// The work disk's size.
    Disk,
    /// Labels.
    Labels,
    /// When it is stopped by itself.
    AutoStopAfter,
    /// What it may reach.
    Egress,
}

/// Since when a change holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// Now; of a VM that does not run, from its next start on like everything else.
    Now,
    /// From the next start of the VM on, which runs with what it had.
    AfterRestart,
}
