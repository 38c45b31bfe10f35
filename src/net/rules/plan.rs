//! A policy as a list of steps, in the order of the firewall's rules. Pure: no netlink.
//!
//! ```text
//!  exact ── rules for one address               own   ── exact, then refuse      (addresses of the host)
//!  judge ── exact, metadata → refuse, rules inside special ranges, special → refuse,
//!           open: everything    allow: other ranges, port 443 → refuse, then the sets of names
//!           and what is left → refuse
//!  redirect (new flows of TCP to port 443) ── what judge would let out by a range, or refuse: left as it
//!           is, then the sets of names → to the proxy that looks at the server name
//! ```
//!
//! So what only a name allows goes to port 443 by the proxy or not at all: by UDP (QUIC) the name would be
//! hidden, and clients fall back to TCP.
//!
//! A property test holds it against [`crate::egress::decide_address`]: the two must never differ.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net};

use crate::egress::{Mode, Policy, Ports, Rule, Target, special_range};

/// Where TLS servers listen that rules by name are about.
pub(crate) const TLS_PORT: u16 = 443;

const TLS: Ports = Ports { first: TLS_PORT, last: TLS_PORT };

/// Which destinations a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Every one.
    Everything,
    /// Those in a range.
    Range(Ipv4Net),
    /// The metadata services.
    Metadata,
    /// The special-purpose ranges.
    Special,
    /// Those in the set of names with these ports.
    Named,
}

/// What becomes of a packet that a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes out, and its flow with it.
    Allow,
    /// It is refused.
    Refuse,
    /// It goes where it wants to go, and is judged there.
    Leave,
    /// It goes to the proxy.
    Redirect,
}

/// One rule of the firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The destinations.
    pub(crate) to: To,
    /// The ports of TCP and UDP; without them it is about every packet.
    pub(crate) ports: Option<Ports>,
    /// What it does.
    pub(crate) outcome: Outcome,
}

/// The steps of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The rules for exactly one address.
    pub(crate) exact: Vec<Step>,
    /// What comes after them for addresses that are not the host's own.
    pub(crate) judge: Vec<Step>,
    /// What becomes of new flows of TCP to [`TLS_PORT`] that are not to the host's own addresses.
    pub(crate) redirect: Vec<Step>,
}

impl Plan {
    /// The plan that `policy` comes to.
    pub(crate) fn of(policy: &Policy) -> Self {
        if policy.mode == Mode::Closed {
            return Self::default();
        }
        let ranges: Vec<(Ipv4Net, Option<Ports>)> =
            policy.rules.iter().filter_map(|rule| Some((range(rule)?, rule.ports))).collect();
        let allow = |(range, ports)| Step { to: To::Range(range), ports, outcome: Outcome::Allow };
        let refuse = |to| Step { to, ports: None, outcome: Outcome::Refuse };
        let (exact, wide): (Vec<_>, Vec<_>) =
            ranges.into_iter().partition(|(range, _)| range.prefix_len() == 32);
        let (inside, others): (Vec<_>, Vec<_>) =
            wide.into_iter().partition(|(range, _)| lies_in_a_special_range(*range));
        let mut judge = vec![refuse(To::Metadata)];
        judge.extend(inside.into_iter().map(allow));
        judge.push(refuse(To::Special));
        match policy.mode {
            Mode::Open => {
                judge.push(Step { to: To::Everything, ports: None, outcome: Outcome::Allow });
            }
            Mode::Allow => {
                judge.extend(others.into_iter().map(allow));
                judge.push(Step { ports: Some(TLS), ..refuse(To::Everything) });
                judge.extend(name_ports(policy).into_iter().map(|ports| Step {
                    to: To::Named,
                    ports,
                    outcome: Outcome::Allow,
                }));
            }
            Mode::Closed => {}
        }
        let exact: Vec<Step> = exact.into_iter().map(allow).collect();
        let redirect = redirect(&exact, &judge);
        Self { exact, judge, redirect }
    }
}

/// The same steps for a new flow of TCP to port 443, as far as they are about it.
fn redirect(exact: &[Step], judge: &[Step]) -> Vec<Step> {
    let about = |step: &&Step| step.ports.is_none_or(|ports| ports.contain(TLS_PORT));
    let steps = exact.iter().chain(judge).filter(about);
    let steps = steps.filter(|step| step.to != To::Everything).map(|step| match step.to {
        To::Named => Step { outcome: Outcome::Redirect, ..*step },
        To::Everything | To::Range(_) | To::Metadata | To::Special => {
            Step { ports: None, outcome: Outcome::Leave, ..*step }
        }
    });
    let steps: Vec<Step> = steps.collect();
    let redirects = steps.iter().any(|step| step.outcome == Outcome::Redirect);
    if redirects { steps } else { Vec::new() }
}

/// The range of a rule, where it has one of IPv4.
fn range(rule: &Rule) -> Option<Ipv4Net> {
    match &rule.target {
        Target::Range(IpNet::V4(range)) => Some(*range),
        Target::Range(IpNet::V6(_)) | Target::Name(_) | Target::Below(_) => None,
    }
}

fn lies_in_a_special_range(range: Ipv4Net) -> bool {
    special_range(range.network().into())
        .is_some_and(|(special, _)| special.contains(&IpNet::V4(range)))
}

/// The ports that rules about names have: there is a set of addresses for each.
pub(crate) fn name_ports(policy: &Policy) -> BTreeSet<Option<Ports>> {
    let named = policy.rules.iter().filter(|rule| !matches!(rule.target, Target::Range(_)));
    match policy.mode {
        Mode::Allow => named.map(|rule| rule.ports).collect(),
        Mode::Open | Mode::Closed => BTreeSet::new(),
    }
}

/// Whether something that `old` allowed may be refused by `new`: then running flows are judged anew. It
/// says so sometimes where it is not the case. Either way that cuts flows to an address whose last answer
/// has expired, though a rule about its name stays: no set holds the address any more.
pub(crate) fn narrows(old: &Policy, new: &Policy) -> bool {
    let rank = |mode| match mode {
        Mode::Closed => 0,
        Mode::Allow => 1,
        Mode::Open => 2,
    };
    let kept = |rule: &Rule| {
        let public_anyway = new.mode == Mode::Open && !matches!(rule.target, Target::Range(_));
        public_anyway || new.rules.contains(rule)
    };
    old.mode != Mode::Closed && (rank(new.mode) < rank(old.mode) || !old.rules.iter().all(kept))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::egress::{Answered, Because, Facts, METADATA_ADDRESSES, decide_address};

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Protocol {
        Tcp,
        Udp,
    }

    /// What the rules do to a packet: they are looked at in order, as the kernel does.
    fn passes(
        policy: &Policy,
        address: Ipv4Addr,
        (protocol, port): (Protocol, Option<u16>),
        facts: &Facts,
    ) -> bool {
        let plan = Plan::of(policy);
        let goes_to = |step: &&Step| match step.to {
            To::Everything => true,
            To::Range(range) => range.contains(&address),
            To::Metadata => METADATA_ADDRESSES.contains(&IpAddr::V4(address)),
            To::Special => special_range(address.into()).is_some(),
            To::Named => facts.answered.iter().any(|answered| {
                policy
                    .rules
                    .iter()
                    .any(|rule| rule.ports == step.ports && rule.target.is_about(&answered.name))
            }),
        };
        if (protocol, port) == (Protocol::Tcp, Some(TLS_PORT)) && !facts.own {
            let first = plan.redirect.iter().find(goes_to);
            if first.is_some_and(|step| step.outcome == Outcome::Redirect) {
                return true;
            }
        }
        let has_port = |step: &&Step| {
            step.ports.is_none_or(|ports| port.is_some_and(|port| ports.contain(port)))
        };
        let mut steps = plan.exact.iter().chain(plan.judge.iter().filter(|_| !facts.own));
        let first = steps.find(|step| goes_to(step) && has_port(step));
        first.is_some_and(|step| step.outcome == Outcome::Allow)
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let targets = prop::sample::select(vec![
            "a.example.org",
            "*.example.org",
            "b.example.net",
            "11.2.0.80",
            "11.2.0.0/24",
            "10.1.2.3",
            "10.1.0.0/16",
            "8.0.0.0/5",
            "0.0.0.0/0",
            "169.254.169.254",
            "169.254.0.0/16",
            "168.63.129.16",
            "168.63.0.0/16",
            "224.0.0.0/4",
            "128.0.0.0/1",
        ]);
        let ports = prop::sample::select(vec!["", ":80", ":443", ":80-90", ":85-500"]);
        (targets, ports)
            .prop_map(|(target, ports)| format!("{target}{ports}").parse().expect("a rule"))
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let mode = prop::sample::select(vec![Mode::Open, Mode::Allow, Mode::Closed]);
        (mode, prop::collection::vec(rule(), 0..5)).prop_map(|(mode, rules)| Policy { mode, rules })
    }

    fn address() -> impl Strategy<Value = Ipv4Addr> {
        let known = [
            "11.2.0.80",
            "11.2.0.81",
            "10.1.2.3",
            "10.1.9.9",
            "10.9.9.9",
            "169.254.169.254",
            "169.254.1.1",
            "168.63.129.16",
            "168.63.129.17",
            "224.0.0.1",
            "1.1.1.1",
            "127.0.0.1",
        ];
        let known = known.map(|text| text.parse().expect("an address")).to_vec();
        prop_oneof![prop::sample::select(known), any::<u32>().prop_map(Ipv4Addr::from_bits)]
    }

    fn facts() -> impl Strategy<Value = Facts> {
        let names = ["a.example.org", "x.y.example.org", "example.org", "b.example.net"];
        let names = prop::collection::vec(prop::sample::select(names.to_vec()), 0..3);
        (any::<bool>(), names).prop_map(|(own, names)| {
            let answered =
                |name: &str| Answered { name: name.parse().expect("a name"), seconds: 9 };
            let answered = names.into_iter().map(answered).collect();
            Facts { own, peer: false, answered }
        })
    }

    fn port() -> impl Strategy<Value = Option<u16>> {
        prop::sample::select(vec![
            None,
            Some(22),
            Some(80),
            Some(87),
            Some(90),
            Some(443),
            Some(501),
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_rules_are_the_decision(
            policy in policy(), address in address(), port in port(), facts in facts(),
        ) {
            let decided = decide_address(&policy, address.into(), port, &facts);
            let by_name = matches!(decided.because, Because::Answer(..));
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let hidden = by_name && port == Some(TLS_PORT) && protocol == Protocol::Udp;
                let passes = passes(&policy, address, (protocol, port), &facts);
                prop_assert_eq!(passes, decided.allowed && !hidden, "{:?} {:?}", protocol, decided);
            }
        }

        #[test]
        fn what_does_not_narrow_refuses_nothing_that_was_allowed(
            old in policy(), new in policy(), more in prop::collection::vec(rule(), 0..2),
            address in address(), port in port(), facts in facts(),
        ) {
            let wider = Policy { mode: new.mode, rules: [old.rules.clone(), more].concat() };
            for new in [new, wider] {
                if !narrows(&old, &new) && decide_address(&old, address.into(), port, &facts).allowed {
                    let decided = decide_address(&new, address.into(), port, &facts);
                    prop_assert!(decided.allowed, "{:?}", decided.because);
                }
            }
        }
    }
}
