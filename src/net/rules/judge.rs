//! The chains that a policy makes, and the sets of addresses that names resolved to.
//!
//! Each of these sets belongs to the ports of rules about names: `named`, or `named_FIRST_LAST`. A set
//! keeps its elements for as long as the names' answers are good.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use nlink::netlink::nftables::{
    CmpOp, CtDirection, CtKey, Expr, Family, LookupExpr, PacketField, PayloadBase, RangeOp,
    Register, Rule, Set, SetElement, SetKeyType, Transaction,
};

use super::Ends;
use super::plan::{Outcome, Plan, Step, To, name_ports};
use super::table::{
    FROM_OUTSIDE, HOST_ADDRESSES, METADATA, SPECIAL_PURPOSE, TABLE, WITH_PORTS, add_elements,
    first_of_from_guest, flush_set, go, name, refuse, rule, to_guest_rules,
};
use crate::egress::{Policy, Ports};
use crate::net::link;

/// The chains that are replaced.
const REPLACED: [&str; 7] =
    ["from_guest", "to_guest", "allow", "exact", "judge", "redirect", "redirected"];

/// What the mark of a flow has besides its generation when it leads to an address of the host.
const OWN: u32 = 1 << 31;

/// The generation after `generation`: never 0, which is no mark, and below every other part of a mark.
pub(crate) fn next_generation(generation: u32) -> u32 {
    (generation.wrapping_add(1) & !(OWN | FROM_OUTSIDE)).max(1)
}

/// An address that a name of a rule with these ports resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedElement {
    /// The ports of the rule.
    pub(crate) ports: Option<Ports>,
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// How long it stays, a millisecond at least.
    pub(crate) time: Duration,
}

/// Replaces the policy. `sets` are the ports whose sets there are; afterwards they are
/// [`name_ports`] of `policy`, with the elements `named`.
pub(crate) fn judge(
    mut batch: Transaction,
    ends: Ends<'_>,
    (policy, generation): (&Policy, u32),
    sets: &BTreeSet<Option<Ports>>,
    named: &[NamedElement],
) -> Transaction {
    for chain in REPLACED {
        batch = batch.flush_chain(TABLE, chain, Family::Inet);
    }
    let wanted = name_ports(policy);
    for ports in sets {
        batch = if wanted.contains(ports) {
            flush_set(batch, &set_name(*ports))
        } else {
            batch.del_set(TABLE, &set_name(*ports), Family::Inet)
        };
    }
    for ports in wanted.difference(sets) {
        batch = batch.add_set(set(*ports));
    }
    batch = add_named(batch, named);
    let plan = Plan::of(policy);
    let mut rules = from_guest_rules(ends, generation);
    let to_host = rule("allow").match_in_set(PacketField::Ip4Daddr, HOST_ADDRESSES);
    rules.push(to_host.set_ct_mark(generation | OWN).accept());
    rules.push(rule("allow").set_ct_mark(generation).accept());
    rules.extend(to_guest_rules((generation, generation | OWN)));
    rules.extend(plan.exact.iter().map(|step| step_rule("exact", step)));
    rules.extend(plan.judge.iter().map(|step| step_rule("judge", step)));
    rules.push(refuse(rule("judge")));
    rules.extend(plan.redirect.iter().map(|step| step_rule("redirect", step)));
    rules.extend(redirected_rules(&plan, generation));
    rules.into_iter().fold(batch, Transaction::add_rule)
}

/// Adds elements to the sets of names.
pub(crate) fn add_named(batch: Transaction, named: &[NamedElement]) -> Transaction {
    let each_set: BTreeSet<Option<Ports>> = named.iter().map(|element| element.ports).collect();
    each_set.into_iter().fold(batch, |batch, ports| {
        let elements = named.iter().filter(|element| element.ports == ports);
        let elements: Vec<SetElement> = elements
            .map(|element| SetElement::ipv4(element.address).with_timeout(element.time))
            .collect();
        add_elements(batch, &set(ports), &elements)
    })
}

/// Removes an element from a set of names. The batch fails when it is not there.
pub(crate) fn remove_named(
    batch: Transaction,
    ports: Option<Ports>,
    address: Ipv4Addr,
) -> Transaction {
    batch.del_set_elements(&set(ports), &[SetElement::ipv4(address)])
}

fn from_guest_rules(ends: Ends<'_>, generation: u32) -> Vec<Rule> {
    let mut rules = first_of_from_guest(ends);
    rules.extend([
        rule("from_guest").match_ct_mark(generation).accept(),
        rule("from_guest").jump(name("exact")),
        go(rule("from_guest"), "judge"),
    ]);
    rules
}

/// Flows on their way to the proxy: those of this generation, and those to where a name leads now.
fn redirected_rules(plan: &Plan, generation: u32) -> Vec<Rule> {
    let (key, direction) = (CtKey::DstIp, CtDirection::Original);
    let wanted = Expr::CtDirectional { dreg: Register::R0, key, direction };
    let redirects = plan.redirect.iter().filter(|step| step.outcome == Outcome::Redirect);
    let to_set = |set: String| {
        rule("redirected").expr(wanted.clone()).expr(LookupExpr::new(set, Register::R0))
    };
    let mut rules = vec![
        go(to_set(HOST_ADDRESSES.to_owned()), "answer"),
        rule("redirected").match_ct_mark(generation).accept(),
    ];
    rules.extend(redirects.map(|step| go(to_set(set_name(step.ports)), "allow")));
    // Whoever is cut off here was let in before, so nothing is told.
    rules.push(go(rule("redirected"), "answer"));
    rules
}

fn step_rule(chain: &str, step: &Step) -> Rule {
    let to = PacketField::Ip4Daddr;
    let rule = match step.to {
        To::Everything => rule(chain),
        // An empty prefix matches everything, and cannot be written.
        To::Range(range) if range.prefix_len() == 0 => rule(chain),
        To::Range(range) => rule(chain).match_daddr_v4(range.network(), range.prefix_len()),
        To::Metadata => rule(chain).match_in_set(to, METADATA),
        To::Special => rule(chain).match_in_set(to, SPECIAL_PURPOSE),
        To::Named => rule(chain).match_in_set(to, &set_name(step.ports)),
    };
    let rule = match step.ports {
        // The chain is about one port.
        Some(_) if step.outcome == Outcome::Redirect => rule,
        Some(ports) => match_ports(rule, ports),
        None => rule,
    };
    match step.outcome {
        Outcome::Leave => rule.accept(),
        Outcome::Redirect => rule.redirect(Some(link::PROXY_PORT)),
        Outcome::Allow => go(rule, "allow"),
        Outcome::Refuse => refuse(rule),
    }
}

/// Destination ports lie in the same place in TCP and in UDP.
fn match_ports(rule: Rule, ports: Ports) -> Rule {
    let (base, dreg) = (PayloadBase::Transport, Register::R0);
    let rule = rule.match_in_set(PacketField::L4Proto, WITH_PORTS);
    let rule = rule.expr(Expr::Payload { dreg, base, offset: 2, len: 2 });
    let (from, to) = (ports.first.to_be_bytes().to_vec(), ports.last.to_be_bytes().to_vec());
    if from == to {
        return rule.expr(Expr::Cmp { sreg: dreg, op: CmpOp::Eq, data: from });
    }
    rule.expr(Expr::Range { sreg: dreg, op: RangeOp::Eq, from, to })
}

fn set(ports: Option<Ports>) -> Set {
    Set::new(TABLE, &set_name(ports)).key_type(SetKeyType::Ipv4Addr).per_element_timeouts()
}

fn set_name(ports: Option<Ports>) -> String {
    match ports {
        None => "named".to_owned(),
        Some(Ports { first, last }) => format!("named_{first}_{last}"),
    }
}
