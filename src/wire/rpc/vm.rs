//! VMs as clients see them, their consoles, and programs in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{KillSignal, NetMode, Publish, Setting, WorkspaceMode};
use crate::egress::Mode;
use crate::id::{BootId, Digest, ImageName, VmId, VmName};
use crate::wire::guest::TtySize;

/// The state of a VM, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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

impl VmState {
    /// Whether a VM in it neither runs nor is on its way to it: nothing writes to its console.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        match self {
            Self::Created | Self::Stopped | Self::Error => true,
            Self::Starting | Self::Running | Self::Stopping => false,
        }
    }
}

/// A VM, as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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
    /// Why it stands still although it runs: the host does not take what its guest writes. `vm.start` has
    /// it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
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
    /// Its ports that are reachable at ports of the host as long as it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Those of them that are not, although it runs, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish_failed: Vec<String>,
    /// The repository inside, if one was put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<VmWorkspace>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// It is stopped when nobody has used it for so many seconds; none for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_stop_after_s: Option<u64>,
    /// What was changed and does not hold before its next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_needed: Vec<Setting>,
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
    /// The public half of its ssh host key, as OpenSSH writes it: what an ssh server in it is to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_host_key: Option<String>,
}

/// A VM's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct VmNet {
    /// The mode.
    pub mode: NetMode,
    /// The guest's address, while it runs and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The guest's IPv6 address, while it runs and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<String>,
    /// What it may reach at all, where it has a network; `net.show` has the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Mode>,
}

/// A repository inside a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct VmWorkspace {
    /// The folder in the guest, absolute.
    pub guest_path: String,
    /// The root of the working tree on the host.
    pub source_path: String,
    /// The commit it is based on; none in a repository without commits.
    pub base_commit: Option<String>,
    /// In which form it is there.
    #[serde(default)]
    pub mode: WorkspaceMode,
}

/// Which part of a list to return.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct VmPage {
    /// The VMs.
    pub vms: Vec<Vm>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Parameters of `vm.kill`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KillVm {
    /// The VM.
    pub vm: String,
    /// The signal for its monitor; `KILL` when not given.
    #[serde(default)]
    pub signal: KillSignal,
}

/// Parameters of `vm.delete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteVm {
    /// The VM.
    pub vm: String,
    /// Delete it only if it is at rest: neither running nor on its way to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_rest: bool,
    /// Delete it also when there is work in its workspace that was not exported, or nobody knows whether there
    /// is. Without this, that is a conflict.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discard_work: bool,
}

impl DeleteVm {
    /// Delete this VM whatever it does, and whatever is in it.
    pub fn whatever(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), at_rest: false, discard_work: true }
    }
}

/// The result of `vm.delete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct VmHealthReply {
    /// The guest's boot.
    pub boot_id: BootId,
    /// Milliseconds since its kernel started.
    pub uptime_ms: u64,
}

/// Parameters of `vm.exec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
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

/// Parameters of `vm.ssh`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SshVm {
    /// The VM.
    pub vm: String,
    /// A public key, as OpenSSH writes it, with which this one connection may log in. Those in the guest's
    /// `~/.ssh/authorized_keys` may in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized_key: Option<String>,
    /// Whether the guest may use an agent that ssh forwards on this connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_agent: bool,
}

/// Opens the byte stream of an ssh server, as a [`StreamTicket`] does. What ssh says is on the program's
/// standard input and output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct SshTicket {
    /// The ticket, hexadecimal.
    pub ticket: String,
    /// Variables of the VM that sessions do not have, because all of them together are too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_left_out: Vec<String>,
}

/// Opens one byte stream, once, within 30 seconds: `GET /stream/TICKET` on the same socket with
/// `Connection: Upgrade` and `Upgrade: cove-stream`. The stream carries frames (`wire::frame`) as they
/// are said at `wire::guest::Request::Exec`, `Connect` or `Copy`, from the reply on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct StreamTicket {
    /// The ticket, hexadecimal.
    pub ticket: String,
}

/// The `Upgrade` token of byte streams.
pub const STREAM_PROTOCOL: &str = "cove-stream";
