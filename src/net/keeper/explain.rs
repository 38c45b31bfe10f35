//! Why the VM may or may not reach something, in words, and the rule that would allow it.

use std::net::IpAddr;

use super::known::Known;
use crate::egress::{Answered, Because, DnsName, Mode, Verdict};
use crate::wire::rpc::{AddressExplanation, NetExplanation};

/// What is said of every address of IPv6 that is no peer's: policies are about IPv4.
const NO_IPV6: &str = "by IPv6 the VM reaches nothing but its peers on the bridge";

/// Explains an address. None before a policy is in force.
pub(super) fn address(known: &Known, address: IpAddr, port: Option<u16>) -> Option<NetExplanation> {
    let Verdict { allowed, because } = known.decide(address, port, None)?;
    let would_allow = because.would_allow(known.last_name(address).as_ref(), Some(address), port);
    let no_ipv6 = address.is_ipv6() && because != Because::Peer;
    let (because, addresses) = (because.to_string(), Vec::new());
    Some(match no_ipv6 {
        false => NetExplanation { allowed, because, addresses, would_allow },
        true => NetExplanation {
            allowed: false,
            because: NO_IPV6.to_owned(),
            addresses,
            would_allow: None,
        },
    })
}

/// Explains a name that resolves to `addresses` now, if anybody answered. None before a policy is in force.
pub(super) fn name(
    known: &Known,
    name: &DnsName,
    port: Option<u16>,
    addresses: Option<&[IpAddr]>,
) -> Option<NetExplanation> {
    let Verdict { allowed, because } = known.decide_name(name, port)?;
    let told = addresses.unwrap_or_default().iter().map(|address| {
        let verdict = known.decide(*address, port, Some(name))?;
        let because = match &verdict.because {
            // Nobody has told the VM yet.
            Because::Answer(rule, Answered { seconds: 0, .. }) => {
                format!("the rule `{rule}`, as soon as the VM asks for the name")
            }
            because => because.to_string(),
        };
        let (address, allowed) = (*address, verdict.allowed);
        Some(AddressExplanation { address, allowed, because })
    });
    let told: Vec<AddressExplanation> = told.collect::<Option<_>>()?;
    let would_allow = because.would_allow(Some(name), None, port);
    let (allowed, because) = match (allowed, addresses) {
        (false, _) => (false, because.to_string()),
        (true, None) => (false, "its nameserver does not answer now".to_owned()),
        (true, Some([])) => (false, "it has no address of IPv4 now".to_owned()),
        (true, Some(_)) if told.iter().all(|address| !address.allowed) => {
            (false, "it resolves to nothing that may be reached".to_owned())
        }
        (true, Some(_)) => (true, by_name(known, &because)),
    };
    Some(NetExplanation { allowed, because, addresses: told, would_allow })
}

/// Explains the name of a VM on the bridge, which has these addresses now. None before a policy is in force.
pub(super) fn vm(known: &Known, port: Option<u16>, addresses: &[IpAddr]) -> Option<NetExplanation> {
    match addresses {
        [] => Some(NetExplanation {
            allowed: false,
            because: "no VM of this name is on the bridge now".to_owned(),
            addresses: Vec::new(),
            would_allow: None,
        }),
        [first, ..] => address(known, *first, port),
    }
}

fn by_name(known: &Known, because: &Because) -> String {
    let open = known.policy().is_some_and(|policy| policy.mode == Mode::Open);
    if open { "the policy is `open`".to_owned() } else { because.to_string() }
}
