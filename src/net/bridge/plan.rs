//! What the host is to look like: which VMs are on the bridge, with which addresses, and who are peers.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::setup::Setup;
use crate::id::VmId;
use crate::vm::address::Lease;

/// How many VMs a bridge takes: Linux bridges have 1,023 ports.
const MAX_VMS: usize = 1000;

/// How many pairs of peers there may be: with these the rules still fit into one message to the kernel.
const MAX_PAIRS: usize = 500;

/// All that is to be on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPlan {
    /// The bridge.
    pub setup: Setup,
    /// The VMs on it, with the slot that stands for their addresses.
    pub vms: BTreeMap<VmId, u32>,
    /// The pairs of VMs that reach each other; all other pairs do not.
    pub peers: BTreeSet<(VmId, VmId)>,
}

impl HostPlan {
    /// A plan without VMs: nothing is to be on the host.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self { setup, vms: BTreeMap::new(), peers: BTreeSet::new() }
    }

    /// Whether it can be carried out: every VM has an address of its own within the ranges, every peer is
    /// a VM, and there are not too many.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.vms.len() > MAX_VMS {
            return Err(Refusal::TooMany { what: "VMs", count: self.vms.len(), most: MAX_VMS });
        }
        if self.peers.len() > MAX_PAIRS {
            let count = self.peers.len();
            return Err(Refusal::TooMany { what: "pairs of peers", count, most: MAX_PAIRS });
        }
        let capacity = self.setup.ranges().capacity();
        let mut by_slot = BTreeMap::new();
        for (vm, &slot) in &self.vms {
            if slot >= capacity {
                return Err(Refusal::Slot { vm: vm.clone(), slot, capacity });
            }
            if let Some(other) = by_slot.insert(slot, vm) {
                return Err(Refusal::SlotTaken { vm: vm.clone(), other: other.clone() });
            }
        }
        for (one, other) in &self.peers {
            if one == other {
                return Err(Refusal::PeerOfItself { vm: one.clone() });
            }
            if let Some(unknown) = [one, other].into_iter().find(|vm| !self.vms.contains_key(*vm)) {
                return Err(Refusal::UnknownPeer { vm: unknown.clone() });
            }
        }
        Ok(())
    }

    /// The same with one VM more, or another slot for it.
    #[must_use]
    pub fn with(&self, vm: &VmId, slot: u32) -> Self {
        let mut plan = self.clone();
        plan.vms.insert(vm.clone(), slot);
        plan
    }

    /// The same without a VM and its pairs.
    #[must_use]
    pub fn without(&self, vm: &VmId) -> Self {
        let mut plan = self.clone();
        plan.vms.remove(vm);
        plan.peers.retain(|(one, other)| one != vm && other != vm);
        plan
    }

    /// The VMs with their addresses.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&VmId, Lease)> {
        let ranges = self.setup.ranges();
        self.vms.iter().filter_map(move |(vm, slot)| Some((vm, ranges.lease(*slot)?)))
    }

    /// Every address that a VM has.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.leases().flat_map(|(_, lease)| [lease.ipv4.into(), lease.ipv6.into()]).collect()
    }

    /// The pairs, each in both directions, by slot.
    pub(super) fn pairs(&self) -> BTreeSet<(u32, u32)> {
        let both = |(one, other): &(VmId, VmId)| {
            let slots = self.vms.get(one).zip(self.vms.get(other));
            slots.map(|(&one, &other)| [(one, other), (other, one)])
        };
        self.peers.iter().filter_map(both).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BridgeConfig;

    fn id(number: u8) -> VmId {
        format!("{number:012x}").parse().expect("an id")
    }

    fn plan() -> HostPlan {
        let config = BridgeConfig {
            range4: Some("10.9.8.0/29".parse().expect("a range")),
            ..BridgeConfig::default()
        };
        HostPlan::new(Setup::new(&config, "m", 0).expect("valid"))
    }

    #[test]
    fn a_plan_says_what_is_wrong_with_it() {
        let good = plan().with(&id(1), 0).with(&id(2), 4);
        assert_eq!(good.check(), Ok(()));
        let outside = good.with(&id(3), 5);
        assert_eq!(outside.check(), Err(Refusal::Slot { vm: id(3), slot: 5, capacity: 5 }));
        let twice = good.with(&id(3), 4);
        assert_eq!(twice.check(), Err(Refusal::SlotTaken { vm: id(3), other: id(2) }));
        let mut peers = good.clone();
        peers.peers.insert((id(1), id(1)));
        assert_eq!(peers.check(), Err(Refusal::PeerOfItself { vm: id(1) }));
        peers.peers = [(id(1), id(9))].into();
        assert_eq!(peers.check(), Err(Refusal::UnknownPeer { vm: id(9) }));
        let mut many = plan();
        many.vms = (0..=1000_u64)
            .map(|number| (format!("{number:012x}").parse().expect("an id"), 0))
            .collect();
        assert!(matches!(many.check(), Err(Refusal::TooMany { count: 1001, .. })));
    }

    #[test]
    fn pairs_go_both_ways_and_with_their_vm() {
        let mut plan = plan().with(&id(1), 0).with(&id(2), 3).with(&id(3), 4);
        plan.peers.insert((id(2), id(1)));
        assert_eq!(plan.pairs(), [(0, 3), (3, 0)].into());
        assert_eq!(plan.without(&id(1)).pairs(), [].into());
        assert_eq!(plan.without(&id(3)).pairs().len(), 2);
    }
}
