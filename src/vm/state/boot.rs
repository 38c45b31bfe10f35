//! One boot of a VM as data: what is needed to reach it and to end it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::egress::Rule;
use crate::id::BootId;
use crate::process::ProcessId;
use crate::wire::guest::Network;
use crate::wire::rpc::Publish;

/// One boot of a VM: what is needed to reach it and to end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Its id.
    pub id: BootId,
    /// The key of the mutual proof, hexadecimal.
    pub key: String,
    /// How processors run.
    pub accel: Accel,
    /// What it runs with, whatever the VM is to be at its next start.
    pub size: MachineSize,
    /// The monitor.
    pub monitor: ProcessId,
    /// How the agent is reached.
    pub vsock: VsockAddress,
    /// The guest's network.
    pub network: Option<Network>,
    /// What plugins gave it.
    #[serde(default)]
    pub extras: Extras,
}

/// What plugins give a boot besides what the VM's maker said, who wins where both say something. Another
/// boot asks them anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it may reach besides what the VM's own policy says.
    #[serde(default)]
    pub egress: BTreeSet<Rule>,
    /// Ports of the guest at ports of the host.
    #[serde(default)]
    pub publish: Vec<Publish>,
}

/// The size of a machine that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSize {
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the work disk in bytes.
    pub disk_bytes: u64,
}

/// How processors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The kernel's hypervisor.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accel {
    /// The name as QEMU writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// How the guest's vsock is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "vsock", rename_all = "snake_case")]
pub enum VsockAddress {
    /// A Unix socket of this name in the VM's folder, with a `CONNECT` handshake.
    Socket {
        /// The name.
        name: String,
    },
    /// AF_VSOCK with this context id.
    Context {
        /// The context id.
        cid: u32,
    },
}
