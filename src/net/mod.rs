//! The networks of VMs: one network namespace per VM, with a TAP device and rules in it, and an uplink.
//!
//! ```text
//!                 ┌──────── namespace of the VM (held by its keeper) ────────┐
//!  QEMU ── TAP ───┤ tap0 ── forward: nftables rules (`rules/`) ── up<id>  ├── pasta ── sockets of the
//!                 └──────────────────────────────────────────────────────────┘            daemon's user
//!  daemon ── network.sock ── keeper: set up, the host's addresses as they change, policies, questions
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
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the daemon is about to serve the host's resolver, and names of VMs"
    )
)]
mod names;
mod namespace;
mod ranges;
mod rules;
mod sni;
mod spare;
mod start;
mod talk;
mod uplink;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

pub use self::check::{Check, NetProblem};
use self::control::{Host, Reply, Request};
pub use self::error::{NetError, Said};
use self::hosts::HostAddresses;
use self::ranges::Prefix;
use self::rules::ResolverTransport;
use self::spare::{Spare, Spares};
use crate::egress::Policy;
use crate::id::VmId;
use crate::process::ProcessId;
use crate::task::Tasks;
use crate::vm::ledger::{Ledger, SpareRows};
use crate::wire::guest::Network;
use crate::wire::rpc::{Denials, NetExplanation};

/// The kernel answers at once; this is for a machine under heavy load.
const HOST_ADDRESSES_DEADLINE: Duration = Duration::from_secs(10);

/// How long a keeper waits for a denial at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long a killed process may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Where programs of system administrators lie, which are not on every user's search path.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// The networks of this daemon's VMs.
pub struct Networks {
    coved: PathBuf,
    path: OsString,
    tasks: Tasks,
    host: HostAddresses,
    resolver: OnceCell<ResolverTransport>,
    spares: Spares,
}

/// Networks that are made ahead of the VMs that will have them.
pub struct Ahead {
    /// Their rows.
    pub rows: Arc<dyn SpareRows>,
    /// A folder of their own.
    pub folder: PathBuf,
    /// How many are kept, once the first VM with a network has started.
    pub count: usize,
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
    pub fn new(coved: PathBuf, search_path: &OsStr, ahead: Ahead, tasks: Tasks) -> Self {
        let mut path = search_path.to_owned();
        if !path.is_empty() {
            path.push(":");
        }
        path.push(SYSTEM_FOLDERS);
        let host = hosts::watch(&tasks);
        let spares = Spares::new(ahead.rows, ahead.folder, ahead.count);
        let (emptied, shutdown) = (spares.clone(), tasks.shutdown());
        drop(tasks.spawn("spare-networks", async move {
            shutdown.cancelled().await;
            emptied.empty().await;
        }));
        Self { coved, path, tasks, host, resolver: OnceCell::new(), spares }
    }

    /// Ends the networks that an earlier daemon has made ahead and left. Called once, before anything else.
    pub async fn recover(&self) {
        self.spares.sweep().await;
    }

    /// Gives a VM a network that lets out what `policy` says: one that was made ahead, where there is one.
    /// Its processes are in the ledger before they run; when this fails they have been ended, and when it is
    /// cancelled they have been killed.
    ///
    /// # Errors
    /// When a program is missing or fails (its output is the cause), or a step takes too long.
    pub async fn start(
        &self,
        vm: &VmId,
        folder: &Path,
        policy: &Policy,
        ledger: &dyn Ledger,
    ) -> Result<Attached, NetError> {
        let host = self.host_addresses().await?;
        if let Some(spare) = self.spares.take().await
            && let Some(attached) = self.give(spare, vm, folder, (&host, policy)).await?
        {
            self.make_ahead();
            return Ok(attached);
        }
        let resolver = self.resolver.get_or_init(|| uplink::resolver_transport(&self.path)).await;
        let mut starting = start::Starting::new(vm, folder, ledger, &self.path);
        match starting.run(&self.coved, *resolver, &host, policy).await {
            Ok((tap, channel)) => {
                let (keeper, uplink) = starting.finish();
                self.follow_host(vm, folder, (keeper, uplink), Some(channel), Some(host));
                self.make_ahead();
                Ok(Attached { tap, guest: link::guest_network(vm), keeper, uplink })
            }
            Err(error) => Err(starting.undo(error).await),
        }
    }

    /// Gives a VM a network that was made ahead. None when it cannot have that one: it makes its own then.
    ///
    /// # Errors
    /// When what was made ahead cannot be ended either.
    async fn give(
        &self,
        spare: Spare,
        vm: &VmId,
        folder: &Path,
        (host, policy): (&Arc<Vec<Prefix>>, &Policy),
    ) -> Result<Option<Attached>, NetError> {
        let mut spare = self.spares.rows_to(spare, vm).await?;
        if let Err(error) = spare::hand_over(&mut spare, folder, (host, policy)).await {
            let why = crate::report::causes(&error).join(": ");
            tracing::warn!(%vm, %error, %why, "a network made ahead is no use");
            return match spare.processes.kill().await {
                Ok(()) => Ok(None),
                Err(left) => {
                    Err(NetError::Undo { left: left.to_string(), source: Box::new(error) })
                }
            };
        }
        let Spare { tap, channel, processes, .. } = spare;
        let (keeper, uplink) = processes.let_go();
        let told = Some(Arc::clone(host));
        self.follow_host(vm, folder, (keeper, uplink), Some(channel), told);
        Ok(Some(Attached { tap, guest: link::guest_network(vm), keeper, uplink }))
    }

    /// Makes networks ahead in the background, as many as are wanted.
    fn make_ahead(&self) {
        while let Some(place) = self.spares.place() {
            let making = spare::Making {
                coved: self.coved.clone(),
                path: self.path.clone(),
                host: self.host.clone(),
                resolver: self.resolver.get().copied(),
            };
            let shutdown = self.tasks.shutdown();
            drop(self.tasks.spawn("spare-network", async move {
                // Abandoned for good at shutdown: what was begun is killed, and the next daemon has its rows.
                shutdown.run_until_cancelled(place.fill(making)).await;
            }));
        }
    }

    /// Takes over the network of a VM that an earlier daemon started: its keeper is told the host's
    /// present addresses and, from now on, their changes, and what the VM may reach. As after
    /// [`Networks::start`], the uplink is ended when the keeper is gone.
    ///
    /// # Errors
    /// When the keeper cannot be reached, does not take the policy, or does not say that it has. The host's
    /// addresses are told again as long as it lives; what holds of the policy is as after
    /// [`Networks::set_policy`].
    pub async fn adopt(
        &self,
        vm: &VmId,
        folder: &Path,
        keeper: ProcessId,
        uplink: ProcessId,
        policy: &Policy,
    ) -> Result<(), NetError> {
        self.follow_host(vm, folder, (keeper, uplink), None, None);
        self.set_policy(folder, policy).await
    }

    /// Changes what a running VM may reach. It is in force when this returns, for running flows too.
    ///
    /// # Errors
    /// When the keeper of the VM with this folder cannot be reached or does not take it; then the policy
    /// before stays in force ([`NetError::leaves_the_policy`]). Also when it does not answer in time, or the
    /// connection breaks: then it may have taken it, or take it yet.
    pub async fn set_policy(&self, folder: &Path, policy: &Policy) -> Result<(), NetError> {
        let request = Request::Policy { policy: policy.clone() };
        match talk::ask_once(folder, &request, "change the policy", Duration::ZERO).await? {
            Reply::Done => Ok(()),
            Reply::Explained(_) | Reply::Denied(_) | Reply::Failed { .. } => {
                Err(NetError::Connection(talk::another_answer()))
            }
        }
    }

    /// Why a running VM may or may not reach `host`, a name or an address, now.
    ///
    /// # Errors
    /// When `host` is neither, or the keeper cannot be reached.
    pub async fn explain(
        &self,
        folder: &Path,
        host: &str,
        port: Option<u16>,
    ) -> Result<NetExplanation, NetError> {
        let bad = |source| NetError::Host { host: host.to_owned(), source };
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host.parse().map_err(bad)?),
        };
        let request = Request::Explain { host, port };
        match talk::ask_once(folder, &request, "explain it", Duration::ZERO).await? {
            Reply::Explained(explanation) => Ok(explanation),
            Reply::Done | Reply::Denied(_) | Reply::Failed { .. } => {
                Err(NetError::Connection(talk::another_answer()))
            }
        }
    }

    /// What a running VM was refused since its boot, after the denial of number `after`: the oldest
    /// first, at most 256. Waits for one when there is none, 30 s at most.
    ///
    /// # Errors
    /// When the keeper cannot be reached.
    pub async fn denials(
        &self,
        folder: &Path,
        after: u64,
        wait: Duration,
    ) -> Result<Denials, NetError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Denials { after, wait_ms };
        let wait = wait.min(LONGEST_WAIT);
        match talk::ask_once(folder, &request, "tell what it refused", wait).await? {
            Reply::Denied(denials) => Ok(denials),
            Reply::Done | Reply::Explained(_) | Reply::Failed { .. } => {
                Err(NetError::Connection(talk::another_answer()))
            }
        }
    }

    /// Whether this host can give VMs networks: one row per need, none left out because of another one,
    /// except for the trial of namespaces, which needs `/dev/net/tun`.
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
        let telling = talk::Telling { folder, keeper, uplink, channel, told, host };
        drop(self.tasks.spawn("network-of-vm", async move {
            // Abandoned for good at shutdown: the next daemon tells the keeper anew.
            shutdown.run_until_cancelled(telling.run(&vm)).await;
        }));
    }
}
