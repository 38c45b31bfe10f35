//! The table, its sets, and the chains that no policy changes.

use std::net::IpAddr;

use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, CtState, CtStatus, Family, Field, FilterHook, LimitExpr,
    LimitUnit, LogExpr, Match, NFT_MSG_DELSETELEM, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE, NatHook, Object, ObjectState, PacketField, Policy, Priority,
    RawMessage, Rule, Set, SetElement, SetKeyType, Transaction, Value,
};
use nlink::netlink::{Connection, Nftables};

use super::plan::TLS_PORT;
use super::{Ends, ResolverTransport, ipv6};
use crate::egress::{METADATA_ADDRESSES, SPECIAL_PURPOSE_RANGES};
use crate::net::link;
use crate::net::ranges::{Prefix, disjoint};
use crate::net::way::Way;

/// The table.
pub(super) const TABLE: &str = "cove";
/// The host's own addresses.
pub(super) const HOST_ADDRESSES: &str = "host_addresses";
/// The special-purpose ranges.
pub(super) const SPECIAL_PURPOSE: &str = "special_purpose";
/// The VMs of the bridge that the guest reaches, and that reach it.
const PEERS: &str = "peers";
/// The metadata services.
pub(super) const METADATA: &str = "metadata";
/// Counts the refusals that were not logged.
const UNTOLD: &str = "untold";
/// What the uplink carries.
const CARRIED: &str = "carried";
/// What has ports.
pub(super) const WITH_PORTS: &str = "with_ports";

/// The group of the firewall's log.
pub(crate) const LOG_GROUP: u16 = 1;
/// How much of a packet is logged: the longest header of IPv4, and the ports behind it.
pub(crate) const LOGGED_BYTES: u32 = 64;
/// How many refusals a second are logged, and how many at once.
const LOGGED_PER_SECOND: u64 = 50;
const LOGGED_AT_ONCE: u32 = 200;

const DNS: u16 = 53;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// ICMP's code for "administratively prohibited" (RFC 1812, section 5.2.7.1).
const ADMINISTRATIVELY_PROHIBITED: u8 = 13;
/// An ICMP echo request.
const ECHO_REQUEST: u8 = 8;
/// `meta nfproto` of IPv4.
const IPV4: u8 = 2;

/// The chains that only other chains lead to.
const PLAIN_CHAINS: [&str; 11] = [
    "answer",
    "refuse",
    "spoofed",
    "allow",
    "exact",
    "own",
    "judge",
    "from_guest",
    "to_guest",
    "redirect",
    "redirected",
];

/// How many elements go into one message, whose list may have 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 512;

/// The mark of a flow that began outside: no generation has it.
pub(super) const FROM_OUTSIDE: u32 = 1 << 30;

/// Adds the whole table to an empty namespace. Nothing is let out until a policy is told.
pub(crate) fn table(mut batch: Transaction, ends: Ends<'_>, host: &[Prefix]) -> Transaction {
    batch = batch.add_table(TABLE, Family::Inet);
    for counter in ["refused", "spoofed", "unasked", UNTOLD] {
        batch = batch.add_object(&Object::counter(TABLE, counter));
    }
    batch = fill(batch, address_ranges(SPECIAL_PURPOSE), special_purpose());
    batch = fill(batch, address_ranges(HOST_ADDRESSES), ranges(host));
    batch = fill(batch, addresses(METADATA), metadata());
    batch = fill(batch, addresses(PEERS), peers4(ends.way.peers()));
    for (set, protocols) in [(CARRIED, &[ICMP, TCP, UDP][..]), (WITH_PORTS, &[TCP, UDP])] {
        let elements = protocols.iter().map(|protocol| SetElement::inet_proto(*protocol)).collect();
        batch = fill(batch, Set::new(TABLE, set).key_type(SetKeyType::InetProto), elements);
    }
    for name in PLAIN_CHAINS {
        batch = batch.add_chain(chain(name));
    }
    for (name, hook) in [
        ("forward", FilterHook::Forward),
        ("input", FilterHook::Input),
        ("output", FilterHook::Output),
    ] {
        let base = BaseChain::filter(hook, Priority::Filter).policy(Policy::Drop);
        batch = batch.add_chain(chain(name).base(base));
    }
    let prerouting = BaseChain::nat(NatHook::Prerouting, Priority::DstNat).policy(Policy::Accept);
    batch = batch.add_chain(chain("prerouting").base(prerouting));
    let postrouting = BaseChain::nat(NatHook::Postrouting, Priority::SrcNat).policy(Policy::Accept);
    batch = batch.add_chain(chain("postrouting").base(postrouting));
    batch = ipv6::sets_and_chains(batch, ends.way);
    let prohibited = |rule: Rule| rule.reject_icmp(ADMINISTRATIVELY_PROHIBITED);
    let mut rules: Vec<Rule> = answers("answer", prohibited).into();
    rules.extend(told_rules());
    rules.extend(own_rules());
    rules.extend(ipv6::rules(ends));
    rules.extend(forward_rules(ends));
    rules.extend(prerouting_rules(ends));
    rules.extend(postrouting_rules(ends));
    rules.extend(input_rules(ends));
    rules.extend(output_rules(ends));
    rules.into_iter().fold(batch, Transaction::add_rule)
}

/// Replaces the host's addresses.
pub(crate) fn host_addresses(batch: Transaction, host: &[Prefix]) -> Transaction {
    let batch = flush_set(batch, HOST_ADDRESSES);
    add_elements(batch, &address_ranges(HOST_ADDRESSES), &ranges(host))
}

/// Replaces the peers.
pub(crate) fn peers(batch: Transaction, way: &Way, peers: &[IpAddr]) -> Transaction {
    let batch = add_elements(flush_set(batch, PEERS), &addresses(PEERS), &peers4(peers));
    ipv6::peers(batch, way, peers)
}

/// How many refusals were not logged.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) async fn untold(netlink: &Connection<Nftables>) -> Result<u64, nlink::Error> {
    let objects = netlink.list_objects_in(TABLE, Family::Inet).await?;
    let counter = objects.into_iter().find(|object| object.name == UNTOLD);
    Ok(match counter.map(|counter| counter.state) {
        Some(ObjectState::Counter { packets, .. }) => packets,
        Some(_) | None => 0,
    })
}

/// The beginning of `from_guest`, up to what depends on the policy.
pub(super) fn first_of_from_guest(ends: Ends<'_>) -> Vec<Rule> {
    let carried = Match::ne(Field::L4Proto, Value::set(CARRIED));
    let mut rules = vec![
        go(not_from_guest(rule("from_guest"), ends), "spoofed"),
        rule("from_guest").match_ct_state(CtState::RELATED).drop(),
        // What came too late for its connection is nothing that somebody tried.
        go(rule("from_guest").match_ct_state(CtState::INVALID), "answer"),
        refuse(rule("from_guest").then(carried)),
        refuse(rule("from_guest").match_oif_not(ends.uplink)),
    ];
    if ends.way.leads_in() {
        rules.push(rule("from_guest").match_ct_mark(FROM_OUTSIDE).accept());
        rules.push(go(rule("from_guest").match_in_set(PacketField::Ip4Daddr, PEERS), "allow"));
    }
    rules.push(go(rule("from_guest").match_in_set(PacketField::Ip4Daddr, HOST_ADDRESSES), "own"));
    rules
}

/// `to_guest`: what comes back to the guest. Of TCP nothing comes that the guest does not answer, and its
/// answers are judged. Of others a sender may go on for as long as it likes, so what comes has to belong to
/// a flow of this generation, and where it comes from the host, to one that was allowed although it leads
/// there. News about a flow (ICMP) may come from anywhere.
pub(super) fn to_guest_rules((generation, own_generation): (u32, u32)) -> [Rule; 6] {
    let from_host = rule("to_guest").match_in_set(PacketField::Ip4Saddr, HOST_ADDRESSES);
    let own = || rule("to_guest").match_ct_mark(own_generation);
    [
        rule("to_guest").match_l4proto(TCP).match_ct_state(CtState::ESTABLISHED).accept(),
        own().match_in_set(PacketField::Ip4Saddr, HOST_ADDRESSES).accept(),
        own().match_ct_state(CtState::RELATED).accept(),
        from_host.match_ct_state(CtState::ESTABLISHED).counter_named("unasked").drop(),
        rule("to_guest").match_ct_mark(generation).accept(),
        unasked("to_guest"),
    ]
}

/// Drops what nobody asked for.
fn unasked(chain: &str) -> Rule {
    rule(chain).counter_named("unasked").drop()
}

/// Counts what comes to `chain`, and answers it: TCP is reset, the rest hears of it as `prohibited` says.
pub(super) fn answers(chain: &str, prohibited: impl FnOnce(Rule) -> Rule) -> [Rule; 4] {
    [
        rule(chain).counter_named("refused"),
        rule(chain).reject_tcp_reset(),
        prohibited(rule(chain)),
        rule(chain).drop(),
    ]
}

/// What is refused is logged, as far as the rate allows, and otherwise counted.
fn told_rules() -> [Rule; 5] {
    let rate = || LimitExpr::packets(LOGGED_PER_SECOND, LimitUnit::Second).burst(LOGGED_AT_ONCE);
    // Each packet is sent at once: the kernel would rather wait for more.
    let log = || LogExpr::new().group(LOG_GROUP).snaplen(LOGGED_BYTES).queue_threshold(1);
    let logged = |chain| rule(chain).expr(rate()).expr(log());
    [
        go(logged("refuse"), "answer"),
        go(rule("refuse").counter_named(UNTOLD), "answer"),
        rule("spoofed").counter_named("spoofed"),
        logged("spoofed").drop(),
        rule("spoofed").counter_named(UNTOLD).drop(),
    ]
}

fn own_rules() -> [Rule; 2] {
    [rule("own").jump(name("exact")), refuse(rule("own"))]
}

fn forward_rules(ends: Ends<'_>) -> Vec<Rule> {
    let to_guest = || {
        let between = rule("forward").match_iif(ends.uplink).match_oif(link::TAP);
        between.match_daddr_v4(ends.way.guest(), 32)
    };
    let mut rules = vec![go(ipv4(rule("forward")).match_iif(link::TAP), "from_guest")];
    if ends.way.leads_in() {
        rules.push(to_guest().match_ct_mark(FROM_OUTSIDE).accept());
        rules.extend([HOST_ADDRESSES, PEERS].map(|set| {
            let new = to_guest().match_ct_state(CtState::NEW);
            new.match_in_set(PacketField::Ip4Saddr, set).set_ct_mark(FROM_OUTSIDE).accept()
        }));
    }
    let known = CtState::ESTABLISHED | CtState::RELATED;
    rules.push(go(to_guest().match_ct_state(known), "to_guest"));
    rules.push(unasked("forward"));
    rules
}

fn prerouting_rules(ends: Ends<'_>) -> [Rule; 3] {
    let new_to_tls = || {
        let from_tap = rule("prerouting").match_iif(link::TAP);
        from_tap.match_saddr_v4(ends.way.guest(), 32).match_tcp_dport(TLS_PORT)
    };
    [
        new_to_tls().match_in_set(PacketField::Ip4Daddr, HOST_ADDRESSES).accept(),
        new_to_tls().match_in_set(PacketField::Ip4Daddr, PEERS).accept(),
        new_to_tls().jump(name("redirect")),
    ]
}

/// The uplink to the bridge has no address of its own, and the host's rules know no other than the guest's.
fn postrouting_rules(ends: Ends<'_>) -> Option<Rule> {
    let own = || rule("postrouting").match_oif(ends.uplink).match_saddr_v4(link::GATEWAY, 32);
    ends.way.leads_in().then(|| own().snat(ends.way.guest(), None))
}

fn input_rules(ends: Ends<'_>) -> [Rule; 7] {
    let from_tap = || rule("input").match_iif(link::TAP);
    let to_gateway = || from_tap().match_daddr_v4(link::GATEWAY, 32);
    let redirected = to_gateway().match_tcp_dport(link::PROXY_PORT);
    [
        go(not_from_guest(from_tap(), ends), "spoofed"),
        to_gateway().match_icmp_type(ECHO_REQUEST).accept(),
        to_gateway().match_udp_dport(DNS).accept(),
        to_gateway().match_tcp_dport(DNS).accept(),
        go(redirected.match_ct_status(CtStatus::DST_NAT), "redirected"),
        // With what routers say of the packets of the proxy's connections.
        rule("input")
            .match_iif(ends.uplink)
            .match_ct_state(CtState::ESTABLISHED | CtState::RELATED)
            .accept(),
        refuse(ipv4(from_tap())),
    ]
}

/// What the keeper itself sends: answers, questions to the uplink's resolver, and on the bridge what its proxy
/// carries, which in mode `user` does not come by here.
fn output_rules(ends: Ends<'_>) -> Vec<Rule> {
    let resolver = ends.way.resolver();
    let to_uplink = || rule("output").match_oif(ends.uplink);
    let to_resolver = || to_uplink().match_daddr_v4(*resolver.ip(), 32);
    let by_tcp = to_resolver().match_tcp_dport(resolver.port());
    let mut rules = vec![
        rule("output").match_oif(link::TAP).accept(),
        to_resolver().match_udp_dport(resolver.port()).accept(),
        match ends.way.transport() {
            ResolverTransport::UdpAndTcp => by_tcp.accept(),
            // Refused at once rather than waited for.
            ResolverTransport::Udp => by_tcp.reject_tcp_reset(),
        },
    ];
    match ends.way {
        Way::User { .. } => {}
        // No name leads there, so the proxy has no business there either.
        Way::Bridge { .. } => rules.push(
            to_uplink()
                .match_not_in_interval_set(PacketField::Ip4Daddr, HOST_ADDRESSES)
                .match_not_in_interval_set(PacketField::Ip4Daddr, SPECIAL_PURPOSE)
                .match_tcp_dport(TLS_PORT)
                .accept(),
        ),
    }
    rules.push(to_uplink().reject_tcp_reset());
    rules
}

/// A rule of a chain of ours.
pub(super) fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain)
}

/// Has the packets that `rule` matches refused.
pub(super) fn refuse(rule: Rule) -> Rule {
    go(rule, "refuse")
}

/// Has the packets that `rule` matches go on in `chain`, and not come back.
pub(super) fn go(rule: Rule, chain: &str) -> Rule {
    rule.goto(name(chain))
}

/// The name of a chain of ours.
pub(super) fn name(chain: &str) -> ChainName {
    ChainName::new(chain).expect("names of our own are short words")
}

/// A chain of ours.
pub(super) fn chain(chain: &str) -> Chain {
    Chain::new(TABLE, chain).expect("names of our own are short words")
}

fn ipv4(rule: Rule) -> Rule {
    rule.then(Match::eq(Field::NfProto, IPV4))
}

fn not_from_guest(rule: Rule, ends: Ends<'_>) -> Rule {
    rule.match_saddr_v4_not(ends.way.guest(), 32)
}

fn addresses(name: &str) -> Set {
    Set::new(TABLE, name).key_type(SetKeyType::Ipv4Addr)
}

fn address_ranges(name: &str) -> Set {
    addresses(name).interval()
}

fn peers4(peers: &[IpAddr]) -> Vec<SetElement> {
    let elements = peers.iter().filter_map(|peer| match peer {
        IpAddr::V4(peer) => Some(SetElement::ipv4(*peer)),
        IpAddr::V6(_) => None,
    });
    elements.collect()
}

fn special_purpose() -> Vec<SetElement> {
    let ranges = SPECIAL_PURPOSE_RANGES.iter().filter_map(|(range, _)| match range {
        ipnet::IpNet::V4(range) => Some(SetElement::ipv4_range(range.network(), range.broadcast())),
        ipnet::IpNet::V6(_) => None,
    });
    ranges.collect()
}

fn metadata() -> Vec<SetElement> {
    let addresses = METADATA_ADDRESSES.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(SetElement::ipv4(*address)),
        IpAddr::V6(_) => None,
    });
    addresses.collect()
}

fn ranges(prefixes: &[Prefix]) -> Vec<SetElement> {
    let disjoint = disjoint(prefixes.iter().copied()).into_iter();
    disjoint.map(|range| SetElement::ipv4_range(range.address, range.last())).collect()
}

pub(super) fn fill(batch: Transaction, set: Set, elements: Vec<SetElement>) -> Transaction {
    let batch = batch.add_set(set.clone());
    add_elements(batch, &set, &elements)
}

/// Adds elements, in as many messages as they need.
pub(super) fn add_elements(batch: Transaction, set: &Set, elements: &[SetElement]) -> Transaction {
    let parts = elements.chunks(ELEMENTS_PER_MESSAGE);
    parts.fold(batch, |batch, part| batch.add_set_elements(set, part))
}

/// Empties a set: a removal that names no element, which the library has no word for.
pub(super) fn flush_set(batch: Transaction, set: &str) -> Transaction {
    let mut attributes = Vec::new();
    for (kind, text) in [(NFTA_SET_ELEM_LIST_TABLE, TABLE), (NFTA_SET_ELEM_LIST_SET, set)] {
        // A netlink attribute: length with its header, kind, text with a zero, padded to words.
        let length = u16::try_from(4 + text.len() + 1).expect("names of our own are short words");
        attributes.extend(length.to_ne_bytes());
        attributes.extend(kind.to_ne_bytes());
        attributes.extend(text.as_bytes());
        attributes.resize((attributes.len() + 1).next_multiple_of(4), 0);
    }
    batch.raw(RawMessage::new(NFT_MSG_DELSETELEM, Family::Inet).attrs(attributes))
}
