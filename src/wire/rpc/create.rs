//! Making a VM, and what would come of it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{ClientContext, HookPlan, NetMode, Publish, WorkspaceMode};
use crate::egress::{Mode, Policy, Rule};
use crate::id::ImageName;

/// Parameters of `vm.create`. What is not given comes from the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateVm {
    /// The name; made up when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Virtual processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Size of the work disk in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Size of the root overlay disk in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_bytes: Option<u64>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<NetMode>,
    /// What it may reach at all. When only `allow` is given, that is what its rules name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Mode>,
    /// What it may reach besides, on top of what the configuration says: a rule each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Rule>,
    /// VMs of the bridge that it reaches, and that reach it: their names, ids, or unambiguous prefixes of
    /// ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// Environment of every command run in the guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports of the guest that are reachable at ports of the host as long as it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// The repository to put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<CreateWorkspace>,
    /// Start it: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
    /// Delete it when this connection has been gone for ten seconds.
    #[serde(default)]
    pub lease: bool,
    /// Wait for the end of the operation.
    #[serde(default)]
    pub wait: bool,
    /// What the client's environment offers to hooks.
    #[serde(default)]
    pub client: ClientContext,
}

/// The repository to put into a new VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateWorkspace {
    /// A folder inside a git repository of the host, absolute.
    pub path: String,
    /// In which form it is to be there; shallow when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<WorkspaceMode>,
    /// Take untracked files too, but never ignored ones.
    #[serde(default)]
    pub include_untracked: bool,
    /// So many of the last commits; as the configuration says when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<NonZeroU32>,
    /// All of the history, whatever `depth` says.
    #[serde(default)]
    pub full_history: bool,
    /// A branch to be on, made in the guest only; the one that is checked out when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit of the source where that branch begins, without what is only in the working tree; what is checked
    /// out when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What a `vm.create` would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct CreatePlan {
    /// Processors, memory, disks, image and kernel after defaults.
    pub machine: MachinePlan,
    /// Ports of it that would be reachable at ports of the host, besides those that plugins ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// What the user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What would go in of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspacePlan>,
    /// What each plugin would write and asks for, in the order in which they run.
    pub hooks: Vec<HookPlan>,
}

/// A machine after defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct MachinePlan {
    /// The image's name.
    pub image: ImageName,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the work disk in bytes.
    pub disk_bytes: u64,
    /// Size of the root overlay disk in bytes.
    pub root_disk_bytes: u64,
    /// The network.
    pub net: NetMode,
    /// What it may reach through it.
    #[serde(default)]
    pub egress: Policy,
}

/// What would go into the guest of a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct WorkspacePlan {
    /// The root of the working tree on the host.
    pub source_path: String,
    /// The folder in the guest.
    pub guest_path: String,
    /// The commit it is based on; none in a repository without commits.
    pub base_commit: Option<String>,
    /// The origin the checkout will have, without user name, password and token.
    pub origin: Option<String>,
    /// Paths of the files, relative to the repository's root. Bytes that are not UTF-8 are shown as
    /// replacement characters.
    pub files: Vec<String>,
    /// Their total size in bytes.
    pub bytes: u64,
    /// How many untracked files are left out.
    pub untracked_left_out: u64,
}
