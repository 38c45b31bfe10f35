//! The hooks of plugins, at every point of a VM's life.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Guest, PortResult};
use crate::id::{VmId, VmName};
use crate::vm::plan::WorkDiskPlan;
use crate::vm::state::Extras;
use crate::wire::rpc::{ClientContext, HookPlan, HookPoint, MachinePlan};

/// A VM as hooks see it.
#[derive(Debug, Clone)]
pub struct HookedVm {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// What it is.
    pub machine: MachinePlan,
    /// The labels that its maker gave it.
    pub labels: BTreeMap<String, String>,
    /// The repository in it, relative to the home.
    pub workspace: Option<String>,
}

/// A guest as hooks see it.
pub struct HookedGuest {
    /// Its agent.
    pub guest: Arc<dyn Guest>,
    /// The environment of every command in it.
    pub env: BTreeMap<String, String>,
}

/// Whether what hooks want is to happen, or somebody only looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It is to happen.
    Act,
    /// Nothing is, not even in what plugins remember.
    Look,
}

/// How one hook went.
#[derive(Debug, Clone)]
pub struct HookRan {
    /// The hook point.
    pub point: HookPoint,
    /// The plugin, what it contributed, and what it says to the user.
    pub shown: HookPlan,
    /// Why it failed or did not run, where that is no reason to stop.
    pub failure: Option<String>,
}

/// What the hooks of one point want together, and how each of them went.
#[derive(Debug)]
pub struct Hooked<T> {
    /// What they want.
    pub wanted: T,
    /// How they went, in the order in which they ran.
    pub ran: Vec<HookRan>,
}

/// The hooks. Each call ends within a time of its own, and fails when a plugin fails that must not. A call
/// that is dropped ends the hook that runs.
#[async_trait]
pub trait VmHooks: Send + Sync {
    /// Asks whether the VM may start. That it may not is an error, with the plugin's reason.
    async fn preflight(
        &self,
        vm: &HookedVm,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<Vec<HookRan>>;

    /// Asks what its next boot gets besides what its maker said.
    async fn configure_machine(
        &self,
        vm: &HookedVm,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<Hooked<Extras>>;

    /// Asks what is to be written into its home. Nothing is written.
    async fn prepare_work_disk(
        &self,
        vm: &HookedVm,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<Hooked<WorkDiskPlan>>;

    /// Lets them find the guest up.
    async fn post_start(&self, vm: &HookedVm, guest: HookedGuest) -> PortResult<Vec<HookRan>>;

    /// Tells them that the guest is about to be asked to power off.
    async fn pre_stop(&self, vm: &HookedVm) -> PortResult<Vec<HookRan>>;

    /// Tells them that the VM goes. They may be told more than once.
    async fn cleanup(&self, vm: &HookedVm) -> PortResult<Vec<HookRan>>;
}
