//! IPv6, for a guest on the bridge that has it: the host comes in, and it and its peers talk. Nothing else.
//!
//! ```text
//!  forward ── from tap0 ── from_guest6: not the guest's address            → counted, dropped
//!                                      │ about another flow (ICMP)        → dropped
//!                                      │ of a flow that was let through   → accept
//!                                      │ new to a peer: TCP, UDP, echo    → marked, accept
//!                                      └ anything else                    → answer6
//!          ├─ from uplink to the guest: of a flow that was let through    → accept
//!          │                            new, by the bridge or a peer      → marked, accept
//!          └─ anything else                                               → dropped
//!  input   ── from tap0 ── to_gateway6: from no address, as it looks for its own → dropped
//!                                      │ neither the guest's address nor that of its link → counted, dropped
//!                                      │ a neighbour is asked for, or says where it is → accept
//!                                      │ to a group: routers, listeners   → dropped
//!                                      └ anything else                    → answer6
//!  answer6 ── counted ── reset, or "prohibited"
//! ```
//!
//! No policy is about it, so nothing is judged anew, and nothing that is refused is told. Where the guest
//! wants to go that is no VM there is no route; the kernel says so.

use std::net::{IpAddr, Ipv6Addr};

use nlink::netlink::nftables::{
    CtState, Field, Match, PacketField, Rule, Set, SetElement, SetKeyType, Transaction,
};

use super::Ends;
use super::table::{TABLE, add_elements, answers, chain, fill, flush_set, go, rule};
use crate::net::link;
use crate::net::way::Way;

/// The VMs of the bridge that the guest reaches, and that reach it.
const PEERS: &str = "peers6";

/// The mark of a flow that was let through.
const LET_THROUGH: u32 = 1;

/// `meta nfproto` of IPv6.
const IPV6: u8 = 10;

const TCP: u8 = 6;
const UDP: u8 = 17;

// Types of ICMPv6 (RFC 4443, RFC 4861).
const ECHO_REQUEST: u8 = 128;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Its code for "administratively prohibited" (RFC 4443, section 3.1).
const ADMINISTRATIVELY_PROHIBITED: u8 = 1;

/// All groups (RFC 4291, section 2.7): network and length.
const GROUPS: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);

/// The set of peers and the chains, where the guest has IPv6.
pub(super) fn sets_and_chains(mut batch: Transaction, way: &Way) -> Transaction {
    if way.ipv6().is_none() {
        return batch;
    }
    batch = fill(batch, set(), elements(way.peers()));
    for name in ["answer6", "from_guest6", "to_gateway6"] {
        batch = batch.add_chain(chain(name));
    }
    batch
}

/// Replaces the peers, where the guest has IPv6.
pub(super) fn peers(batch: Transaction, way: &Way, peers: &[IpAddr]) -> Transaction {
    match way.ipv6() {
        Some(_) => add_elements(flush_set(batch, PEERS), &set(), &elements(peers)),
        None => batch,
    }
}

/// The rules, where the guest has IPv6. They are about nothing else, so they may stand before the others.
pub(super) fn rules(ends: Ends<'_>) -> Vec<Rule> {
    let (Some(guest), Some(host)) = (ends.way.ipv6(), ends.way.host6()) else { return Vec::new() };
    let guest = guest.address;
    let to_guest = || {
        let between = rule("forward").match_iif(ends.uplink).match_oif(link::TAP);
        between.match_daddr_v6(guest, 128)
    };
    let new_to_guest = || to_guest().match_ct_state(CtState::NEW);
    let mut rules = vec![
        go(ipv6(rule("forward").match_iif(link::TAP)), "from_guest6"),
        to_guest().match_ct_mark(LET_THROUGH).accept(),
        let_through(new_to_guest().match_saddr_v6(host, 128)),
        let_through(new_to_guest().match_in_set(PacketField::Ip6Saddr, PEERS)),
        go(ipv6(rule("input").match_iif(link::TAP)), "to_gateway6"),
    ];
    rules.extend(answers("answer6", |rule| rule.reject_icmpv6(ADMINISTRATIVELY_PROHIBITED)));
    rules.extend(from_guest_rules(ends, guest));
    rules.extend(to_gateway_rules(ends, guest));
    rules
}

fn from_guest_rules(ends: Ends<'_>, guest: Ipv6Addr) -> [Rule; 7] {
    let from_guest = || rule("from_guest6");
    let new_to_peer = || {
        let new = from_guest().match_oif(ends.uplink).match_ct_state(CtState::NEW);
        new.match_in_set(PacketField::Ip6Daddr, PEERS)
    };
    [
        from_guest().match_saddr_v6_not(guest, 128).counter_named("spoofed").drop(),
        from_guest().match_ct_state(CtState::RELATED).drop(),
        from_guest().match_ct_mark(LET_THROUGH).accept(),
        let_through(new_to_peer().match_l4proto(TCP)),
        let_through(new_to_peer().match_l4proto(UDP)),
        let_through(new_to_peer().match_icmpv6_type(ECHO_REQUEST)),
        go(from_guest(), "answer6"),
    ]
}

fn to_gateway_rules(ends: Ends<'_>, guest: Ipv6Addr) -> [Rule; 6] {
    let to_gateway = || rule("to_gateway6");
    let (groups, length) = GROUPS;
    [
        to_gateway().match_saddr_v6(Ipv6Addr::UNSPECIFIED, 128).drop(),
        to_gateway()
            .match_saddr_v6_not(guest, 128)
            .match_saddr_v6_not(ends.link_local, 128)
            .counter_named("spoofed")
            .drop(),
        to_gateway().match_icmpv6_type(NEIGHBOUR_SOLICITATION).accept(),
        to_gateway().match_icmpv6_type(NEIGHBOUR_ADVERTISEMENT).accept(),
        to_gateway().match_daddr_v6(groups, length).drop(),
        go(to_gateway(), "answer6"),
    ]
}

/// Lets a new flow go on.
fn let_through(rule: Rule) -> Rule {
    rule.set_ct_mark(LET_THROUGH).accept()
}

fn ipv6(rule: Rule) -> Rule {
    rule.then(Match::eq(Field::NfProto, IPV6))
}

fn set() -> Set {
    Set::new(TABLE, PEERS).key_type(SetKeyType::Ipv6Addr)
}

fn elements(peers: &[IpAddr]) -> Vec<SetElement> {
    let elements = peers.iter().filter_map(|peer| match peer {
        IpAddr::V4(_) => None,
        IpAddr::V6(peer) => Some(SetElement::ipv6(*peer)),
    });
    elements.collect()
}
