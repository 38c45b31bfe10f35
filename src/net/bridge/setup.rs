//! What the bridge is called and which addresses it has: checked once, and the same for daemon and helper.

use serde::{Deserialize, Serialize};

use crate::config::BridgeConfig;
use crate::report::{Explain, Kind};
use crate::vm::address::{DEFAULT_RANGE4, RangeError, Ranges, default_range6};

/// Why a bridge cannot be set up as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The name is none that interfaces and tables can have, or one that means something else.
    #[error("`{name}` is no name for a bridge")]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// The ranges cannot be used.
    #[error("the ranges of `[net.bridge]` cannot be used")]
    Range(#[source] RangeError),
}

impl Explain for SetupError {
    fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } | Self::Range(_) => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Name { .. } => {
                "set `name` of `[net.bridge]` to 1 to 15 of a-z, 0-9 and `-`, a letter first; not \
                 `all`, `default`, `lo`, or what begins with `cv`"
            }
            Self::Range(_) => "correct `range4` and `range6` of `[net.bridge]`",
        };
        Some(hint.to_owned())
    }
}

/// Name and addresses of the bridge. Valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SetupText", into = "SetupText")]
pub struct Setup {
    name: String,
    ranges: Ranges,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetupText {
    name: String,
    ranges: Ranges,
}

impl Setup {
    /// The bridge that `config` describes, with the defaults for what it leaves out. `machine` is unique to
    /// the host, `user` the id of the daemon's user.
    ///
    /// # Errors
    /// When the name is none, or a range cannot be used.
    pub fn new(config: &BridgeConfig, machine: &str, user: u32) -> Result<Self, SetupError> {
        let range4 = config.range4.unwrap_or(DEFAULT_RANGE4);
        let range6 = config.range6.unwrap_or_else(|| default_range6(machine, user));
        let ranges = Ranges::new(range4, range6).map_err(SetupError::Range)?;
        Self::checked(config.name.clone(), ranges)
    }

    fn checked(name: String, ranges: Ranges) -> Result<Self, SetupError> {
        // It is an interface, a table, and a folder below `/proc/sys/net/ipv4/conf`.
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let known = ["all", "default", "lo"].contains(&name.as_str()) || name.starts_with("cv");
        let letter = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        if !letter || known || name.len() > 15 || !name.bytes().all(plain) {
            let name = name.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(SetupError::Name { name });
        }
        Ok(Self { name, ranges })
    }

    /// The bridge's name, which its tables have too.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The addresses of its VMs.
    #[must_use]
    pub fn ranges(&self) -> Ranges {
        self.ranges
    }
}

impl TryFrom<SetupText> for Setup {
    type Error = SetupError;

    fn try_from(text: SetupText) -> Result<Self, SetupError> {
        Self::checked(text.name, text.ranges)
    }
}

impl From<Setup> for SetupText {
    fn from(setup: Setup) -> Self {
        Self { name: setup.name, ranges: setup.ranges }
    }
}

/// Whose things on the host are: written on the bridge, its ports and its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(u32);

impl Owner {
    /// The user whose daemon it is.
    pub(super) fn new(user: u32) -> Self {
        Self(user)
    }

    /// The user's id.
    pub(super) fn user(self) -> u32 {
        self.0
    }

    /// The mark as text.
    pub(super) fn mark(self) -> String {
        format!("cove:{}", self.0)
    }

    /// The mark of a bridge for whose sake forwarding was switched on.
    pub(super) fn mark_forwarding(self) -> String {
        format!("cove:{}:forwarding-was-off", self.0)
    }

    /// The bridge's address. It says the owner too, because a bridge has it from the start, and the mark
    /// only a moment later.
    pub(super) fn bridge_station(self) -> [u8; 6] {
        let [a, b, c, d] = self.0.to_be_bytes();
        [0x02, 0xc0, a, b, c, d]
    }

    /// The group of interfaces that the ports are: what rules know them by.
    pub(super) fn group(self) -> u32 {
        0xc07e_0000 ^ self.0
    }
}
