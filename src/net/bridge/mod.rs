//! The uplink `bridge`: VMs with addresses that the host reaches.
//!
//! ```text
//!  ┌─ namespace of VM a ─┐
//!  │ tap0 ── up<a> ══════╪══ cv<a> ─┐
//!  └─────────────────────┘          ├─ cove0 10.203.0.1 ── host routes, masquerades ── the rest
//!  ┌─ namespace of VM b ─┐          │
//!  │ tap0 ── up<b> ══════╪══ cv<b> ─┘   tables `inet cove0` and `bridge cove0`
//!  └─────────────────────┘
//! ```
//!
//! The guest has its leased address itself, and the namespace of its VM routes between TAP and uplink, so
//! that no guest touches the bridge's layer 2. Nothing on the bridge is found by asking: who has which
//! address is written into neighbour tables and forwarding tables at both ends (`links.rs`, `inside.rs`),
//! ports neither learn nor flood, and ARP is dropped. So there is nothing to answer falsely. Ports are
//! isolated from each other; two VMs that are peers talk through the host, whose rules know the pair
//! (`rules.rs`).
//!
//! Only this needs privilege, and only [`Privileged`] has it: a daemon that is root does the work itself
//! ([`Host`]), any other asks the network helper ([`Helper`], served by [`server`]). Both check everything
//! they are asked for (`plan.rs`, `target.rs`), and touch nothing on the host that is not marked as theirs.
//! The rest of the daemon has a [`Bridge`], which knows which of the two it is.
//!
//! Knows nothing of VMs but the id, and nothing of the guest's side of a namespace.

mod check;
mod client;
mod conflict;
mod error;
mod forwarding;
mod host;
mod inside;
mod ipv6;
mod links;
mod lock;
mod plan;
mod privileges;
mod protocol;
mod rules;
pub mod server;
mod service;
mod setup;
mod target;

use std::os::fd::OwnedFd;

use async_trait::async_trait;

pub use self::check::ForwardingProblem;
pub use self::client::Helper;
pub use self::error::{BridgeError, Refusal};
pub use self::host::Host;
pub use self::inside::{Inside, InsideError, join};
pub use self::plan::HostPlan;
pub use self::service::{Bridge, Member};
pub use self::setup::{Setup, SetupError};
use crate::id::VmId;
use crate::report::Report;

/// What needs privilege. One implementation does it, the other one asks the network helper.
///
/// Whoever holds it says first, by [`Privileged::sync`], which VMs there are; until then nothing is
/// attached. It is held by one task: requests are made one after the other.
#[async_trait]
pub trait Privileged: Send {
    /// Makes the host as `plan` says: bridge, rules and the ports of exactly its VMs, or nothing at all
    /// when it has no VM. Returns the VMs that have no port: they need to be attached again.
    ///
    /// # Errors
    /// When the plan is refused, conflicts with the host's other networks, or the kernel refuses.
    async fn sync(&mut self, plan: &HostPlan) -> Result<Vec<VmId>, Report>;

    /// Gives a VM its uplink in `namespace`, which is the network namespace that its keeper holds. `slot`
    /// stands for its addresses. A port that it has already is made anew.
    ///
    /// # Errors
    /// As for [`Privileged::sync`]; and when the namespace is not one of this user's VMs. Nothing is left
    /// of what was begun.
    async fn attach(&mut self, vm: &VmId, slot: u32, namespace: OwnedFd) -> Result<(), Report>;

    /// Takes a VM's uplink away; the bridge and the rules go with the last one. A VM that has none is no
    /// error.
    ///
    /// # Errors
    /// When the kernel refuses; the VM is still in the plan then.
    async fn detach(&mut self, vm: &VmId) -> Result<(), Report>;

    /// Whether rules of somebody else drop what VMs of the bridge send; none when none do.
    ///
    /// # Errors
    /// When the rules cannot be read.
    async fn check(&mut self) -> Result<Option<ForwardingProblem>, Report>;
}

/// The bridge's end of a VM's uplink, on the host.
fn port_name(vm: &VmId) -> String {
    format!("cv{vm}")
}

/// The VM whose port has this name.
fn vm_of_port(name: &str) -> Option<VmId> {
    name.strip_prefix("cv")?.parse().ok()
}

/// The address of a VM's end of the uplink: the guest's own interface has the same, and the two are on
/// different links.
fn station(vm: &VmId) -> [u8; 6] {
    super::link::station(vm)
}
