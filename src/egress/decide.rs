//! The decision: may this VM reach that?

use std::fmt;
use std::net::IpAddr;

use super::name::DnsName;
use super::rule::{Ports, Rule, Target};
use super::special::{METADATA_ADDRESSES, special_range};
use super::{Mode, Policy};

/// A name that resolved to the address in question, and is still good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The name, as the VM asked for it.
    pub name: DnsName,
    /// How many seconds the answer is good for.
    pub seconds: u64,
}

/// What else a decision about an address stands on.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Whether the address is one of the host's own.
    pub own: bool,
    /// Whether it is one of a VM that is to be reached.
    pub peer: bool,
    /// Which names resolved to it, as the VM was answered.
    pub answered: Vec<Answered>,
}

/// A decision with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be reached.
    pub allowed: bool,
    /// Why.
    pub because: Because,
}

/// Why something may or may not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// It is a VM that is to be reached, whatever the policy says.
    Peer,
    /// The policy is closed.
    Closed,
    /// It is one of the host's own addresses.
    OwnAddress,
    /// It is a metadata service.
    Metadata,
    /// It is not public.
    Special(&'static str),
    /// The policy is open, and this is public.
    Open,
    /// A rule says so.
    Rule(Rule),
    /// A rule names a host that resolved to this address.
    Answer(Rule, Answered),
    /// No rule does.
    NoRule,
}

impl Because {
    fn refusing(self) -> Verdict {
        Verdict { allowed: false, because: self }
    }

    fn allowing(self) -> Verdict {
        Verdict { allowed: true, because: self }
    }

    /// The narrowest rule that would allow what was refused for this reason, where one can: by name where one is
    /// known and a name helps.
    #[must_use]
    pub fn would_allow(
        &self,
        name: Option<&DnsName>,
        address: Option<IpAddr>,
        port: Option<u16>,
    ) -> Option<Rule> {
        if port == Some(0) {
            // No rule has it.
            return None;
        }
        let by_address = || address.map(|address| Target::Range(address.into()));
        let target = match self {
            Self::OwnAddress | Self::Metadata | Self::Special(_) => by_address(),
            Self::NoRule => name.cloned().map(Target::Name).or_else(by_address),
            // Rules open nothing there, or it needs none.
            Self::Closed | Self::Open | Self::Peer | Self::Rule(_) | Self::Answer(..) => None,
        };
        Some(Rule { target: target?, ports: port.map(|port| Ports { first: port, last: port }) })
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("it is a peer"),
            Self::Closed => f.write_str("the policy is `closed`"),
            Self::OwnAddress => f.write_str("it is an address of the host itself"),
            Self::Metadata => f.write_str("it is a cloud's metadata service"),
            Self::Special(what) => write!(f, "it is not public ({what})"),
            Self::Open => f.write_str("the policy is `open`, and it is public"),
            Self::Rule(rule) => write!(f, "the rule `{rule}`"),
            Self::Answer(rule, Answered { name, seconds }) => {
                write!(
                    f,
                    "the rule `{rule}`: `{name}` resolved to it, which is good for {seconds} s"
                )
            }
            Self::NoRule => f.write_str("the policy is `allow`, and no rule is about it"),
        }
    }
}

/// Whether an address may be reached, at a port of TCP or UDP, or by ICMP when there is none.
#[must_use]
pub fn decide_address(
    policy: &Policy,
    address: IpAddr,
    port: Option<u16>,
    facts: &Facts,
) -> Verdict {
    if facts.peer {
        return Because::Peer.allowing();
    }
    if policy.mode == Mode::Closed {
        return Because::Closed.refusing();
    }
    let ranges = policy.rules.iter().filter(|rule| rule.has_port(port)).filter_map(|rule| {
        match &rule.target {
            Target::Range(range) if range.contains(&address) => Some((rule, *range)),
            Target::Range(_) | Target::Name(_) | Target::Below(_) => None,
        }
    });
    let mut ranges = ranges.collect::<Vec<_>>().into_iter();
    let metadata = METADATA_ADDRESSES.contains(&address);
    if facts.own || metadata {
        let exact = ranges.find(|(_, range)| range.prefix_len() == range.max_prefix_len());
        let refused = if facts.own { Because::OwnAddress } else { Because::Metadata };
        return exact
            .map_or(refused.refusing(), |(rule, _)| Because::Rule(rule.clone()).allowing());
    }
    if let Some((special, what)) = special_range(address) {
        let inside = ranges.find(|(_, range)| special.contains(range));
        let refused = || Because::Special(what).refusing();
        return inside.map_or_else(refused, |(rule, _)| Because::Rule(rule.clone()).allowing());
    }
    if policy.mode == Mode::Open {
        return Because::Open.allowing();
    }
    if let Some((rule, _)) = ranges.next() {
        return Because::Rule(rule.clone()).allowing();
    }
    let by_name = facts.answered.iter().find_map(|answered| {
        let rule = policy
            .rules
            .iter()
            .find(|rule| rule.target.is_about(&answered.name) && rule.has_port(port))?;
        Some((rule.clone(), answered.clone()))
    });
    match by_name {
        Some((rule, answered)) => Because::Answer(rule, answered).allowing(),
        None => Because::NoRule.refusing(),
    }
}

/// Whether a name may be resolved, or reached at a port when there is one. That its addresses may be
/// reached is another question: a name that resolves to what is not public leads nowhere.
#[must_use]
pub fn decide_name(policy: &Policy, name: &DnsName, port: Option<u16>) -> Verdict {
    match policy.mode {
        Mode::Closed => Because::Closed.refusing(),
        Mode::Open => Because::Open.allowing(),
        Mode::Allow => {
            let about = |rule: &&Rule| {
                rule.target.is_about(name) && (port.is_none() || rule.has_port(port))
            };
            let rule = policy.rules.iter().find(about);
            rule.map_or(Because::NoRule.refusing(), |rule| Because::Rule(rule.clone()).allowing())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: Mode, rules: &[&str]) -> Policy {
        Policy { mode, rules: rules.iter().map(|rule| rule.parse().expect("a rule")).collect() }
    }

    #[track_caller]
    fn check(mode: Mode, rules: &[&str], wanted: &str, facts: &Facts, allowed: bool) {
        let (address, port) = match wanted.rsplit_once(' ') {
            Some((address, port)) => (address, port.parse().ok()),
            None => (wanted, None),
        };
        let address = address.parse().expect("an address");
        let verdict = decide_address(&policy(mode, rules), address, port, facts);
        assert_eq!(verdict.allowed, allowed, "{rules:?} {wanted}: {}", verdict.because);
    }

    #[test]
    fn open_is_the_public_internet_and_what_rules_add() {
        let none = Facts::default();
        for (rules, wanted, allowed) in [
            (&[][..], "1.1.1.1 443", true),
            (&[], "1.1.1.1", true),
            (&[], "10.1.2.3 443", false),
            (&[], "169.254.169.254 80", false),
            (&["10.1.2.3:5432"], "10.1.2.3 5432", true),
            (&["10.1.2.3:5432"], "10.1.2.3 5433", false),
            (&["10.1.2.3:5432"], "10.1.2.3", false),
            (&["10.0.0.0/8"], "10.1.2.3 80", true),
            (&["0.0.0.0/0"], "10.1.2.3 80", false),
            (&["8.0.0.0/5"], "10.1.2.3 80", false),
            (&["169.254.0.0/16"], "169.254.169.254 80", false),
            (&["169.254.0.0/16"], "169.254.1.1 80", true),
            (&["169.254.169.254"], "169.254.169.254 80", true),
        ] {
            check(Mode::Open, rules, wanted, &none, allowed);
            check(Mode::Closed, rules, wanted, &none, false);
        }
    }

    #[test]
    fn the_hosts_addresses_need_a_rule_each() {
        let own = Facts { own: true, ..Facts::default() };
        check(Mode::Open, &["11.1.0.0/24"], "11.1.0.2 80", &own, false);
        check(Mode::Open, &["11.1.0.2:80"], "11.1.0.2 80", &own, true);
        check(Mode::Open, &["11.1.0.2:80"], "11.1.0.2 22", &own, false);
    }

    #[test]
    fn allow_is_what_rules_say() {
        let answered = |name: &str| Facts {
            answered: vec![Answered { name: name.parse().expect("a name"), seconds: 60 }],
            ..Facts::default()
        };
        let rules = ["example.org:443", "*.example.net", "11.2.0.0/24:80-90"];
        for (wanted, facts, allowed) in [
            ("11.9.0.1 443", Facts::default(), false),
            ("11.2.0.80 80", Facts::default(), true),
            ("11.2.0.80 91", Facts::default(), false),
            ("11.9.0.1 443", answered("example.org"), true),
            ("11.9.0.1 80", answered("example.org"), false),
            ("11.9.0.1 80", answered("a.b.example.net"), true),
            ("11.9.0.1", answered("a.example.net"), true),
            ("11.9.0.1 80", answered("example.net"), false),
            // A name that resolves to what is not public opens nothing.
            ("10.9.0.1 80", answered("a.example.net"), false),
        ] {
            check(Mode::Allow, &rules, wanted, &facts, allowed);
        }
    }

    #[test]
    fn names_are_decided_before_they_are_resolved() {
        let allowing = policy(Mode::Allow, &["example.org:443", "*.example.net"]);
        let decide =
            |name: &str, port| decide_name(&allowing, &name.parse().expect("a name"), port).allowed;
        assert!(decide("example.org", None), "it is resolved for the port it may reach");
        assert!(decide("example.org", Some(443)));
        assert!(!decide("example.org", Some(80)));
        assert!(decide("x.example.net", Some(80)));
        assert!(!decide("example.com", None));
    }

    #[test]
    fn a_refusal_is_turned_round_by_name_where_that_helps() {
        let name: DnsName = "example.org".parse().expect("a name");
        let (name, address) = (Some(&name), Some(IpAddr::from([10, 9, 0, 1])));
        for (because, name, address, port, rule) in [
            (Because::NoRule, name, address, Some(443), Some("example.org:443")),
            (Because::NoRule, name, None, None, Some("example.org")),
            (Because::NoRule, None, address, Some(443), Some("10.9.0.1:443")),
            (Because::NoRule, name, address, Some(0), None),
            (Because::OwnAddress, name, address, Some(80), Some("10.9.0.1:80")),
            (Because::Metadata, name, address, None, Some("10.9.0.1")),
            (Because::Special("private"), name, address, None, Some("10.9.0.1")),
            (Because::Closed, name, address, Some(443), None),
        ] {
            let rule: Option<Rule> = rule.map(|rule| rule.parse().expect("a rule"));
            assert_eq!(because.would_allow(name, address, port), rule, "{because}");
        }
    }
}
