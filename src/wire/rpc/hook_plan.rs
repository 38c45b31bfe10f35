//! What hooks would do to a machine, with what they would write.

use serde::{Deserialize, Serialize};

use super::{ClientContext, CreateVm, HookWish};
use crate::id::{Digest, PluginId, VmName};

/// For which machine hooks are to be looked at. One of `vm` and `create` is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HookPlanQuery {
    /// A VM that is there: name, id or prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// A VM that could be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Box<CreateVm>>,
    /// What the client's environment offers to hooks.
    #[serde(default)]
    pub client: ClientContext,
}

/// What hooks would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookPlans {
    /// The machine; a name was made up for one that is not there.
    pub name: VmName,
    /// Each plugin, in the order in which they run.
    pub plugins: Vec<PluginPlan>,
}

/// What one plugin would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct PluginPlan {
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// The digest of its component.
    pub component: Digest,
    /// The digest of its plan for the work disk.
    pub plan: Digest,
    /// The steps of that plan.
    pub steps: Vec<PlannedWrite>,
    /// How many steps more there are, for which an answer has no room.
    #[serde(default, skip_serializing_if = "super::hook_run::is_zero")]
    pub left_out: u64,
    /// What it asks the machine to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wishes: Vec<HookWish>,
    /// What it said: its answer, and all that it logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// One step, with what would be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct PlannedWrite {
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
    /// The digest of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The file of the host that is copied. Its content is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The marker of a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// Where a link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The text that a plugin made, or its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why there is no text, or not all of it: `binary`, `private` (made after reading a file that only its
    /// owner may read) or `long`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}
