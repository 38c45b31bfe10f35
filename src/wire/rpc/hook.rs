//! Hooks: points, and what plugins plan there.

use serde::{Deserialize, Serialize};

use crate::id::PluginId;

/// A place in a VM's life where plugins are called. Serialized as its name in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    /// May this VM start?
    Preflight,
    /// What the VM gets besides what its maker said: variables, labels, forwards, names to reach.
    ConfigureMachine,
    /// What is written into the home.
    PrepareWorkDisk,
    /// The guest is up.
    PostStart,
    /// The VM is about to be asked to power off.
    PreStop,
    /// The VM is being deleted.
    Cleanup,
    /// What the plugin says to `doctor`.
    Doctor,
}

impl HookPoint {
    /// All of them, in the order of a VM's life.
    pub const ALL: [Self; 7] = [
        Self::Preflight,
        Self::ConfigureMachine,
        Self::PrepareWorkDisk,
        Self::PostStart,
        Self::PreStop,
        Self::Cleanup,
        Self::Doctor,
    ];

    /// Its name, which is that of its interface in the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::ConfigureMachine => "configure-machine",
            Self::PrepareWorkDisk => "prepare-work-disk",
            Self::PostStart => "post-start",
            Self::PreStop => "pre-stop",
            Self::Cleanup => "cleanup",
            Self::Doctor => "doctor",
        }
    }
}

impl std::fmt::Display for HookPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one hook would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookPlan {
    /// The plugin.
    pub plugin: PluginId,
    /// Steps of its plan for the work disk.
    pub steps: Vec<HookStep>,
    /// What it asks the machine to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wishes: Vec<HookWish>,
    /// Lines it logged (warnings for the user).
    pub log: Vec<String>,
    /// Microseconds it took.
    #[serde(default)]
    pub wall_us: u64,
}

/// One step of a hook's plan, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookStep {
    /// `make-directory`, `write-file`, `ensure-block`, `symlink` or `remove`.
    pub action: String,
    /// The path, relative to the home.
    pub path: String,
    /// Permission bits, where the step has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Bytes of content, where the step has content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// One thing a hook asks a machine to be, for people. Values of variables are not told: they may be
/// secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookWish {
    /// `set-env`, `set-label`, `forward` or `allow-egress`.
    pub action: String,
    /// The variable, the label, the forward as `HOST:GUEST`, or the name to reach.
    pub name: String,
    /// The value of a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}
