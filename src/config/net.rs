//! `[net]`: what new VMs may reach.

use serde::{Deserialize, Serialize};

use crate::egress::{Mode, Policy, Rule};

/// `[net]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetConfig {
    /// What a VM may reach at all, when its maker does not say.
    pub egress: Mode,
    /// The rules of every new VM; its maker's come on top. At most [`crate::egress::MAX_RULES`].
    pub allow: Vec<Rule>,
}

impl NetConfig {
    /// The same as a policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { mode: self.egress, rules: self.allow.clone() }
    }
}
