//! Networks of VMs as clients see and change them.

use serde::{Deserialize, Serialize};

use crate::egress::{Policy, Rule};

/// `net.show`, and the answer of `net.allow` and `net.deny`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetShow {
    /// The VM's name.
    pub name: String,
    /// Its network: `user`, `bridge` or `none`.
    pub mode: super::NetMode,
    /// Its address, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its IPv6 address, while it runs and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<String>,
    /// The names of the VMs that it reaches over the bridge, and that reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// Its outbound policy, in force at once where it runs.
    pub egress: Policy,
    /// Rules besides, which plugins have asked for: those of this boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wished: Vec<Rule>,
    /// What its owner should know about that policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `net.explain`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetExplain {
    /// The VM: its name, id, or an unambiguous prefix of the id.
    pub vm: String,
    /// A name or an address.
    pub host: String,
    /// A port of TCP; none asks for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Why a VM may or may not reach a host: the answer of `net.explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetExplanation {
    /// Whether it may.
    pub allowed: bool,
    /// Why, as a sentence.
    pub because: String,
    /// For a name: what is said of each address that it resolves to, for this VM and now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressExplanation>,
    /// The rule that would allow it, where one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<Rule>,
}

/// The same of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AddressExplanation {
    /// The address.
    pub address: std::net::IpAddr,
    /// Whether it may be reached.
    pub allowed: bool,
    /// Why.
    pub because: String,
}

/// `net.denials`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetDenials {
    /// The VM: its name, id, or an unambiguous prefix of the id.
    pub vm: String,
    /// Only those after this number.
    #[serde(default)]
    pub after: u64,
    /// Wait so many milliseconds for one when there is none yet, at most 30,000.
    #[serde(default)]
    pub wait_ms: u64,
}

/// The answer of `net.denials`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Denials {
    /// The last ones of this boot, oldest first, at most 256 in an answer.
    pub denials: Vec<Denial>,
    /// How many after the number asked for were thrown away, because there were too many.
    pub lost: u64,
}

/// Something that a VM was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// Its number, counted from 1 at each boot.
    pub number: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What was tried.
    pub what: Tried,
    /// Why it was refused.
    pub because: String,
    /// The rule that would allow it, where one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_allow: Option<Rule>,
    /// How often the same was refused in a row.
    pub times: u64,
}

/// What a VM has tried. Names are what the guest asked for: at most 253 characters that host names have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Tried {
    /// To resolve a name.
    Resolve {
        /// The name.
        name: String,
    },
    /// To reach an address.
    Reach {
        /// `tcp`, `udp`, `icmp`, or the protocol's number.
        protocol: String,
        /// The address.
        address: std::net::IpAddr,
        /// The port, where the protocol has ports.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// The name that resolved to it last, where one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// To greet a TLS server by a name that no rule is about, at an address that one is about.
    Greet {
        /// The address.
        address: std::net::IpAddr,
        /// The server name; none when the greeting had none, or was no TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// To send with another address than its own.
    Spoof {
        /// The address.
        address: std::net::IpAddr,
    },
}

/// `net.allow` and `net.deny`: a rule is added to a VM's policy, or taken back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetRule {
    /// The VM: its name, id, or an unambiguous prefix of the id.
    pub vm: String,
    /// The rule.
    pub rule: Rule,
}
