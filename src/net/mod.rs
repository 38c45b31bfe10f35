//! The networks of VMs: one network namespace per VM, with a TAP device and rules in it, and an uplink.
//!
//! ```text
//!                 ┌──────── namespace of the VM (held by its keeper) ────────┐
//!  QEMU ── TAP ───┤ tap0 ── forward: nftables rules (`policy.rs`) ── up<id>  ├── pasta ── sockets of the
//!                 └──────────────────────────────────────────────────────────┘            daemon's user
//!  daemon ── network.sock ── keeper: set up, then the host's addresses as they change
//! ```
//!
//! Works for an ordinary user and for root alike: the namespace belongs to a user namespace of its own.
//! What protects the host are the rules, not the uplink; they stand before the uplink exists. Both
//! processes outlive the daemon; a new one takes the keeper over by its socket.
//!
//! Knows nothing of VMs but the id and the folder, and nothing of monitors: it hands over a descriptor.

pub mod bridge;
mod check;
mod control;
mod error;
mod hosts;
pub mod keeper;
mod link;
mod namespace;
mod policy;
mod ranges;
mod start;
mod uplink;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

pub use self::check::{Check, NetProblem};
pub use self::error::{NetError, Said};
use self::hosts::HostAddresses;
use self::policy::ResolverTransport;
use self::ranges::Prefix;
use crate::id::VmId;
use crate::process::ProcessId;
use crate::task::Tasks;
use crate::vm::ledger::Ledger;
use crate::wire::guest::Network;

/// The kernel answers at once; this is for a machine under heavy load.
const HOST_ADDRESSES_DEADLINE: Duration = Duration::from_secs(10);

/// How long a killed process may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Where programs of system administrators lie, which are not on every user's search path: `nft` is one.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// The networks of this daemon's VMs.
#[derive(Debug)]
pub struct Networks {
    coved: PathBuf,
    path: OsString,
    tasks: Tasks,
    host: HostAddresses,
    resolver: OnceCell<ResolverTransport>,
}

/// A network that is up.
#[derive(Debug)]
pub struct Attached {
    /// The TAP device, made without `IFF_VNET_HDR`, for `-netdev tap,fd=…`.
    pub tap: OwnedFd,
    /// What the guest's agent has to set up; `mac` is for the monitor too.
    pub guest: Network,
    /// The process that holds the namespace.
    pub keeper: ProcessId,
    /// The process that carries the traffic.
    pub uplink: ProcessId,
}

impl Networks {
    /// Networks whose keepers are run by the program `coved`. `search_path` is the daemon's `PATH`. From
    /// now on the host's addresses are followed, in a task of `tasks`; so this needs a runtime.
    #[must_use]
    pub fn new(coved: PathBuf, search_path: &OsStr, tasks: Tasks) -> Self {
        let mut path = search_path.to_owned();
        if !path.is_empty() {
            path.push(":");
        }
        path.push(SYSTEM_FOLDERS);
        let host = hosts::watch(&tasks);
        Self { coved, path, tasks, host, resolver: OnceCell::new() }
    }

    /// Gives a VM a network. Its processes are in the ledger before they run; when this fails they have
    /// been ended, and when it is cancelled they have been killed.
    ///
    /// # Errors
    /// When a program is missing or fails (its output is the cause), or a step takes too long.
    pub async fn start(
        &self,
        vm: &VmId,
        folder: &Path,
        ledger: &dyn Ledger,
    ) -> Result<Attached, NetError> {
        let host = self.host_addresses().await?;
        let resolver = self.resolver.get_or_init(|| uplink::resolver_transport(&self.path)).await;
        let mut starting = start::Starting::new(vm, folder, ledger, &self.path);
        match starting.run(&self.coved, *resolver, &host).await {
            Ok((tap, channel)) => {
                let (keeper, uplink) = starting.finish();
                self.follow_host(vm, folder, (keeper, uplink), Some(channel), Some(host));
                Ok(Attached { tap, guest: link::guest_network(vm), keeper, uplink })
            }
            Err(error) => Err(starting.undo(error).await),
        }
    }

    /// Takes over the network of a VM that an earlier daemon started: its keeper is told the host's
    /// present addresses and, from now on, their changes. As after [`Networks::start`], the uplink is
    /// ended when the keeper is gone.
    ///
    /// # Errors
    /// When the keeper cannot be reached; it is tried again as long as it lives.
    pub async fn adopt(
        &self,
        vm: &VmId,
        folder: &Path,
        keeper: ProcessId,
        uplink: ProcessId,
    ) -> Result<(), NetError> {
        let connected = start::connect(folder).await;
        let (channel, result) = match connected {
            Ok(channel) => (Some(channel), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.follow_host(vm, folder, (keeper, uplink), channel, None);
        result
    }

    /// Whether this host can give VMs networks: one row per need, none left out because of another one,
    /// except for the trial of namespaces, which needs `nft` and `/dev/net/tun`.
    pub async fn check(&self) -> Vec<Check> {
        check::all(&self.coved, &self.path).await
    }

    /// Whether what VMs' networks need is there, without trying it: needs no time.
    #[must_use]
    pub fn at_hand(&self) -> Vec<Check> {
        check::at_hand(&self.path)
    }

    async fn host_addresses(&self) -> Result<Arc<Vec<Prefix>>, NetError> {
        let deadline = HOST_ADDRESSES_DEADLINE;
        let mut host = self.host.clone();
        let known = tokio::time::timeout(deadline, host.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(Result::ok).and_then(|host| host.clone());
        known.ok_or(NetError::HostAddresses { deadline })
    }

    /// Tells the keeper of changes from now on. `told` is what it knows already.
    fn follow_host(
        &self,
        vm: &VmId,
        folder: &Path,
        (keeper, uplink): (ProcessId, ProcessId),
        channel: Option<control::Channel>,
        told: Option<Arc<Vec<Prefix>>>,
    ) {
        let (vm, folder, shutdown) = (vm.clone(), folder.to_owned(), self.tasks.shutdown());
        let host = self.host.clone();
        let telling = start::Telling { folder, keeper, uplink, channel, told, host };
        drop(self.tasks.spawn("network-of-vm", async move {
            // Abandoned for good at shutdown: the next daemon tells the keeper anew.
            shutdown.run_until_cancelled(telling.run(&vm)).await;
        }));
    }
}
