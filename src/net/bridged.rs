//! The VMs of this daemon that are on the bridge: their names, who is whose peer, and the resolver at the
//! bridge's own address.
//!
//! ```text
//!  keeper ── UDP, TCP ── gateway, port 5354 ── names of VMs ── other names: the host's nameservers
//!  host ──────────────────────┘
//! ```
//!
//! Answered are only those in the bridge's own range, which nobody outside has: the host itself, which asks
//! with the gateway's address, about names of VMs alone. The bridge comes with its first VM and goes with its last; the resolver's sockets,
//! once they are bound, stay.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{OnceCell, watch};
use tokio::time::sleep;

use super::bridge::{Bridge, Inside, Member, Setup};
use super::control::Request;
use super::error::NetError;
use super::names::host::{Clients, HostResolver, PORT};
use super::names::{Upstream, Zone};
use super::talk::ask_once;
use crate::egress::DnsName;
use crate::id::{VmId, VmName};
use crate::process::ProcessId;
use crate::report::Report;
use crate::task::Tasks;

/// How long after the bridge could not be had it is asked for again.
const RETRY: Duration = Duration::from_secs(5);

/// A VM's place on the bridge, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The VM's name.
    pub name: VmName,
    /// What stands for its addresses.
    pub slot: u32,
    /// The VMs that it is to reach, and that are to reach it.
    pub peers: BTreeSet<VmId>,
}

/// A VM that runs.
#[derive(Debug, Clone)]
pub struct Living {
    /// The VM.
    pub vm: VmId,
    /// Its folder.
    pub folder: PathBuf,
    /// Its place.
    pub place: Place,
    /// The addresses that it was started with.
    pub addresses: Vec<IpAddr>,
    /// Its keeper, as its rows have it.
    pub keeper: Option<ProcessId>,
}

/// The bridge, and who is on it.
pub(super) struct Bridged {
    bridge: Bridge,
    zone: DnsName,
    tasks: Tasks,
    known: Mutex<Known>,
    names: watch::Sender<Arc<Zone>>,
    /// Set when the resolver is there.
    resolver: OnceCell<()>,
}

#[derive(Default)]
struct Known {
    vms: Vec<On>,
    /// Of the zone's next state.
    serial: u32,
}

/// A VM that is on the bridge.
#[derive(Clone)]
struct On {
    name: VmName,
    folder: PathBuf,
    member: Member,
    addresses: Vec<IpAddr>,
    keeper: Option<ProcessId>,
}

impl From<Living> for On {
    fn from(Living { vm, folder, place, addresses, keeper }: Living) -> Self {
        let member = member(&vm, &place);
        Self { name: place.name, folder, member, addresses, keeper }
    }
}

impl Bridged {
    /// The bridge `setup`. `socket` is the network helper's. Nothing is touched before the first VM.
    pub(super) fn new(setup: Setup, socket: PathBuf, zone: DnsName, tasks: &Tasks) -> Self {
        let bridge = Bridge::start(setup, socket, tasks);
        let names = watch::Sender::new(Arc::new(Zone::new(zone.clone(), 1)));
        let known = Mutex::new(Known { vms: Vec::new(), serial: 2 });
        Self { bridge, zone, tasks: tasks.clone(), known, names, resolver: OnceCell::new() }
    }

    /// The bridge itself.
    pub(super) fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// The zone of VMs' names.
    pub(super) fn zone(&self) -> &DnsName {
        &self.zone
    }

    /// What the keeper of a VM has to know before its uplink is there.
    ///
    /// # Errors
    /// When the bridge has no such place.
    pub(super) fn inside(&self, vm: &VmId, place: &Place) -> Result<(Inside, Vec<IpAddr>), Report> {
        let inside = self.bridge.inside(place.slot)?;
        Ok((inside, self.addresses_of_peers(&member(vm, place))))
    }

    /// Gives a VM its uplink, and the host its way in.
    ///
    /// # Errors
    /// When the bridge refuses, or the resolver cannot be had. It may be on the bridge all the same.
    pub(super) async fn attach(
        &self,
        vm: &VmId,
        place: &Place,
        keeper: ProcessId,
    ) -> Result<(), NetError> {
        self.bridge.attach(member(vm, place), keeper).await?;
        self.resolve().await
    }

    /// A VM's uplink is up: it has its name from now on, and it and its peers know each other.
    pub(super) async fn enter(&self, living: Living) {
        let on = On::from(living);
        self.note(on.clone());
        // One that came between this one's first question and now does not know of it, nor it of that one.
        self.tell_peers_of(&on.member).await;
        let own = self.addresses_of_peers(&on.member);
        if !own.is_empty() {
            self.tell(&on, own).await;
        }
    }

    /// Takes a VM off the bridge. One that is not on it is no error.
    ///
    /// # Errors
    /// When the bridge refuses. Its name is gone all the same.
    pub(super) async fn detach(&self, vm: &VmId) -> Result<(), Report> {
        let gone = self.forget(|on| on.member.vm == *vm);
        let detached = self.bridge.detach(vm).await;
        for on in gone {
            self.tell_peers_of(&on.member).await;
        }
        detached
    }

    /// The same of a VM whose keeper has ended, unless it has another one by now, or is off already.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn detach_without(&self, vm: &VmId, keeper: ProcessId) -> Result<(), Report> {
        let its = |on: &On| on.member.vm == *vm && on.keeper == Some(keeper);
        let is_there = self.known().vms.iter().any(its);
        match is_there {
            true => self.detach(vm).await,
            false => Ok(()),
        }
    }

    /// Says which VMs are on the bridge since an earlier daemon, and which `others`, of which nothing more is
    /// known. Those whose port is gone get another one. Where the bridge cannot be had it is asked for again and
    /// again: what stands of it goes on meanwhile.
    pub(super) async fn recover(self: &Arc<Self>, living: Vec<Living>, others: Vec<Member>) {
        let members = living.iter().map(|one| member(&one.vm, &one.place)).chain(others).collect();
        for one in living {
            self.note(On::from(one));
        }
        let Err(error) = self.settle(Some(members)).await else { return };
        tracing::error!(error = error.one_line(), "VMs may be off the bridge; it is tried again");
        let again = Arc::clone(self);
        drop(self.tasks.spawn_until_shutdown("bridge-recovery", async move {
            loop {
                sleep(RETRY).await;
                match again.settle(None).await {
                    Ok(()) => break tracing::info!("the bridge is as its VMs need it"),
                    Err(error) => tracing::debug!(error = error.one_line(), "no bridge yet"),
                }
            }
        }));
    }

    /// Has `members` on the bridge, or those that are known, and the resolver at its address.
    async fn settle(&self, members: Option<Vec<Member>>) -> Result<(), Report> {
        let synced = self.bridge.sync(members).await;
        // The address may be there although nobody can change anything now.
        let nobody = self.known().vms.is_empty();
        let resolved = match nobody {
            true => Ok(()),
            false => self.resolve().await.map_err(|error| Report::of(&error)),
        };
        for vm in synced? {
            if let Err(error) = self.attach_again(&vm).await {
                tracing::error!(%vm, error = error.one_line(), "it is off the bridge");
            }
        }
        resolved
    }

    async fn attach_again(&self, vm: &VmId) -> Result<(), Report> {
        let found = self.known().vms.iter().find(|on| on.member.vm == *vm).cloned();
        let Some(On { member, folder, keeper: Some(keeper), .. }) = found else { return Ok(()) };
        self.bridge.attach(member, keeper).await?;
        let joined = ask_once(&folder, &Request::AwaitUplink, "join the bridge", Duration::ZERO);
        joined.await.map(drop).map_err(|error| Report::of(&error))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is under the lock is whole at every moment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, on: On) {
        let mut known = self.known();
        known.vms.retain(|other| other.member.vm != on.member.vm);
        known.vms.push(on);
        self.publish(&mut known);
    }

    fn forget(&self, which: impl Fn(&On) -> bool) -> Vec<On> {
        let mut known = self.known();
        let (gone, stay) = std::mem::take(&mut known.vms).into_iter().partition(which);
        known.vms = stay;
        self.publish(&mut known);
        gone
    }

    /// Makes the zone anew.
    fn publish(&self, known: &mut Known) {
        let mut zone = Zone::new(self.zone.clone(), known.serial);
        known.serial = known.serial.wrapping_add(1);
        for on in &known.vms {
            if let Err(error) = zone.add(&on.name, on.addresses.clone()) {
                tracing::warn!(name = %on.name, %error, "it has no name in the zone");
            }
        }
        self.names.send_replace(Arc::new(zone));
    }

    /// Those by which they are reached.
    fn addresses_of_peers(&self, member: &Member) -> Vec<IpAddr> {
        let by_ipv6 = self.bridge.carries_ipv6();
        let known = self.known();
        let peers = known.vms.iter().filter(|on| member.is_peer_of(&on.member));
        let peers = peers.filter(|on| on.member.vm != member.vm);
        let addresses = peers.flat_map(|on| &on.addresses).copied();
        addresses.filter(|address| address.is_ipv4() || by_ipv6).collect()
    }

    /// Lets the keepers of a VM's peers know who theirs are now. The host's rules know the pairs already.
    async fn tell_peers_of(&self, member: &Member) {
        let peers: Vec<On> = {
            let known = self.known();
            let peers = known.vms.iter().filter(|on| on.member.is_peer_of(member));
            peers.filter(|on| on.member.vm != member.vm).cloned().collect()
        };
        for peer in peers {
            self.tell(&peer, self.addresses_of_peers(&peer.member)).await;
        }
    }

    async fn tell(&self, on: &On, peers: Vec<IpAddr>) {
        let request = Request::Peers { peers };
        let told = ask_once(&on.folder, &request, "take its peers", Duration::ZERO).await;
        if let Err(error) = told {
            let (vm, why) = (&on.member.vm, crate::report::causes(&error).join(": "));
            tracing::warn!(%vm, %error, %why, "it does not know its peers; restart it");
        }
    }

    /// Binds the resolver, once there is a bridge to bind it to.
    async fn resolve(&self) -> Result<(), NetError> {
        let bind = async || {
            let ranges = self.bridge.setup().ranges();
            let address = SocketAddr::from((ranges.gateway().ipv4, PORT));
            let upstream = Upstream::of_the_host();
            let clients = Clients { ranges: vec![IpNet::V4(ranges.range4())], upstream };
            let bound = HostResolver::bind(address, clients).await.map_err(NetError::Resolver)?;
            bound.serve(self.names.subscribe(), &self.tasks);
            Ok(())
        };
        self.resolver.get_or_try_init(bind).await.copied()
    }
}

fn member(vm: &VmId, place: &Place) -> Member {
    Member { vm: vm.clone(), slot: place.slot, peers: place.peers.clone() }
}
