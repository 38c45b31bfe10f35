//! What a guest may reach, as nftables rules, in one table of the VM's namespace.
//!
//! ```text
//!  forward (drop) ── from tap0 ── from_guest: not the guest's address        → spoofed (dropped)
//!                                            │ about another flow (ICMP)     → dropped
//!                                            │ not part of its connection    → answer
//!                                            │ not to the uplink, not TCP, UDP, ICMP → refuse
//!                                            │ of a connection from outside  → accept   (bridge)
//!                                            │ to a peer                     → allow    (bridge)
//!                                            │ one of the host's own         → own: exact, refuse
//!                                            │ a flow of this generation     → accept
//!                                            │ exact: rules for one address  → allow
//!                                            └ judge: the policy (`plan.rs`) → allow or refuse
//!                 ├─ from uplink to the guest, by the host or a peer → accept, with a mark (bridge)
//!                 └─ from uplink to the guest, established or related → to_guest:
//!                                            │ TCP that is established       → accept
//!                                            │ from the host: a flow that was allowed to go there → accept
//!                                            │ a flow of this generation     → accept
//!                                            └ anything else                 → dropped
//!  refuse         ── logged, if they are not too many → answer: reset, or "prohibited"
//!  allow          ── the flow gets the generation as its mark (to the host: another bit too) → accept
//!  prerouting     ── new, TCP to port 443, not to the host → redirect: what names allow goes to the proxy
//!  input (drop)   ── from tap0 ── from the guest: echo and DNS to the gateway → accept
//!                                              redirected → not the host's; this generation, or where a
//!                                                           name leads now
//!                                              anything else → refuse
//!                 └─ from uplink: established, related → accept
//!  postrouting    ── what the keeper itself sends has the guest's address (bridge)
//!  output (drop)  ── to tap0 → accept (answers and refusals)
//!                 └─ to the uplink ── the resolver, port 53; TCP to port 443 of public addresses (the proxy, bridge)
//! ```
//!
//! Who opens a connection to the guest over the bridge is the host or a peer: the host's own rules let
//! nobody else in, and these rules neither. What the guest may reach says nothing about them.
//!
//! The host's addresses stand before the acceptance of running flows, so that an address which the host
//! gets later is cut off in the middle of a connection too. A policy that takes something away begins a
//! new generation: every flow is judged anew with the next packet that the guest sends, and until then
//! nothing comes to it but TCP, which the guest has to answer. IPv6 meets the chains' policy, but for guests
//! that have it (`ipv6.rs`).
//!
//! Names are resolved by the keeper itself, which puts the answers into the sets before the guest sees
//! them.
//!
//! `table.rs` is what stays, `judge.rs` what is replaced with the policy, `plan.rs` what it comes to.

mod ipv6;
mod judge;
mod plan;
mod table;

pub(crate) use self::judge::{NamedElement, add_named, judge, next_generation, remove_named};
pub(crate) use self::plan::{TLS_PORT, name_ports, narrows};
pub(crate) use self::table::{LOG_GROUP, LOGGED_BYTES, host_addresses, peers, table, untold};

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::way::Way;

/// Between what the rules stand: the guest at [`super::link::TAP`], and the uplink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends<'a> {
    /// The uplink's interface.
    pub(crate) uplink: &'a str,
    /// The guest's IPv6 address on its link, where it has IPv6.
    pub(crate) link_local: Ipv6Addr,
    /// Where it leads.
    pub(crate) way: &'a Way,
}

/// Whether the uplink carries DNS over TCP to the host's resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResolverTransport {
    /// Only UDP: TCP to the resolver's address would go out as it is, so it is refused.
    Udp,
    /// UDP and TCP.
    UdpAndTcp,
}
