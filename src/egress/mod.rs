//! What a VM may reach: the rules as people write them, and the one decision about them.
//!
//! ```text
//!  a peer on the bridge    ── yes, whatever else is said
//!  own address of the host ── only a rule for exactly this address
//!  metadata service        ── only a rule for exactly this address
//!  special-purpose range   ── only a rule for a range that lies in it
//!  public address          ── open: yes    allow: a rule's range, or a rule's name that resolved to it
//!  closed                  ── nothing, whatever the rules say
//! ```
//!
//! Pure: it knows no sockets, no namespaces and no VMs. The firewall, the resolver, the check of TLS server
//! names and `cove net explain` all stand on it, so they cannot disagree.

mod decide;
mod name;
mod rule;
mod special;

pub use self::decide::{Answered, Because, Facts, Verdict, decide_address, decide_name};
pub use self::name::{BadName, DnsName};
pub use self::rule::{BadRule, Ports, Rule, Target, UnreadableRule};
pub use self::special::{METADATA_ADDRESSES, SPECIAL_PURPOSE_RANGES, SpecialRange, special_range};

use serde::{Deserialize, Serialize};

/// How many rules a VM may have. Each is a rule of the firewall.
pub const MAX_RULES: usize = 256;

/// What a VM may reach at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The public internet. Rules open what is not public.
    #[default]
    Open,
    /// What rules name.
    Allow,
    /// Nothing.
    Closed,
}

impl Mode {
    /// The mode as people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Allow => "allow",
            Self::Closed => "closed",
        }
    }
}

/// A VM's outbound policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What it may reach at all.
    #[serde(default)]
    pub mode: Mode,
    /// What else it may reach, at most [`MAX_RULES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Policy {
    /// The same with these rules added, each where it is not there yet.
    #[must_use]
    pub fn with<'a>(&self, rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut policy = self.clone();
        for rule in rules {
            if !policy.rules.contains(rule) {
                policy.rules.push(rule.clone());
            }
        }
        policy
    }

    /// What its owner should know about it: a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        if self.mode == Mode::Closed && !self.rules.is_empty() {
            return vec![
                "the policy is `closed`: whatever its rules say, it opens nothing".to_owned(),
            ];
        }
        self.rules.iter().filter_map(|rule| rule.warning(self.mode)).collect()
    }
}
