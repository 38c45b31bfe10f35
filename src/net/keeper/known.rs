//! What the keeper knows: the policy in force, the host's addresses, the answers that its VM got.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::answers::Answers;
use crate::egress::{
    Answered, DnsName, Facts, METADATA_ADDRESSES, Mode, Policy, Target, Verdict, decide_address,
    decide_name, special_range,
};
use crate::net::ranges::Prefix;
use crate::net::rules::NamedElement;

/// Shared by everything in the keeper. What the firewall knows, too, it alone writes, when the rules say the
/// same; what they are to refuse, before.
#[derive(Debug, Default)]
pub(super) struct Known {
    state: Mutex<State>,
    /// Counts the policies, and what the host's addresses and the uplink came to be.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    policy: Option<Policy>,
    host: Vec<Prefix>,
    guest: Option<Ipv4Addr>,
    peers: Vec<IpAddr>,
    uplink: bool,
    answers: Answers,
}

impl State {
    fn is_own(&self, address: Ipv4Addr) -> bool {
        let address = Prefix::around(address, 32);
        self.host.iter().any(|range| range.contains(address))
    }

    fn facts(&self, address: IpAddr) -> Facts {
        let peer = self.peers.contains(&address);
        match address {
            IpAddr::V4(address) => Facts {
                own: self.is_own(address),
                peer,
                answered: self.answers.good(address, Instant::now()),
            },
            IpAddr::V6(_) => Facts { peer, ..Facts::default() },
        }
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half written: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy in force; none before the namespace is set up.
    pub(super) fn policy(&self) -> Option<Policy> {
        self.state().policy.clone()
    }

    /// A policy is in force.
    pub(super) fn set_policy(&self, policy: Policy) {
        self.state().policy = Some(policy);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Changes with each policy, with the host's addresses and with the uplink.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The host is about to have these addresses, too.
    pub(super) fn add_host(&self, host: &[Prefix]) {
        self.state().host.extend_from_slice(host);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The host has these addresses.
    pub(super) fn set_host(&self, host: Vec<Prefix>) {
        self.state().host = host;
        self.changes.send_modify(|count| *count += 1);
    }

    /// The guest has this address.
    pub(super) fn set_guest(&self, address: Ipv4Addr) {
        self.state().guest = Some(address);
    }

    /// The guest's address; none before the namespace is set up.
    pub(super) fn guest(&self) -> Option<Ipv4Addr> {
        self.state().guest
    }

    /// These VMs of the bridge are its peers.
    pub(super) fn set_peers(&self, peers: Vec<IpAddr>) {
        self.state().peers = peers;
    }

    /// The VM is told that `name` resolved to `address`. Says whether that can be remembered. Where the
    /// answer opens nothing there is always room: older ones are forgotten.
    pub(super) fn note_answer(&self, name: &DnsName, address: Ipv4Addr, time: Duration) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if state.policy.as_ref().is_none_or(|policy| policy.mode != Mode::Allow) {
            state.answers.make_room();
        }
        state.answers.note(name, address, now + time, now)
    }

    /// Whether the VM may be told that `name` resolved to `address`: it is public, or a rule opens it. So a
    /// name does not lead a program of the guest, a browser say, to where its owner did not mean it to go.
    pub(super) fn may_be_seen(&self, address: IpAddr, name: &DnsName) -> bool {
        let state = self.state();
        let Some(policy) = &state.policy else { return false };
        let mut facts = state.facts(address);
        facts.answered.push(Answered { name: name.clone(), seconds: 0 });
        let about = policy.rules.iter().filter(|rule| match &rule.target {
            Target::Range(range) => range.contains(&address),
            target @ (Target::Name(_) | Target::Below(_)) => target.is_about(name),
        });
        let mut ports = about.map(|rule| rule.ports.map(|ports| ports.first)).chain([None]);
        let passes = |port| decide_address(policy, address, port, &facts).allowed;
        address.is_ipv4() && ports.any(passes)
    }

    /// Whether there is an uplink.
    pub(super) fn set_uplink(&self, there: bool) {
        self.state().uplink = there;
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether the proxy may go to `address`, whatever the policy says: it is neither the host's nor in a
    /// special range, and there is an uplink, without which nothing is reached.
    pub(super) fn leads_out(&self, address: Ipv4Addr) -> bool {
        let state = self.state();
        state.uplink
            && !state.is_own(address)
            && special_range(address.into()).is_none()
            && !METADATA_ADDRESSES.contains(&address.into())
    }

    /// Whether `address` may be reached; none before a policy is in force. `name` counts as one that
    /// resolved to it, besides those that did.
    pub(super) fn decide(
        &self,
        address: IpAddr,
        port: Option<u16>,
        name: Option<&DnsName>,
    ) -> Option<Verdict> {
        let state = self.state();
        let mut facts = state.facts(address);
        if let Some(name) = name
            && !facts.answered.iter().any(|answered| answered.name == *name)
        {
            facts.answered.push(Answered { name: name.clone(), seconds: 0 });
        }
        Some(decide_address(state.policy.as_ref()?, address, port, &facts))
    }

    /// Whether `name` may be resolved, or reached at a port; none before a policy is in force.
    pub(super) fn decide_name(&self, name: &DnsName, port: Option<u16>) -> Option<Verdict> {
        Some(decide_name(self.state().policy.as_ref()?, name, port))
    }

    /// Whether the VM was told that `name` resolved to `address`, which is good or was so at most `ago` ago.
    pub(super) fn has_resolved(&self, name: &DnsName, address: Ipv4Addr, ago: Duration) -> bool {
        self.state().answers.had(name, address, Instant::now(), ago)
    }

    /// The name that resolved to `address` last, as far as is known.
    pub(super) fn last_name(&self, address: IpAddr) -> Option<DnsName> {
        match address {
            IpAddr::V4(address) => self.state().answers.last_name(address).cloned(),
            IpAddr::V6(_) => None,
        }
    }

    /// What the sets of names hold under `policy`, now.
    pub(super) fn named(&self, policy: &Policy) -> Vec<NamedElement> {
        self.named_where(policy, |_| true)
    }

    /// The same of some addresses.
    pub(super) fn named_where(
        &self,
        policy: &Policy,
        wanted: impl Fn(Ipv4Addr) -> bool,
    ) -> Vec<NamedElement> {
        if policy.mode != Mode::Allow {
            return Vec::new();
        }
        let state = self.state();
        let public = |address: Ipv4Addr| special_range(address.into()).is_none();
        let wanted = |address| public(address) && wanted(address);
        state.answers.elements(&policy.rules, Instant::now(), wanted)
    }
}
