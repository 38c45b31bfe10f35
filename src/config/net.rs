//! `[net]`: what new VMs may reach.

use serde::{Deserialize, Serialize};

use super::BridgeConfig;
use crate::egress::{DnsName, Mode, Policy, Rule};

/// `[net]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetConfig {
    /// What a VM may reach at all, when its maker does not say.
    pub egress: Mode,
    /// The rules of every new VM; its maker's come on top. At most [`crate::egress::MAX_RULES`].
    pub allow: Vec<Rule>,
    /// How many networks are made ahead, so that starts need not wait for theirs. None is made before the
    /// first VM with a network has started.
    pub spares: u8,
    /// The zone of the names of VMs on the bridge.
    pub zone: DnsName,
    /// The bridge.
    pub bridge: BridgeConfig,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            egress: Mode::default(),
            allow: Vec::new(),
            spares: 1,
            zone: "cove.internal".parse().expect("a constant name is good"),
            bridge: BridgeConfig::default(),
        }
    }
}

impl NetConfig {
    /// The same as a policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { mode: self.egress, rules: self.allow.clone() }
    }
}
