//! Methods, parameters and results of the daemon's JSON-RPC.
//!
//! One type per method ties its name to its parameters and its result, so that the server, the
//! command line and third-party clients cannot disagree. Parameters are objects; keys are snake_case;
//! fields are added, never renamed. Times are RFC 3339 strings in UTC, sizes are in the unit their
//! name ends in.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{BootId, Digest, ImageName, OperationId, PluginId, VmId, VmName};
use crate::report::{Kind, Report};
use crate::wire::guest::TtySize;

/// A method of the RPC.
pub trait Method {
    /// Its name on the wire, such as `vm.create`.
    const NAME: &'static str;
    /// Its parameters: an object.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// Its result.
    type Reply: Serialize + DeserializeOwned + Clone + Send + 'static;
}

/// A subscription of the RPC: `X.subscribe`, `X.unsubscribe`, notifications `X.event`.
pub trait Subscription {
    /// The name of the method that subscribes.
    const SUBSCRIBE: &'static str;
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
    ($($(#[$doc:meta])* $type:ident = $name:literal ($params:ty) -> $reply:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $type;
            impl Method for $type {
                const NAME: &'static str = $name;
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
    /// Kills a VM's monitor at once.
    VmKill = "vm.kill"(VmRef) -> Vm;
    /// Deletes a VM with its disks, whatever its state.
    VmDelete = "vm.delete"(VmRef) -> Deleted;
    /// All VMs, oldest first.
    VmList = "vm.list"(Page) -> VmPage;
    /// One VM.
    VmShow = "vm.show"(VmRef) -> Vm;
    /// The console of a VM: what is in the ring, escaped for terminals unless `raw`.
    VmLogs = "vm.logs"(LogQuery) -> Logs;
    /// Asks the guest how it is.
    VmHealth = "vm.health"(VmRef) -> VmHealthReply;
    /// Prepares to run a program; the returned ticket opens its byte stream.
    VmExec = "vm.exec"(ExecVm) -> StreamTicket;
    /// One operation.
    OpShow = "op.show"(OperationRef) -> Operation;
    /// Waits for the end of an operation.
    OpWait = "op.wait"(OperationRef) -> Operation;
    /// Cancels an operation; what it made is undone.
    OpCancel = "op.cancel"(OperationRef) -> Operation;
    /// All operations that are kept, oldest first.
    OpList = "op.list"(Nothing) -> Vec<Operation>;
    /// All images.
    ImageList = "image.list"(Nothing) -> Vec<Image>;
    /// All kernels.
    KernelList = "kernel.list"(Nothing) -> Vec<Kernel>;
    /// All hooks, in the order in which they run.
    HookList = "hook.list"(Nothing) -> Vec<Hook>;
    /// Checks the host.
    DoctorRun = "doctor.run"(Nothing) -> Vec<Check>;
    /// The configuration in force.
    ConfigShow = "config.show"(Nothing) -> serde_json::Value;
    /// Answers.
    DaemonPing = "daemon.ping"(Nothing) -> Pong;
    /// How the daemon is.
    DaemonStatus = "daemon.status"(Nothing) -> DaemonStatusReply;
    /// Ends the daemon; VMs go on.
    DaemonShutdown = "daemon.shutdown"(Nothing) -> Nothing;
}

/// Progress of one operation; the last event has an `end`.
#[derive(Debug, Clone, Copy)]
pub struct OpSubscription;

impl Subscription for OpSubscription {
    const SUBSCRIBE: &'static str = "op.subscribe";
    const UNSUBSCRIBE: &'static str = "op.unsubscribe";
    const EVENT: &'static str = "op.event";
    type Params = OperationRef;
    type Event = Operation;
}

/// No parameters, or no result: an empty object.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Names one VM: by name, id, or an unambiguous prefix of its id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmRef {
    /// The name, id or prefix.
    pub vm: String,
}

/// Names one VM, and says whether to wait for the end of the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[serde(deny_unknown_fields)]
pub struct OperationRef {
    /// The operation's id.
    pub operation: OperationId,
}

/// What travels with a request because it is the client's, not the daemon's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientContext {
    /// The client's `SSH_AUTH_SOCK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_auth_sock: Option<String>,
}

/// How a VM is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetMode {
    /// Outbound only, through an unprivileged uplink.
    User,
    /// No network device.
    None,
}

/// Parameters of `vm.create`. What is not given comes from the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateVm {
    /// The name; made up when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Virtual processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Size of the work disk in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Size of the root overlay disk in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_bytes: Option<u64>,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<NetMode>,
    /// Environment of every command run in the guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The repository to put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<CreateWorkspace>,
    /// Start it: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
    /// Delete it when this connection has been gone for ten seconds.
    #[serde(default)]
    pub lease: bool,
    /// Wait for the end of the operation.
    #[serde(default)]
    pub wait: bool,
    /// What the client's environment offers to hooks.
    #[serde(default)]
    pub client: ClientContext,
}

/// The repository to put into a new VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateWorkspace {
    /// A folder inside a git repository of the host, absolute.
    pub path: String,
    /// Take untracked files too, but never ignored ones.
    #[serde(default)]
    pub include_untracked: bool,
}

/// What a `vm.create` would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatePlan {
    /// Processors, memory, disks, image and kernel after defaults.
    pub machine: MachinePlan,
    /// What would go in of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspacePlan>,
    /// What each hook would write, in the order in which they run.
    pub hooks: Vec<HookPlan>,
}

/// A machine after defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachinePlan {
    /// The image's name.
    pub image: ImageName,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the work disk in bytes.
    pub disk_bytes: u64,
    /// Size of the root overlay disk in bytes.
    pub root_disk_bytes: u64,
    /// The network.
    pub net: NetMode,
}

/// What would go into the guest of a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkspacePlan {
    /// The root of the working tree on the host.
    pub source_path: String,
    /// The folder in the guest.
    pub guest_path: String,
    /// The commit it is based on; none in a repository without commits.
    pub base_commit: Option<String>,
    /// The origin the checkout will have, without user name, password and token.
    pub origin: Option<String>,
    /// Paths of the files, relative to the repository's root. Bytes that are not UTF-8 are shown as
    /// replacement characters.
    pub files: Vec<String>,
    /// Their total size in bytes.
    pub bytes: u64,
    /// How many untracked files are left out.
    pub untracked_left_out: u64,
}

/// What one hook would write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookPlan {
    /// The plugin.
    pub plugin: PluginId,
    /// Steps of its plan.
    pub steps: Vec<HookStep>,
    /// Lines it logged (warnings for the user).
    pub log: Vec<String>,
    /// Microseconds it took.
    #[serde(default)]
    pub wall_us: u64,
}

/// One step of a hook's plan, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookStep {
    /// `make-directory`, `write-file`, `ensure-block`, `symlink` or `remove`.
    pub action: String,
    /// The path, relative to the home.
    pub path: String,
    /// Permission bits, where the step has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Bytes of content, where the step has content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The state of a VM, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Made, never started.
    Created,
    /// Its monitor is being started and its guest boots.
    Starting,
    /// Its guest answers.
    Running,
    /// Its guest powers off.
    Stopping,
    /// Its disks are there, nothing runs.
    Stopped,
    /// Something failed; see `cause`.
    Error,
}

/// A VM, as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// Its state.
    pub state: VmState,
    /// Why it is in state `error`, or why its guest was found dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Its image.
    pub image: ImageName,
    /// The digest of its kernel.
    pub kernel: Digest,
    /// The monitor: `qemu`.
    pub vmm: String,
    /// How its processors run: `kvm` or `tcg`; none before its first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<String>,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the work disk in bytes.
    pub disk_bytes: u64,
    /// Size of the root overlay disk in bytes.
    pub root_disk_bytes: u64,
    /// The network.
    pub net: VmNet,
    /// The repository inside, if one was put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<VmWorkspace>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When somebody last used it.
    pub last_touched_at: String,
    /// The current boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<BootId>,
    /// The process id of its monitor, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Whether it is deleted when its client goes away.
    #[serde(default)]
    pub leased: bool,
}

/// A VM's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmNet {
    /// The mode.
    pub mode: NetMode,
    /// The guest's address, while it runs and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A repository inside a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmWorkspace {
    /// The folder in the guest, absolute.
    pub guest_path: String,
    /// The root of the working tree on the host.
    pub source_path: String,
    /// The commit it is based on; none in a repository without commits.
    pub base_commit: Option<String>,
}

/// Which part of a list to return.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// At most so many; 500 when not given, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of VMs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmPage {
    /// The VMs.
    pub vms: Vec<Vm>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The result of `vm.delete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deleted {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// Where its console was saved, when it was deleted without having become reachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_saved: Option<String>,
}

/// Parameters of `vm.logs`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The VM.
    pub vm: String,
    /// Read from this position, counted in bytes since the VM's first start; the oldest kept when not
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// A piece of a VM's console.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Logs {
    /// The text; bytes that are not UTF-8 are replaced. Hostile: escape before showing.
    pub text: String,
    /// The position after it, for the next query.
    pub next: u64,
    /// Bytes between the wanted position and the text that the ring no longer has.
    pub lost: u64,
}

/// The result of `vm.health`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmHealthReply {
    /// The guest's boot.
    pub boot_id: BootId,
    /// Milliseconds since its kernel started.
    pub uptime_ms: u64,
}

/// Parameters of `vm.exec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecVm {
    /// The VM.
    pub vm: String,
    /// The program and its arguments; empty for a login shell.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder to run in; the workspace, or the home, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A pseudo-terminal of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
}

/// Opens one byte stream, once, within 30 seconds: `GET /stream/TICKET` on the same socket with
/// `Connection: Upgrade` and `Upgrade: cove-stream`. The stream carries frames (`wire::frame`) as they
/// are said at `wire::guest::Request::Exec`, from the reply on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamTicket {
    /// The ticket, hexadecimal.
    pub ticket: String,
}

/// The `Upgrade` token of byte streams.
pub const STREAM_PROTOCOL: &str = "cove-stream";

/// A long piece of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does: `create`, `start`.
    pub action: String,
    /// The VM it is about.
    pub vm: VmId,
    /// That VM's name.
    pub vm_name: VmName,
    /// Its stages so far, in order.
    pub stages: Vec<Stage>,
    /// Things the user should know, such as a boot that was tried again.
    pub notes: Vec<String>,
    /// When it began.
    pub started_at: String,
    /// How it ended; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<OperationEnd>,
}

/// One stage of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name: `disks`, `network`, `monitor`, `boot`, `hooks`, `workspace`, `setup`; and `hook ID` for
    /// the component of each plugin, as a part of `hooks`.
    pub name: String,
    /// Microseconds since the operation began.
    pub began_us: u64,
    /// Microseconds it took; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

/// How an operation ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum OperationEnd {
    /// It did what it should.
    Done {
        /// The VM afterwards.
        vm: Box<Vm>,
    },
    /// It failed.
    Failed {
        /// Why.
        error: Report,
        /// Whether the VM was kept for inspection.
        vm_kept: bool,
        /// Where the console was saved, when the VM was not kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        console_saved: Option<String>,
    },
}

impl OperationEnd {
    /// The kind of the failure, if it is one.
    #[must_use]
    pub fn failure(&self) -> Option<Kind> {
        match self {
            Self::Done { .. } => None,
            Self::Failed { error, .. } => Some(error.kind),
        }
    }
}

/// An image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// The digest of its file system.
    pub digest: Digest,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// What it is, for people: "Debian 12, 2026-11-23".
    pub description: String,
}

/// A kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kernel {
    /// The digest of its file.
    pub digest: Digest,
    /// Its release: `6.1.0-30-cloud-amd64`.
    pub release: String,
}

/// A hook of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// The hook point: `prepare-work-disk`.
    pub hook: String,
    /// The digest of its component.
    pub digest: Digest,
    /// Whether it came with cove.
    pub standard: bool,
    /// What it asks for, with its reasons.
    pub needs: Vec<HookNeed>,
    /// Why it cannot run, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One thing a plugin asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookNeed {
    /// The kind: `work-disk`, `host-files.import`, …
    pub kind: String,
    /// Paths or names.
    pub what: Vec<String>,
    /// Why, in the author's words.
    pub reason: String,
    /// Whether it is granted.
    pub granted: bool,
}

/// One row of `cove doctor`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All right.
    Pass,
    /// Works, but not as well as it could.
    Warn,
    /// VMs cannot be started.
    Fail,
}

/// The result of `daemon.ping`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pong {
    /// The daemon's version.
    pub version: String,
}

/// The result of `daemon.status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DaemonStatusReply {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The path of its socket.
    pub socket: String,
    /// The path of its database.
    pub database: String,
    /// When it started.
    pub started_at: String,
    /// How many VMs it has.
    pub vms: u64,
    /// Its resident memory in KiB.
    pub resident_kib: u64,
    /// The path of its log.
    pub log: String,
}
