//! What a guest may reach, as nftables rules. Pure: it knows addresses and makes documents.
//!
//! ```text
//!  forward (drop) ── from tap0 ── from_guest: not the guest's address   → spoofed (dropped)
//!                                            │ one of the host's own     → refuse
//!                                            │ resolver, port 53         → accept
//!                                            │ special-purpose range     → refuse
//!                                            │ TCP, UDP, ICMP to uplink  → accept
//!                                            └ anything else             → refuse
//!                 └─ from uplink to the guest: established, related      → accept
//!  input (drop)   ── from tap0 ── from the guest, echo to the gateway → accept, anything else → refuse
//!  output (drop)  ── to tap0 → accept (answers and refusals; nothing of the namespace goes further)
//! ```
//!
//! The refusals stand before the acceptance of established connections, so that an address which the
//! host gets later is cut off in the middle of a connection too. IPv6 meets the chains' policy.

use nftables::batch::Batch;
use nftables::expr::{CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField};
use nftables::expr::{Prefix as NftPrefix, SetItem};
use nftables::schema::{
    Chain, Counter, Element, FlushObject, NfCmd, NfListObject, Nftables, Rule, Set, SetFlag,
    SetType, SetTypeValue, Table,
};
use nftables::stmt::{
    Counter as Count, JumpTarget, Match, Operator, Reject, RejectType, Statement,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use serde::{Deserialize, Serialize};

use super::link;
use super::ranges::{Prefix, SPECIAL_PURPOSE_RANGES, disjoint};

const TABLE: &str = "cove";
const HOST_ADDRESSES: &str = "host_addresses";
const SPECIAL_PURPOSE: &str = "special_purpose";
const DNS: u32 = 53;

/// Whether the uplink carries DNS over TCP to the host's resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResolverTransport {
    /// Only UDP: TCP to the resolver's address would go out as it is, so it is refused.
    Udp,
    /// UDP and TCP.
    UdpAndTcp,
}

/// The whole rule set of a namespace, for an empty one.
pub(crate) fn rules(
    uplink: &str,
    resolver: ResolverTransport,
    host: &[Prefix],
) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    }));
    for name in ["refused", "spoofed", "unasked"] {
        batch.add(NfListObject::Counter(Counter {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: name.into(),
            ..Counter::default()
        }));
    }
    batch.add(address_set(HOST_ADDRESSES));
    batch.add(address_set(SPECIAL_PURPOSE));
    add_elements(&mut batch, SPECIAL_PURPOSE, SPECIAL_PURPOSE_RANGES.map(|(range, _)| range));
    add_elements(&mut batch, HOST_ADDRESSES, disjoint(host.iter().copied()));
    for chain in ["refuse", "from_guest"] {
        batch.add(chain_named(chain, None));
    }
    for (chain, hook) in
        [("forward", NfHook::Forward), ("input", NfHook::Input), ("output", NfHook::Output)]
    {
        batch.add(chain_named(chain, Some(hook)));
    }
    let from_guest = from_guest_rules(uplink, resolver);
    let chains = [
        ("refuse", refuse_rules()),
        ("from_guest", from_guest),
        ("forward", forward_rules(uplink)),
        ("input", input_rules()),
        ("output", vec![vec![on("oifname", link::TAP), accept()]]),
    ];
    for (chain, rules) in chains {
        for rule in rules {
            batch.add(NfListObject::Rule(Rule {
                family: NfFamily::INet,
                table: TABLE.into(),
                chain: chain.into(),
                expr: rule.into(),
                ..Rule::default()
            }));
        }
    }
    batch.to_nftables()
}

/// Replaces the host's addresses, in one transaction.
pub(crate) fn host_addresses(host: &[Prefix]) -> Nftables<'static> {
    let mut batch = Batch::new();
    let NfListObject::Set(set) = address_set(HOST_ADDRESSES) else {
        unreachable!("`address_set` makes a set")
    };
    batch.add_cmd(NfCmd::Flush(FlushObject::Set(set)));
    add_elements(&mut batch, HOST_ADDRESSES, disjoint(host.iter().copied()));
    batch.to_nftables()
}

fn refuse_rules() -> Vec<Vec<Statement<'static>>> {
    let reset = Reject::new(Some(RejectType::TCPReset), None);
    let prohibited = Reject::new(Some(RejectType::ICMP), Some(RejectCode::AdminProhibited));
    vec![
        vec![count("refused")],
        vec![layer_4(&["tcp"]), Statement::Reject(Some(reset))],
        vec![ipv4(), Statement::Reject(Some(prohibited))],
        vec![Statement::Drop(None)],
    ]
}

fn from_guest_rules(uplink: &str, resolver: ResolverTransport) -> Vec<Vec<Statement<'static>>> {
    let to_resolver = || equals(field("ip", "daddr"), text(link::RESOLVER));
    let dns = |protocol| equals(field(protocol, "dport"), Expression::Number(DNS));
    let mut rules = vec![
        vec![not_from_guest(), count("spoofed"), Statement::Drop(None)],
        vec![in_set(HOST_ADDRESSES), goto("refuse")],
        vec![on("oifname", uplink), to_resolver(), dns("udp"), accept()],
    ];
    if resolver == ResolverTransport::UdpAndTcp {
        rules.push(vec![on("oifname", uplink), to_resolver(), dns("tcp"), accept()]);
    }
    rules.extend([
        vec![in_set(SPECIAL_PURPOSE), goto("refuse")],
        vec![connection(&["invalid"]), goto("refuse")],
        vec![on("oifname", uplink), layer_4(&["tcp", "udp", "icmp"]), accept()],
        vec![goto("refuse")],
    ]);
    rules
}

fn forward_rules(uplink: &str) -> Vec<Vec<Statement<'static>>> {
    vec![
        vec![ipv4(), on("iifname", link::TAP), goto("from_guest")],
        vec![
            on("iifname", uplink),
            on("oifname", link::TAP),
            equals(field("ip", "daddr"), text(link::GUEST)),
            connection(&["established", "related"]),
            accept(),
        ],
        vec![count("unasked"), Statement::Drop(None)],
    ]
}

fn input_rules() -> Vec<Vec<Statement<'static>>> {
    let from_tap = || on("iifname", link::TAP);
    vec![
        vec![ipv4(), from_tap(), not_from_guest(), count("spoofed"), Statement::Drop(None)],
        vec![
            from_tap(),
            equals(field("ip", "daddr"), text(link::GATEWAY)),
            equals(field("icmp", "type"), text("echo-request")),
            accept(),
        ],
        vec![ipv4(), from_tap(), goto("refuse")],
    ]
}

fn address_set(name: &'static str) -> NfListObject<'static> {
    NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(SetType::Ipv4Addr),
        flags: Some([SetFlag::Interval].into()),
        ..Set::default()
    }))
}

fn add_elements(
    batch: &mut Batch<'static>,
    set: &'static str,
    ranges: impl IntoIterator<Item = Prefix>,
) {
    let elements: Vec<_> = ranges.into_iter().map(expression).collect();
    // An empty list is a syntax error to nft.
    if !elements.is_empty() {
        batch.add(NfListObject::Element(Element {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: set.into(),
            elem: elements.into(),
        }));
    }
}

fn chain_named(name: &'static str, hook: Option<NfHook>) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: hook.map(|_| NfChainType::Filter),
        prio: hook.map(|_| 0),
        policy: hook.map(|_| NfChainPolicy::Drop),
        hook,
        ..Chain::default()
    })
}

fn matches(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn equals(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    matches(left, Operator::EQ, right)
}

fn text(value: impl ToString) -> Expression<'static> {
    Expression::String(value.to_string().into())
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

/// `iifname` or `oifname`: by name, because the uplink comes after the rules.
fn on(key: &str, interface: &str) -> Statement<'static> {
    let key = if key == "iifname" { MetaKey::Iifname } else { MetaKey::Oifname };
    equals(meta(key), text(interface))
}

fn ipv4() -> Statement<'static> {
    equals(meta(MetaKey::Nfproto), text("ipv4"))
}

fn layer_4(protocols: &[&'static str]) -> Statement<'static> {
    equals(meta(MetaKey::L4proto), any_of(protocols))
}

fn any_of(values: &[&'static str]) -> Expression<'static> {
    let items = values.iter().map(|value| SetItem::Element(text(value)));
    Expression::Named(NamedExpression::Set(items.collect()))
}

fn connection(states: &[&'static str]) -> Statement<'static> {
    let state = CT { key: "state".into(), family: None, dir: None };
    let states = Expression::List(states.iter().map(text).collect());
    matches(Expression::Named(NamedExpression::CT(state)), Operator::IN, states)
}

fn not_from_guest() -> Statement<'static> {
    matches(field("ip", "saddr"), Operator::NEQ, text(link::GUEST))
}

fn in_set(name: &str) -> Statement<'static> {
    equals(field("ip", "daddr"), text(format!("@{name}")))
}

fn count(counter: &'static str) -> Statement<'static> {
    Statement::Counter(Count::Named(counter.into()))
}

fn goto(chain: &'static str) -> Statement<'static> {
    Statement::Goto(JumpTarget { target: chain.into() })
}

fn accept() -> Statement<'static> {
    Statement::Accept(None)
}

fn expression(range: Prefix) -> Expression<'static> {
    let address = Expression::String(range.address.to_string().into());
    match range.length {
        32.. => address,
        length => Expression::Named(NamedExpression::Prefix(NftPrefix {
            addr: Box::new(address),
            len: length.into(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_over_tcp_is_let_out_only_where_the_uplink_carries_it() {
        let tcp = |transport| {
            let document = serde_json::to_string(&rules("up", transport, &[])).expect("json");
            document.matches(r#""protocol":"tcp","field":"dport""#).count()
        };
        assert_eq!(tcp(ResolverTransport::Udp), 0);
        assert_eq!(tcp(ResolverTransport::UdpAndTcp), 1);
    }
}
