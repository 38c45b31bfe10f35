//! `[hooks]`: plugins, and what they may do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Digest, PluginId};

/// `[hooks]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// Plugins that are switched off, standard ones included.
    pub disabled: Vec<PluginId>,
    /// What no plugin may have more than, whatever it is granted: kinds of needs, or `KIND:PATTERN`.
    pub ceiling: Vec<String>,
    /// Installed plugins must bear the signature of one of the signers.
    pub require_signature: bool,
    /// Those whose signatures are known.
    pub signers: Vec<SignerConfig>,
    /// What installed plugins may do, by plugin id. A plugin that is here has what is said here, and nothing
    /// by command.
    pub grants: BTreeMap<PluginId, GrantConfig>,
    /// The settings of plugins, by plugin id.
    pub settings: BTreeMap<PluginId, toml::Table>,
}

/// Everything that can be asked for.
const CEILING: [&str; 10] = [
    "work-disk",
    "host-files.read",
    "host-files.import",
    "git-config",
    "machine.env",
    "machine.label",
    "machine.forward",
    "machine.egress",
    "guest.run",
    "state",
];

impl Default for HooksConfig {
    fn default() -> Self {
        Self {
            disabled: Vec::new(),
            ceiling: CEILING.map(str::to_owned).into(),
            require_signature: false,
            signers: Vec::new(),
            grants: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }
}

/// `[[hooks.signers]]`: somebody whose signatures are known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// What to call them.
    pub name: String,
    /// Their public key: the second line of a `minisign.pub`.
    pub key: String,
}

/// `[hooks.grants."ID"]`: what one plugin may do. Bound to the component's digest: another file under
/// the same id has no grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantConfig {
    /// The sha256 of the component.
    pub component: Digest,
    /// The needs that are granted, as `KIND:PATH` or `KIND:NAME`.
    #[serde(default)]
    pub needs: BTreeSet<String>,
    /// Host files by their logical name: paths, where `*` and `?` match.
    #[serde(default)]
    pub host_files: BTreeMap<String, Vec<String>>,
}
