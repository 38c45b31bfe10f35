//! Plugins: what is installed, what each asks for and has, and how that is changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HookPoint;
use crate::id::{Digest, PluginId};

/// A plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Hook {
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// Whether it takes part.
    pub state: HookState,
    /// The hook points it is for.
    pub hooks: Vec<HookPoint>,
    /// The digest of its component.
    pub digest: Digest,
    /// Whether it came with cove.
    pub standard: bool,
    /// What it asks for, with its reasons.
    pub needs: Vec<HookNeed>,
    /// Why it does not run, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The version that waits for a grant while this one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

/// Whether a plugin takes part in the lives of VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// It does.
    Active,
    /// It does not before somebody grants it something.
    PendingGrant,
    /// Its files are not those that were granted. A required one keeps VMs from starting.
    Void,
    /// It failed again and again, and was switched off.
    Off,
    /// The configuration says that it does not.
    Disabled,
    /// It cannot. A required one that is granted keeps VMs from starting.
    Broken,
}

impl HookState {
    /// The state as people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::PendingGrant => "pending-grant",
            Self::Void => "void",
            Self::Off => "off",
            Self::Disabled => "disabled",
            Self::Broken => "broken",
        }
    }
}

/// One thing a plugin asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookNeed {
    /// The kind: `work-disk`, `host-files.import`, …
    pub kind: String,
    /// Paths or names.
    pub what: Vec<String>,
    /// Why, in the author's words.
    pub reason: String,
    /// Whether all of it is granted.
    pub granted: bool,
    /// The words for what of it is not granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The words for what of it is not, or not wholly, below the daemon's ceiling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above_ceiling: Vec<String>,
}

/// All that is known of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookDetails {
    /// What a list says of it.
    #[serde(flatten)]
    pub hook: Hook,
    /// The version of the contract that it is made for: `0.2`.
    pub api: String,
    /// `small` or `large`.
    pub class: String,
    /// What a run of it may use.
    pub limits: HookLimits,
    /// What its component really imports; none where it cannot be loaded.
    pub imports: Vec<String>,
    /// The hook interfaces that its component really exports.
    pub exports: Vec<String>,
    /// The digest of its manifest; none of what came with cove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The digest of what it asks for.
    pub needs_digest: Digest,
    /// What stands for this very manifest and component; none of what came with cove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// Whose signature it bears, where that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<HookSigner>,
    /// What it is granted; none for a standard plugin, which has what it asks for but what was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<HookGrantShown>,
    /// The installed versions, the active one first.
    pub releases: Vec<HookRelease>,
    /// Failures in a row, by hook point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<HookPoint, u32>,
    /// What it asks for anew in the version that waits for a grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks_anew: Vec<String>,
}

/// What a run of a plugin may use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookLimits {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Milliseconds of processor time.
    pub cpu_ms: u64,
    /// Bytes of content that it makes up.
    pub output_bytes: u64,
    /// Steps of its plan.
    pub output_steps: u64,
}

/// Somebody whose signatures the configuration knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HookSigner {
    /// The name that the configuration gives.
    pub name: String,
    /// The public key of minisign, in base64.
    pub key: String,
}

/// A grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookGrantShown {
    /// What is granted, as `KIND:PATH` or `KIND:NAME`.
    pub needs: Vec<String>,
    /// What stands behind logical names of host files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_files: BTreeMap<String, Vec<String>>,
    /// By whom: `user UID`, `the configuration`, or `carried over from VERSION`.
    pub by: String,
    /// When; none for a grant of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// One installed version of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookRelease {
    /// What stands for this very manifest and component.
    pub release: Digest,
    /// Its version.
    pub version: String,
    /// The digest of its component.
    pub component: Digest,
    /// Whether it waits for a grant.
    pub pending: bool,
    /// When it was installed.
    pub installed_at: String,
    /// From where.
    pub from: String,
    /// Whose signature it bore then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<HookSigner>,
}

/// Which files to install.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InstallHook {
    /// An absolute path: the folder with `plugin.toml` and the component, or one of these two files.
    pub path: String,
}

/// What came of an installation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookInstalled {
    /// The plugin as it is now.
    pub plugin: HookDetails,
    /// The version that was installed.
    pub version: String,
    /// What that version is now.
    pub outcome: InstallOutcome,
    /// What the user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What an installed version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InstallOutcome {
    /// It takes part: a grant holds for it.
    Active,
    /// It waits for a grant.
    PendingGrant,
    /// It was there already.
    Unchanged,
}

/// Which plugin to look at: one of the two is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InspectHook {
    /// One that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginId>,
    /// Files that need not be installed: an absolute path, as for `hook.install`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What to grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantHook {
    /// The plugin.
    pub plugin: PluginId,
    /// What to grant besides what is granted, as `KIND:PATH` or `KIND:NAME`; nothing means all that it
    /// asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What stands behind logical names of host files: absolute paths or `~/…`; `*` and `?` match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_files: BTreeMap<String, Vec<String>>,
    /// The release that the user has looked at: nothing is granted to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
}

/// What to take back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeHook {
    /// The plugin.
    pub plugin: PluginId,
    /// What to take back, as `KIND:PATH` or `KIND:NAME`; nothing means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// The plugin after its grant was changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookChanged {
    /// The plugin as it is now.
    pub plugin: HookDetails,
    /// What the user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Names one plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HookRef {
    /// The plugin.
    pub plugin: PluginId,
}
