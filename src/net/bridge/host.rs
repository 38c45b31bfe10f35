//! The work itself, for whoever has the privilege: a root daemon in its own process, or the network helper.
//!
//! ```text
//!  attach: check plan and namespace ── bridge ── forwarding ── rules ── port ── port on the bridge
//!  detach: port ── rules without it, or with the last VM: rules ── forwarding ── bridge
//! ```
//!
//! Rules stand before a port and go after it. Everything is read from the kernel at each request, and
//! nothing is believed to be as it was left: `sync` mends what somebody else, or a crash, has done.

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use rtnetlink::Handle;

use super::check::ForwardingProblem;
use super::error::{BridgeError, Refusal};
use super::links::{Found, Links};
use super::plan::HostPlan;
use super::rules::Rules;
use super::setup::{Owner, Setup};
use super::{Privileged, check, conflict, forwarding, target};
use crate::id::VmId;
use crate::report::Report;
use crate::task::Tasks;

/// Does the work in this process, which needs `CAP_NET_ADMIN` in its network namespace.
#[derive(Debug)]
pub struct Host {
    setup: Setup,
    owner: Owner,
    netlink: Handle,
    links: Links,
    rules: Rules,
    plan: Option<HostPlan>,
}

impl Host {
    /// For the bridge `setup` of the daemon of `user`. Its netlink connection is a task of `tasks`, so
    /// this needs a runtime.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn new(setup: Setup, user: u32, tasks: &Tasks) -> Result<Self, BridgeError> {
        let (connection, netlink, _messages) =
            rtnetlink::new_connection().map_err(BridgeError::Netlink)?;
        drop(tasks.spawn_until_shutdown("bridge-netlink", connection));
        let owner = Owner::new(user);
        let links = Links::new(netlink.clone(), owner);
        Ok(Self { setup, owner, netlink, links, rules: Rules::open(owner)?, plan: None })
    }

    async fn make(&mut self, plan: &HostPlan) -> Result<Vec<VmId>, BridgeError> {
        if plan.setup != self.setup {
            let (asked, mine) = (described(&plan.setup), described(&self.setup));
            return Err(Refusal::OtherSetup { asked, mine }.into());
        }
        plan.check()?;
        if plan.vms.is_empty() {
            self.tear_down().await?;
            self.plan = Some(plan.clone());
            return Ok(Vec::new());
        }
        let bridge = self.bridge().await?;
        // Rules that stand already allow nothing to those that go now: their ports go first.
        let ports = self.links.ports(Some(&bridge)).await?;
        for (vm, port) in &ports {
            if !plan.vms.contains_key(vm) {
                self.links.remove(port).await?;
            }
        }
        self.links.forget_others(&bridge, &plan.addresses()).await?;
        self.rules.load(plan).await?;
        let mut missing = Vec::new();
        for (vm, lease) in plan.leases() {
            match ports.iter().find(|(other, _)| other == vm) {
                Some((_, port)) => self.links.set_up_port(vm, port, &bridge, lease).await?,
                None => missing.push(vm.clone()),
            }
        }
        self.plan = Some(plan.clone());
        Ok(missing)
    }

    async fn join(&mut self, vm: &VmId, slot: u32, namespace: &OwnedFd) -> Result<(), BridgeError> {
        let before = self.plan.clone().ok_or(Refusal::NotSynced)?;
        let plan = before.with(vm, slot);
        plan.check()?;
        target::check(vm, namespace, self.owner)?;
        let made = self.make_port(&plan, vm, slot, namespace).await;
        let failed = made.is_err();
        self.plan = Some(if failed { before.without(vm) } else { plan });
        if failed && let Err(left) = self.take_away(&before.without(vm), vm).await {
            // The first error is the one to tell. What is left, the next `sync` removes.
            tracing::warn!(%vm, error = %left, "an uplink that failed is not undone");
        }
        made
    }

    async fn make_port(
        &self,
        plan: &HostPlan,
        vm: &VmId,
        slot: u32,
        namespace: &OwnedFd,
    ) -> Result<(), BridgeError> {
        let capacity = self.setup.ranges().capacity();
        let lease = self.setup.ranges().lease(slot);
        let lease = lease.ok_or_else(|| Refusal::Slot { vm: vm.clone(), slot, capacity })?;
        let bridge = self.bridge().await?;
        if let Some(old) = self.links.port(vm, Some(&bridge)).await? {
            self.links.remove(&old).await?;
        }
        self.rules.load(plan).await?;
        self.links.make_port(vm, &bridge, namespace).await?;
        match self.links.port(vm, Some(&bridge)).await? {
            Some(port) => self.links.set_up_port(vm, &port, &bridge, lease).await,
            // Its namespace has ended in the meantime, and the pair with it.
            None => Err(Refusal::NoNamespace { vm: vm.clone() }.into()),
        }
    }

    async fn leave(&mut self, vm: &VmId) -> Result<(), BridgeError> {
        let before = self.plan.clone().ok_or(Refusal::NotSynced)?;
        if !before.vms.contains_key(vm) {
            return Ok(());
        }
        let plan = before.without(vm);
        self.take_away(&plan, vm).await?;
        self.plan = Some(plan);
        Ok(())
    }

    /// Removes a VM's port, and then makes the rules as `plan` says, which is without it.
    async fn take_away(&self, plan: &HostPlan, vm: &VmId) -> Result<(), BridgeError> {
        let bridge = ours(self.links.bridge(self.setup.name()).await)?;
        if let Some(port) = ours(self.links.port(vm, bridge.as_ref()).await)? {
            self.links.remove(&port).await?;
        }
        if plan.vms.is_empty() {
            return self.tear_down().await;
        }
        if let Some(bridge) = bridge {
            self.links.forget_others(&bridge, &plan.addresses()).await?;
        }
        self.rules.load(plan).await
    }

    /// The bridge, made now if it is not there.
    async fn bridge(&self) -> Result<Found, BridgeError> {
        if self.links.bridge(self.setup.name()).await?.is_none() {
            self.rules.check(self.setup.name()).await.map(drop)?;
            conflict::check(&self.netlink, self.setup.ranges()).await?;
        }
        let bridge = self.links.make_bridge(&self.setup).await?;
        if !forwarding::is_on()? {
            // The mark first: a crash in between puts back what was not changed.
            self.links.mark_bridge(&bridge, &self.owner.mark_forwarding()).await?;
            forwarding::set(true)?;
        }
        Ok(bridge)
    }

    /// Removes everything that is ours. Each step is tried, whatever the others do.
    async fn tear_down(&self) -> Result<(), BridgeError> {
        let name = self.setup.name();
        let bridge = ours(self.links.bridge(name).await)?;
        let mut first_error = Ok(());
        for (_, port) in self.links.ports(bridge.as_ref()).await? {
            first_error = first_error.and(self.links.remove(&port).await);
        }
        first_error = first_error.and(self.rules.remove(name).await);
        if let Some(bridge) = bridge {
            if bridge.forwarding_was_off(self.owner) {
                first_error = first_error.and(self.put_forwarding_back().await);
            }
            first_error = first_error.and(self.links.remove(&bridge).await);
        }
        first_error
    }

    /// Switches forwarding off again, unless somebody who came later counts on it.
    async fn put_forwarding_back(&self) -> Result<(), BridgeError> {
        match check::others_forward(self.setup.name()).await? {
            true => Ok(()),
            false => forwarding::set(false),
        }
    }
}

/// What is not ours is not there, as far as removing goes.
fn ours(found: Result<Option<Found>, BridgeError>) -> Result<Option<Found>, BridgeError> {
    match found {
        Err(BridgeError::Refused(Refusal::ForeignLink { .. })) => Ok(None),
        found => found,
    }
}

fn described(setup: &Setup) -> String {
    let ranges = setup.ranges();
    format!("`{}` with `{}` and `{}`", setup.name(), ranges.range4(), ranges.range6())
}

fn reported<T>(result: Result<T, BridgeError>) -> Result<T, Report> {
    result.map_err(|error| Report::of(&error))
}

#[async_trait]
impl Privileged for Host {
    async fn sync(&mut self, plan: &HostPlan) -> Result<Vec<VmId>, Report> {
        reported(self.make(plan).await)
    }

    async fn attach(&mut self, vm: &VmId, slot: u32, namespace: OwnedFd) -> Result<(), Report> {
        reported(self.join(vm, slot, &namespace).await)
    }

    async fn detach(&mut self, vm: &VmId) -> Result<(), Report> {
        reported(self.leave(vm).await)
    }

    async fn check(&mut self) -> Result<Option<ForwardingProblem>, Report> {
        reported(check::find_problem(self.setup.name()).await)
    }
}
