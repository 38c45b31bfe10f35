//! Versions of the contract, each an adapter over the same handles.
//!
//! ```text
//!  component ─ exports `cove:hooks/POINT@VERSION` ─▶ which adapter? ─▶ Exports ─▶ call
//!      │                                                                  ▲
//!      └─ imports `cove:hooks/NAME@VERSION` ─▶ adapter ─▶ handles ────────┘
//! ```
//!
//! An adapter translates names and types and decides nothing: rights, limits and sources are in the Rust
//! values behind the handles, so that a new version cannot forget to ask. To add one, freeze its folder
//! under `wit/`, write `vX_Y.rs` and put it into [`KNOWN`].

pub(super) mod v0_2;

use futures_util::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre, Linker, Resource};

use super::handles::{
    GitConfig, GuestHandle, HostFiles, Machine, MachineRequest, PluginState, Settings, WorkDisk,
};
use super::state::State;
use crate::wire::rpc::{HookPoint, Verdict};

/// The versions that this cove has, the newest last.
pub(super) const KNOWN: &[&dyn Contract] = &[&v0_2::V0_2];

/// One version of the contract.
pub(super) trait Contract: Send + Sync {
    /// Its number, as it stands in the names of interfaces.
    fn version(&self) -> &'static str;
    /// The interfaces that a component may import.
    fn offers(&self) -> &'static [&'static str];
    /// Makes them available.
    fn add_to_linker(&self, linker: &mut Linker<State>) -> wasmtime::Result<()>;
    /// Finds a component's hooks, whose types must be those of the contract.
    fn exports(
        &self,
        component: &InstancePre<State>,
        points: &[HookPoint],
    ) -> wasmtime::Result<Box<dyn Exports>>;
}

/// The hooks of one component.
pub(super) trait Exports: Send + Sync {
    /// Calls one.
    fn call<'a>(
        &'a self,
        store: &'a mut Store<State>,
        instance: &'a Instance,
        call: Call,
    ) -> BoxFuture<'a, wasmtime::Result<Result<Answer, PluginError>>>;
}

/// A call of one hook point with its handles. The host owns what they stand for.
#[derive(Debug)]
pub(super) enum Call {
    Preflight(Resource<Machine>, Sources),
    ConfigureMachine(Resource<Machine>, Resource<MachineRequest>, Sources, Resource<PluginState>),
    PrepareWorkDisk(Resource<Machine>, Resource<WorkDisk>, Sources, Resource<PluginState>),
    PostStart(Resource<Machine>, Resource<GuestHandle>, Resource<Settings>, Resource<PluginState>),
    PreStop(Resource<Machine>, Resource<Settings>, Resource<PluginState>),
    Cleanup(Resource<Machine>, Resource<Settings>, Resource<PluginState>),
    Doctor(Sources),
}

/// What a hook may look at on the host.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) files: Resource<HostFiles>,
    pub(super) git: Resource<GitConfig>,
    pub(super) settings: Resource<Settings>,
}

/// What a hook answers, besides what it has staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// What the user should know.
    Lines(Vec<String>),
    Findings(Vec<Finding>),
}

/// One thing that a plugin looked at for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was found, control characters escaped.
    pub found: String,
    /// What to do about it, the same.
    pub advice: Option<String>,
}

/// The error that a hook returned.
#[derive(Debug)]
pub(super) struct PluginError {
    pub(super) code: String,
    pub(super) message: String,
}
