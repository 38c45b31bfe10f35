//! `[net.bridge]`: the bridge of VMs that have addresses which the host reaches. The network helper's own
//! file has the same keys, at its top level.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[net.bridge]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BridgeConfig {
    /// The bridge's name: 1 to 15 of `[a-z0-9-]`.
    pub name: String,
    /// Where VMs have their IPv4 addresses; empty for the default.
    pub range4: Option<Ipv4Net>,
    /// Where VMs have their IPv6 addresses; none derives one from the host's machine id.
    pub range6: Option<Ipv6Net>,
    /// The network helper's socket; none for `/run/cove/net-helper-UID.sock`.
    pub socket: Option<PathBuf>,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self { name: "cove0".to_owned(), range4: None, range6: None, socket: None }
    }
}

impl BridgeConfig {
    /// The socket of the network helper of this user.
    #[must_use]
    pub fn socket(&self, user: u32) -> PathBuf {
        let usual = || format!("/run/cove/net-helper-{user}.sock").into();
        self.socket.clone().unwrap_or_else(usual)
    }

    /// Reads the network helper's file, or gives the defaults where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or has unknown keys.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: source.into() })
    }
}

/// What is unique to this host, from `/etc/machine-id`; empty on a host that has none.
#[must_use]
pub fn machine_id() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default()
}
