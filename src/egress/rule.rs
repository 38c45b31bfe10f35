//! One rule: who may be reached, and at which ports.
//!
//! ```text
//!  RULE   = TARGET [ ":" PORTS ]
//!  TARGET = name | "*." name | IPv4 [ "/" length ] | IPv6 [ "/" length ] | "[" IPv6 [ "/" length ] "]"
//!  PORTS  = port | first "-" last
//! ```
//!
//! An IPv6 target stands in brackets where ports follow it, as in URLs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::name::{BadName, DnsName};
use super::special::special_range;

/// Who a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One host, by its name.
    Name(DnsName),
    /// Every host below a name, at any depth; not the name itself.
    Below(DnsName),
    /// A range of addresses.
    Range(IpNet),
}

impl Target {
    /// Whether it is about this name.
    #[must_use]
    pub fn is_about(&self, name: &DnsName) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(parent) => name.is_below(parent),
            Self::Range(_) => false,
        }
    }
}

/// Ports, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The first, at least 1.
    pub first: u16,
    /// The last, at least the first.
    pub last: u16,
}

impl Ports {
    /// Whether a port is among them.
    #[must_use]
    pub fn contain(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// One rule. It is written, stored and sent as its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// Who may be reached.
    pub target: Target,
    /// At which ports of TCP and UDP; every one, and ICMP, when not given.
    pub ports: Option<Ports>,
}

#[cfg(feature = "daemon")]
impl schemars::JsonSchema for Rule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a name, `*.` and a name, an address or a range; then, if need be, `:` and a port or `first-last`",
        })
    }
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// The name in it is none.
    #[error("`{rule}` is no rule")]
    Name {
        /// The text.
        rule: String,
        /// Why.
        #[source]
        source: BadName,
    },
    /// The range in it is none.
    #[error("`{rule}` is no rule: `{range}` is no range of addresses")]
    Range {
        /// The text.
        rule: String,
        /// The part.
        range: String,
    },
    /// A range with bits that its length leaves out.
    #[error("`{rule}` is no rule: a range of that length around it is `{range}`")]
    HostBits {
        /// The text.
        rule: String,
        /// The range that was meant, or `ADDRESS/32`.
        range: IpNet,
    },
    /// The ports are none.
    #[error("`{rule}` is no rule: `{ports}` is neither a port (1 to 65535) nor `first-last`")]
    Ports {
        /// The text.
        rule: String,
        /// The part.
        ports: String,
    },
}

impl BadRule {
    /// What is wrong, why, and how rules are written.
    fn sentence(&self) -> String {
        let hint = Self::hint();
        match self {
            Self::Name { source, .. } => format!("{self}: {source}; {hint}"),
            Self::Range { .. } | Self::HostBits { .. } | Self::Ports { .. } => {
                format!("{self}; {hint}")
            }
        }
    }

    /// How rules are written.
    #[must_use]
    pub fn hint() -> &'static str {
        "a rule is `example.org`, `*.example.org:443`, `192.0.2.0/24`, `192.0.2.7:5432` or `[2001:db8::/32]:80-90`"
    }
}

impl Rule {
    /// Whether a port is one of the rule's. No port (ICMP, or a question about none) asks for a rule
    /// without ports.
    #[must_use]
    pub fn has_port(&self, port: Option<u16>) -> bool {
        match (self.ports, port) {
            (None, _) => true,
            (Some(ports), Some(port)) => ports.contain(port),
            (Some(_), None) => false,
        }
    }

    /// What its owner should know about it.
    pub(super) fn warning(&self, mode: Mode) -> Option<String> {
        let Target::Range(range) = &self.target else {
            let what = "addresses are open anyway, so names need no rule";
            return (mode == Mode::Open)
                .then(|| format!("`{self}` changes nothing: public {what}"));
        };
        if range.prefix_len() == 0 {
            return Some(format!(
                "`{self}` is every public address{}: names and other rules of that kind mean nothing beside it",
                if self.ports.is_some() { " at these ports" } else { "" }
            ));
        }
        let (special, what) = special_range(range.network())?;
        special
            .contains(range)
            .then(|| format!("`{self}` opens addresses that are not public ({what})"))
    }
}

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let (target, ports) = parts(text);
        let ports = ports.map(|ports| parse_ports(text, ports)).transpose()?;
        if let Some(inside) = target.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Ok(Self { target: Target::Range(parse_range(text, inside)?), ports });
        }
        let looks_numeric = target.contains(':')
            || target.contains('/')
            || target.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if looks_numeric && !target.is_empty() {
            return Ok(Self { target: Target::Range(parse_range(text, target)?), ports });
        }
        let name = |name: &str| {
            name.parse().map_err(|source| BadRule::Name { rule: text.to_owned(), source })
        };
        let target = match target.strip_prefix("*.") {
            Some(parent) => Target::Below(name(parent)?),
            None => Target::Name(name(target)?),
        };
        Ok(Self { target, ports })
    }
}

/// Target, in its brackets where it has some, and ports. A bare IPv6 target has colons of its own, and so no ports.
fn parts(text: &str) -> (&str, Option<&str>) {
    if text.starts_with('[')
        && let Some(end) = text.find(']')
    {
        let (target, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(ports) => (target, Some(ports)),
            None if rest.is_empty() => (target, None),
            // What follows the bracket is neither: let the ports be named as the mistake.
            None => (target, Some(&text[end..])),
        };
    }
    match text.split_once(':') {
        Some((target, ports)) if !ports.contains(':') && !target.is_empty() => {
            (target, Some(ports))
        }
        _ => (text, None),
    }
}

fn parse_ports(rule: &str, text: &str) -> Result<Ports, BadRule> {
    let wrong = || BadRule::Ports { rule: rule.to_owned(), ports: text.to_owned() };
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = port(first).zip(port(last)).ok_or_else(wrong)?;
    if first <= last { Ok(Ports { first, last }) } else { Err(wrong()) }
}

fn parse_range(rule: &str, text: &str) -> Result<IpNet, BadRule> {
    let address = text.parse::<IpAddr>().map(IpNet::from).ok();
    let range = address.or_else(|| text.parse::<IpNet>().ok());
    let range =
        range.ok_or_else(|| BadRule::Range { rule: rule.to_owned(), range: text.to_owned() })?;
    if range == range.trunc() {
        Ok(range)
    } else {
        Err(BadRule::HostBits { rule: rule.to_owned(), range: range.trunc() })
    }
}

/// The same as one text, for those that pass on nothing else: readers of configuration, requests and
/// command lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.sentence())]
pub struct UnreadableRule(BadRule);

impl TryFrom<String> for Rule {
    type Error = UnreadableRule;

    fn try_from(text: String) -> Result<Self, UnreadableRule> {
        text.parse().map_err(UnreadableRule)
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Range(range) if range.prefix_len() == range.max_prefix_len() => {
                range.addr().fmt(f)
            }
            Self::Range(range) => range.fmt(f),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.target, self.ports) {
            (target, None) => target.fmt(f),
            (target @ Target::Range(IpNet::V6(_)), Some(ports)) => write!(f, "[{target}]:{ports}"),
            (target, Some(ports)) => write!(f, "{target}:{ports}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for (text, written) in [
            ("example.org", "example.org"),
            ("Example.org.:443", "example.org:443"),
            ("*.example.org:80-90", "*.example.org:80-90"),
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4/32:22", "1.2.3.4:22"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Rule>().expect(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "`` is no rule"),
            ("example", "`example` is no rule"),
            ("*", "`*` is no rule"),
            ("a.*.org", "`a.*.org` is no rule"),
            ("*example.org", "`*example.org` is no rule"),
            ("example.org:0", "`0` is neither a port"),
            ("example.org:70000", "`70000` is neither a port"),
            ("example.org:90-80", "`90-80` is neither a port"),
            ("example.org:", "`` is neither a port"),
            ("example.org:+80", "`+80` is neither a port"),
            ("10.0.0.1/8", "around it is `10.0.0.0/8`"),
            ("10.0.0.0/33", "`10.0.0.0/33` is no range"),
            ("1.2.3", "`1.2.3` is no range"),
            ("1.2.3.4.5", "`1.2.3.4.5` is no range"),
            ("https://example.org", "is neither a port"),
            ("[::1]80", "`]80` is neither a port"),
            ("[[::1]]", "`]]` is neither a port"),
            ("[::1", "`[::1` is no range"),
            ("::1]", "`::1]` is no range"),
            ("[example.org]:443", "`example.org` is no range"),
            ("example.org]", "`example.org]` is no rule"),
            ("[example.org", "`[example.org` is no rule"),
            ("[]", "`` is no range"),
        ] {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_reader_that_passes_on_one_text_passes_on_the_whole_of_it() {
        let error = serde_json::from_str::<Rule>("\"a.*.org\"").expect_err("no rule").to_string();
        for part in ["`a.*.org` is no rule", "`*` stands only", "a rule is `example.org`"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_opens_more_than_it_seems_is_said() {
        let warning = |text: &str, mode| text.parse::<Rule>().expect(text).warning(mode);
        for text in ["0.0.0.0/0", "::/0", "0.0.0.0/0:443", "10.1.0.0/16", "169.254.169.254", "::1"]
        {
            assert!(warning(text, Mode::Allow).is_some(), "{text}");
        }
        for text in ["example.org", "1.2.3.0/24", "8.0.0.0/5"] {
            assert_eq!(warning(text, Mode::Allow), None, "{text}");
        }
        assert!(warning("example.org", Mode::Open).is_some());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_read_again(text in "[a-z0-9*:./\\[\\]-]{0,24}") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }
    }
}
