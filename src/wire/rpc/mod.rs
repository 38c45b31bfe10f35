//! Methods, parameters and results of the daemon's JSON-RPC.
//!
//! One type per method ties its name to its parameters and its result, so that the server, the
//! command line and third-party clients cannot disagree. Parameters are objects; keys are snake_case;
//! fields are added, never renamed. Times are RFC 3339 strings in UTC, sizes are in the unit their
//! name ends in.

mod copy;
mod create;
mod event;
mod exec;
mod hook;
mod hook_plan;
mod hook_run;
mod host;
mod mode;
mod net;
mod operation;
mod plugin;
mod publish;
mod set;
mod signal;
mod stats;
mod vm;
mod workspace;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::OperationId;
use crate::wire::guest::{DetachOutcome, Listening};

pub use copy::CopyVm;
pub use create::{CreatePlan, CreateVm, CreateWorkspace, MachinePlan, WorkspacePlan};
pub use event::{Event, EventPage, EventQuery, Happening};
pub use exec::{
    AttachVm, DetachVm, DetachedCommand, DetachedList, ExecEvent, ExecStream, SubscribeExec,
};
pub use hook::{HookPlan, HookPoint, HookStep, HookWish};
pub use hook_plan::{HookPlanQuery, HookPlans, PlannedWrite, PluginPlan};
pub use hook_run::{
    ChainBreak, HookChain, HookEntry, HookImport, HookRead, HookRecord, HookRunEntry, HookRunPage,
    HookRunQuery, HookUse, HookWrite, ImportedDigest,
};
pub use host::{Check, DaemonStatusReply, Image, Kernel, Pong, Verdict};
pub use mode::WorkspaceMode;
pub use net::{
    AddressExplanation, Denial, Denials, NetDenials, NetExplain, NetExplanation, NetRule, NetShow,
    Tried,
};
pub use operation::{Operation, OperationEnd, Stage};
pub use plugin::{
    GrantHook, Hook, HookChanged, HookDetails, HookGrantShown, HookInstalled, HookLimits, HookNeed,
    HookRef, HookRelease, HookSigner, HookState, InspectHook, InstallHook, InstallOutcome,
    RevokeHook,
};
pub use publish::{ForwardVm, InvalidPublish, Publish};
pub use set::{Change, Holds, SetVm, SetVmReply, Setting};
pub use signal::{InvalidSignal, KillSignal};
pub use stats::{HostStats, ProcessStats, VmStats, WatchStats};
pub use vm::{
    DeleteVm, Deleted, ExecVm, KillVm, LogQuery, Logs, Page, STREAM_PROTOCOL, SshTicket, SshVm,
    StreamTicket, Vm, VmHealthReply, VmNet, VmPage, VmState, VmWorkspace,
};
pub use workspace::{
    ApplyHow, ChangeKind, ExportWhat, MAX_CHANGES, RunsByItself, WorkspaceApplied, WorkspaceApply,
    WorkspaceChange, WorkspaceExport, WorkspaceExported, WorkspacePrepare, WorkspaceState,
};

/// A method of the RPC.
pub trait Method {
    /// Its name on the wire, such as `vm.create`.
    const NAME: &'static str;
    /// What it does, for people.
    const SUMMARY: &'static str;
    /// Its parameters: an object.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// Its result.
    type Reply: Serialize + DeserializeOwned + Clone + Send + 'static;
}

/// A subscription of the RPC: `X.subscribe`, `X.unsubscribe`, notifications `X.event`.
pub trait Subscription {
    /// The name of the method that subscribes.
    const SUBSCRIBE: &'static str;
    /// What it tells, for people.
    const SUMMARY: &'static str;
    /// The name of the method that unsubscribes.
    const UNSUBSCRIBE: &'static str;
    /// The name of the notification.
    const EVENT: &'static str;
    /// The parameters of subscribing.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// What each notification carries.
    type Event: Serialize + DeserializeOwned + Send + 'static;
}

macro_rules! methods {
    ($($(#[doc = $doc:literal])* $type:ident = $name:literal ($params:ty) -> $reply:ty;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $type;
            impl Method for $type {
                const NAME: &'static str = $name;
                const SUMMARY: &'static str = concat!($($doc),*);
                type Params = $params;
                type Reply = $reply;
            }
        )*
        /// The names of all methods.
        pub const METHODS: &[&str] = &[$($name),*];
    };
}

methods! {
    /// Makes a VM and, unless told otherwise, starts it. Returns the operation.
    VmCreate = "vm.create"(CreateVm) -> Operation;
    /// What `vm.create` would put into the guest; makes nothing.
    VmPlan = "vm.plan"(CreateVm) -> CreatePlan;
    /// Starts a VM. Returns the operation.
    VmStart = "vm.start"(VmWait) -> Operation;
    /// Stops a VM: its guest powers off within a deadline, then its monitor is killed.
    VmStop = "vm.stop"(VmRef) -> Vm;
    /// Stops a VM gracefully if it runs, then starts it: another boot. Returns the operation.
    VmRestart = "vm.restart"(VmWait) -> Operation;
    /// Changes what a VM is; says what needs a restart.
    VmSet = "vm.set"(SetVm) -> SetVmReply;
    /// Sends a signal to a VM's monitor; without one its power is cut off at once.
    VmKill = "vm.kill"(KillVm) -> Vm;
    /// Deletes a VM with its disks, whatever its state unless told otherwise.
    VmDelete = "vm.delete"(DeleteVm) -> Deleted;
    /// Says that a VM is being used: what stops by itself counts from now on.
    VmTouch = "vm.touch"(VmRef) -> Vm;
    /// All VMs, oldest first.
    VmList = "vm.list"(Page) -> VmPage;
    /// One VM.
    VmShow = "vm.show"(VmRef) -> Vm;
    /// The console of a VM: what is in the ring, escaped for terminals unless `raw`.
    VmLogs = "vm.logs"(LogQuery) -> Logs;
    /// What a VM uses, on the host and inside.
    VmStatsNow = "vm.stats"(VmRef) -> VmStats;
    /// The sockets in a guest that wait for others, with their programs.
    VmPorts = "vm.ports"(VmRef) -> Listening;
    /// Asks the guest how it is.
    VmHealth = "vm.health"(VmRef) -> VmHealthReply;
    /// Prepares to run a program; the returned ticket opens its byte stream.
    VmExec = "vm.exec"(ExecVm) -> StreamTicket;
    /// Puts a repository into a VM that runs, or brings the one in it up to date. Returns the operation.
    VmWorkspacePrepare = "vm.workspace.prepare"(WorkspacePrepare) -> Operation;
    /// Runs a program with nobody there: it goes on until its end or the boot's, whatever becomes of the
    /// client and the daemon.
    VmExecDetach = "vm.exec.detach"(DetachVm) -> DetachOutcome;
    /// Prepares to attach to a detached program; the returned ticket opens its byte stream. Whoever was
    /// attached before is told so and let go.
    VmExecAttach = "vm.exec.attach"(AttachVm) -> StreamTicket;
    /// The detached programs of a VM's boot.
    VmExecList = "vm.exec.list"(VmRef) -> DetachedList;
    /// Looks at a VM's workspace and makes an export of it; the returned ticket opens its byte stream.
    VmWorkspaceExport = "vm.workspace.export"(WorkspaceExport) -> WorkspaceExported;
    /// Puts the work into the working tree of the source repository, once what would be written is agreed to.
    VmWorkspaceApply = "vm.workspace.apply"(WorkspaceApply) -> WorkspaceApplied;
    /// Looks at a VM's workspace: what has changed, and whether it was exported.
    VmWorkspaceStatus = "vm.workspace.status"(VmRef) -> WorkspaceState;
    /// Prepares an ssh server in a guest, for one connection; the returned ticket opens its byte stream.
    VmSsh = "vm.ssh"(SshVm) -> SshTicket;
    /// What a VM may reach.
    NetShowNow = "net.show"(VmRef) -> NetShow;
    /// Lets a VM reach something more, at once.
    NetAllow = "net.allow"(NetRule) -> NetShow;
    /// Takes such a rule back, at once.
    NetDeny = "net.deny"(NetRule) -> NetShow;
    /// Whether a VM may reach a host, and why.
    NetExplainNow = "net.explain"(NetExplain) -> NetExplanation;
    /// What a VM that runs was refused; waits for something when told so.
    NetDenialsNow = "net.denials"(NetDenials) -> Denials;
    /// Prepares a connection to a port of a guest; the returned ticket opens its byte stream.
    VmForward = "vm.forward"(ForwardVm) -> StreamTicket;
    /// Prepares to copy a file or a tree out of a guest or into it; the returned ticket opens its byte stream.
    VmCopy = "vm.copy"(CopyVm) -> StreamTicket;
    /// One operation.
    OpShow = "op.show"(OperationRef) -> Operation;
    /// Waits for the end of an operation.
    OpWait = "op.wait"(OperationRef) -> Operation;
    /// Cancels an operation; what it made is undone.
    OpCancel = "op.cancel"(OperationRef) -> Operation;
    /// All operations that are kept, oldest first.
    OpList = "op.list"(Nothing) -> Vec<Operation>;
    /// What has happened to VMs, operations and hooks, as far as it is remembered.
    EventsList = "events.list"(EventQuery) -> EventPage;
    /// All images.
    ImageList = "image.list"(Nothing) -> Vec<Image>;
    /// All kernels.
    KernelList = "kernel.list"(Nothing) -> Vec<Kernel>;
    /// All hooks, in the order in which they run.
    HookList = "hook.list"(Nothing) -> Vec<Hook>;
    /// All that is known of a plugin, installed or not.
    HookInspect = "hook.inspect"(InspectHook) -> HookDetails;
    /// Installs a plugin, or another version of it. It takes part once it is granted.
    HookInstall = "hook.install"(InstallHook) -> HookInstalled;
    /// Grants a plugin what it asks for, or parts of that, and switches it on.
    HookGrant = "hook.grant"(GrantHook) -> HookChanged;
    /// Takes back what a plugin was granted, or parts of that.
    HookRevoke = "hook.revoke"(RevokeHook) -> HookChanged;
    /// Removes an installed plugin with its grant and what it remembers.
    HookRemove = "hook.remove"(HookRef) -> Nothing;
    /// What hooks would do to a machine, with what they would write; does nothing.
    HookPlanShow = "hook.plan"(HookPlanQuery) -> HookPlans;
    /// What has been written down of runs of hooks.
    HookRuns = "hook.runs"(HookRunQuery) -> HookRunPage;
    /// Looks whether the records of runs of hooks are as they were written.
    HookVerify = "hook.verify"(Nothing) -> HookChain;
    /// Checks the host.
    DoctorRun = "doctor.run"(Nothing) -> Vec<Check>;
    /// The configuration in force.
    ConfigShow = "config.show"(Nothing) -> serde_json::Value;
    /// Answers.
    DaemonPing = "daemon.ping"(Nothing) -> Pong;
    /// How the daemon is.
    DaemonStatus = "daemon.status"(Nothing) -> DaemonStatusReply;
    /// All methods and subscriptions with their parameters and results: an OpenRPC document.
    RpcDiscover = "rpc.discover"(Nothing) -> serde_json::Value;
    /// Ends the daemon; VMs go on.
    DaemonShutdown = "daemon.shutdown"(Nothing) -> Nothing;
}

macro_rules! subscriptions {
    ($($(#[doc = $doc:literal])* $type:ident = $name:literal ($params:ty) -> $event:ty;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $type;
            impl Subscription for $type {
                const SUBSCRIBE: &'static str = concat!($name, ".subscribe");
                const SUMMARY: &'static str = concat!($($doc),*);
                const UNSUBSCRIBE: &'static str = concat!($name, ".unsubscribe");
                const EVENT: &'static str = concat!($name, ".event");
                type Params = $params;
                type Event = $event;
            }
        )*
    };
}

subscriptions! {
    /// Progress of one operation; the last event has an `end`, and the daemon ends the subscription.
    OpSubscription = "op"(OperationRef) -> Operation;
    /// What happens to VMs, operations and hooks.
    EventSubscription = "events"(EventQuery) -> Event;
    /// The console of a VM: what is in the ring, then what the guest writes. The daemon ends the
    /// subscription when the VM runs no more.
    LogSubscription = "vm.logs"(LogQuery) -> Logs;
    /// What a VM uses, again and again until it is deleted.
    StatsSubscription = "vm.stats"(WatchStats) -> VmStats;
    /// A program and what it prints, until it ends, after which the daemon ends the subscription. It waits
    /// for a subscriber who takes its output slowly. Unsubscribing ends it with SIGHUP, unless it is detached.
    ExecSubscription = "vm.exec"(SubscribeExec) -> ExecEvent;
}

/// No parameters, or no result: an empty object.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Names one VM: by name, id, or an unambiguous prefix of its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VmRef {
    /// The name, id or prefix.
    pub vm: String,
}

/// Names one VM, and says whether to wait for the end of the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VmWait {
    /// The name, id or prefix.
    pub vm: String,
    /// Wait for the end.
    #[serde(default)]
    pub wait: bool,
    /// What the client's environment offers to hooks.
    #[serde(default)]
    pub client: ClientContext,
}

/// Names one operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OperationRef {
    /// The operation's id.
    pub operation: OperationId,
}

/// What travels with a request because it is the client's, not the daemon's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClientContext {
    /// The client's `SSH_AUTH_SOCK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_auth_sock: Option<String>,
}

/// How a VM is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NetMode {
    /// Outbound only, through an unprivileged uplink.
    User,
    /// With an address that the host reaches, on a bridge.
    Bridge,
    /// No network device.
    None,
}

impl NetMode {
    /// The mode as people and plugins write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bridge => "bridge",
            Self::None => "none",
        }
    }
}
