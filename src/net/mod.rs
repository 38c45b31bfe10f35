//! The networks of VMs: one network namespace per VM, with a TAP device and rules in it, and an uplink.
//!
//! ```text
//!                 ┌──────── namespace of the VM (held by its keeper) ────────┐
//!  QEMU ── TAP ───┤ tap0 ── forward: nftables rules (`rules/`) ── up<id>  ├── pasta ── sockets of the
//!                 └──────────────────────────────────────────────────────────┘            daemon's user
//!                                                                          └─ or the bridge (`bridge/`)
//!  daemon ── network.sock ── keeper: set up, the host's addresses as they change, policies, questions
//! ```
//!
//! Works for an ordinary user and for root alike: the namespace belongs to a user namespace of its own.
//! What protects the host are the rules, not the uplink; they stand before the uplink exists. The keeper's proxy
//! alone has another way out, and looks for itself where it leads (`keeper/outside.rs`). Both
//! processes outlive the daemon; a new one takes the keeper over by its socket.
//!
//! Knows nothing of VMs but the id and the folder, and nothing of monitors: it hands over a descriptor.

mod asking;
pub mod bridge;
mod bridged;
mod check;
mod control;
mod error;
mod hosts;
pub mod keeper;
mod link;
mod names;
mod namespace;
mod nftables;
mod ranges;
mod rules;
mod sni;
mod spare;
mod start;
mod talk;
mod uplink;
mod way;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use self::bridge::{Member, Setup};
use self::bridged::Bridged;
pub use self::bridged::{Living, Place};
pub use self::check::{BridgeCheck, Check, NetProblem};
pub use self::error::{NetError, Said};
use self::hosts::HostAddresses;
use self::names::systemd::HostNames;
use self::ranges::Prefix;
use self::rules::ResolverTransport;
use self::spare::{Spare, Spares};
use self::start::{Carrier, Up};
use self::talk::Uplink;
use self::way::Way;
use crate::egress::{DnsName, Policy};
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::Report;
use crate::task::Tasks;
use crate::vm::ledger::{Ledger, SpareRows};
use crate::wire::guest::Network;

/// The kernel answers at once; this is for a machine under heavy load.
const HOST_ADDRESSES_DEADLINE: Duration = Duration::from_secs(10);

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
    bridged: Arc<Bridged>,
}

/// The bridge for the VMs that are to be on it.
pub struct OnBridge {
    /// Its name and its addresses.
    pub setup: Setup,
    /// The network helper's socket, for a daemon that is not root.
    pub socket: PathBuf,
    /// The zone of VMs' names.
    pub zone: DnsName,
}

/// How this host comes to find the names of VMs on the bridge: shell commands, with their reasons.
#[must_use]
pub fn recipe_for_names(setup: &Setup, zone: &DnsName) -> String {
    let address = (setup.ranges().gateway().ipv4, names::host::PORT).into();
    let ways = HostNames::of_the_host(Path::new("/")).into_iter();
    ways.map(|way| names::systemd::recipe(way, address, zone)).collect::<Vec<_>>().join("\n")
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
    /// The process that carries the traffic, where one does.
    pub uplink: Option<ProcessId>,
}

/// What a network is made for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The VM.
    pub vm: &'a VmId,
    /// Its folder.
    pub folder: &'a Path,
    /// What it may reach.
    pub policy: &'a Policy,
    /// Its place on the bridge; none for one that goes out by pasta.
    pub place: Option<&'a Place>,
}

impl Networks {
    /// Networks whose keepers are run by the program `coved`. `search_path` is the daemon's `PATH`. From
    /// now on the host's addresses are followed, in a task of `tasks`; so this needs a runtime.
    #[must_use]
    pub fn new(
        coved: PathBuf,
        search_path: &OsStr,
        ahead: Ahead,
        on_bridge: OnBridge,
        tasks: Tasks,
    ) -> Self {
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
        let OnBridge { setup, socket, zone } = on_bridge;
        let bridged = Arc::new(Bridged::new(setup, socket, zone, &tasks));
        Self { coved, path, tasks, host, resolver: OnceCell::new(), spares, bridged }
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
        wanted: Wanted<'_>,
        ledger: &dyn Ledger,
    ) -> Result<Attached, NetError> {
        let host = self.host_addresses().await?;
        let Wanted { vm, folder, policy, place } = wanted;
        if place.is_none()
            && let Some(spare) = self.spares.take().await
            && let Some(attached) = self.give(spare, vm, folder, (&host, policy)).await?
        {
            self.make_ahead();
            return Ok(attached);
        }
        let (way, carrier) = self.way(vm, place).await?;
        let mut starting = start::Starting::new(vm, folder, ledger, &self.path);
        let ways = (&way, self.bridged.zone());
        match starting.run(&self.coved, ways, (&host, policy), carrier).await {
            Ok(Up { tap, channel, pasta }) => {
                let keeper = starting.finish();
                self.follow_host((vm, folder), (keeper, pasta), Some(channel), Some(host));
                if place.is_none() {
                    self.make_ahead();
                }
                Ok(Attached { tap, guest: way.guest_network(vm), keeper, uplink: pasta })
            }
            Err(error) => Err(starting.undo(error).await),
        }
    }

    /// Where a VM's packets go, and what takes them there.
    async fn way<'a>(
        &'a self,
        vm: &VmId,
        place: Option<&'a Place>,
    ) -> Result<(Way, Carrier<'a>), NetError> {
        match place {
            None => {
                let resolver = uplink::resolver_transport(&self.path);
                let resolver = *self.resolver.get_or_init(|| resolver).await;
                Ok((Way::User { resolver }, Carrier::Pasta))
            }
            Some(place) => {
                let (inside, peers) = self.bridged.inside(vm, place)?;
                Ok((Way::Bridge { inside, peers }, Carrier::Bridge(&self.bridged, place)))
            }
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
        self.follow_host((vm, folder), (keeper, uplink), Some(channel), told);
        // What pasta does with DNS is nothing to the guest.
        let way = Way::User { resolver: ResolverTransport::Udp };
        let guest = way.guest_network(vm);
        Ok(Some(Attached { tap, guest, keeper, uplink }))
    }

    /// Makes networks ahead in the background, as many as are wanted.
    fn make_ahead(&self) {
        while let Some(place) = self.spares.place() {
            let making = spare::Making {
                coved: self.coved.clone(),
                path: self.path.clone(),
                host: self.host.clone(),
                resolver: self.resolver.get().copied(),
                zone: self.bridged.zone().clone(),
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
        (keeper, uplink): (ProcessId, Option<ProcessId>),
        policy: &Policy,
    ) -> Result<(), NetError> {
        self.follow_host((vm, folder), (keeper, uplink), None, None);
        self.set_policy(folder, policy).await
    }

    /// Says which VMs are on the bridge since an earlier daemon; of `others` nothing but the place is known.
    /// Called once, before anything else is asked of the bridge; without it there are none. What cannot be done
    /// is logged and, as far as that may help, tried again.
    pub async fn recover_bridge(&self, living: Vec<Living>, others: Vec<Member>) {
        self.bridged.recover(living, others).await;
    }

    /// Takes a VM off the bridge, with what the host's rules say of it. One that is not on it is no error.
    ///
    /// # Errors
    /// When the bridge refuses.
    pub async fn detach(&self, vm: &VmId) -> Result<(), Report> {
        self.bridged.detach(vm).await
    }

    /// Whether this host can have VMs on the bridge.
    pub async fn check_bridge(&self) -> BridgeCheck {
        check::bridge(self.bridged.bridge()).await
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

    /// Whether the device is there without which no VM has a network.
    #[must_use]
    pub fn device_at_hand(&self) -> Check {
        check::device_at_hand()
    }

    async fn host_addresses(&self) -> Result<Arc<Vec<Prefix>>, NetError> {
        let deadline = HOST_ADDRESSES_DEADLINE;
        let mut host = self.host.clone();
        let known = tokio::time::timeout(deadline, host.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(Result::ok).and_then(|host| host.clone());
        known.ok_or(NetError::HostAddresses { deadline })
    }

    /// Tells the keeper of changes from now on. `told` is what it knows already. Without pasta the VM is on
    /// the bridge.
    fn follow_host(
        &self,
        (vm, folder): (&VmId, &Path),
        (keeper, pasta): (ProcessId, Option<ProcessId>),
        channel: Option<control::Channel>,
        told: Option<Arc<Vec<Prefix>>>,
    ) {
        let (vm, folder, shutdown) = (vm.clone(), folder.to_owned(), self.tasks.shutdown());
        let host = self.host.clone();
        let uplink = pasta.map_or_else(|| Uplink::Port(self.bridged.clone()), Uplink::Pasta);
        let telling = talk::Telling { folder, keeper, uplink, channel, told, host };
        drop(self.tasks.spawn("network-of-vm", async move {
            // Abandoned for good at shutdown: the next daemon tells the keeper anew.
            shutdown.run_until_cancelled(telling.run(&vm)).await;
        }));
    }
}
