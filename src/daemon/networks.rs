//! Networks of VMs and what they may reach, for the VM service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::{Config, NetConfig, Paths, machine_id};
use crate::egress::Policy;
use crate::id::VmId;
use crate::net::bridge::{Member, Setup, SetupError};
use crate::net::{Ahead, Living, OnBridge, Place, Wanted};
use crate::process::ProcessId;
use crate::report::Report;
use crate::store::Store;
use crate::vm::address::Ranges;
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vm::ports::{Attachment, Networks, NotSet, Outbound, PortResult, Rows as _};
use crate::vm::record::VmRecord;
use crate::wire::rpc::{Denials, NetExplanation, NetMode};

/// How networks are made before VMs want them.
pub(super) fn ahead(paths: &Paths, config: &Config, store: &Arc<Store>) -> Ahead {
    let (folder, count) = (paths.home.join("spare-networks"), config.net.spares.into());
    Ahead { rows: store.clone(), folder, count }
}

/// The bridge that the configuration describes, for this user.
///
/// # Errors
/// When it cannot be as it says.
pub(super) fn on_bridge(config: &NetConfig) -> Result<OnBridge, SetupError> {
    let user = nix::unistd::geteuid().as_raw();
    Ok(OnBridge {
        setup: Setup::new(&config.bridge, &machine_id(), user)?,
        socket: config.bridge.socket(user),
        zone: config.zone.clone(),
    })
}

/// The networks.
#[derive(Clone)]
pub(super) struct VmNetworks {
    networks: Arc<crate::net::Networks>,
    /// Where the addresses of VMs on the bridge are written down.
    store: Arc<Store>,
    /// The ranges that they are in.
    ranges: Ranges,
}

impl VmNetworks {
    /// Networks whose addresses on the bridge are in `ranges`, as `store` has them.
    pub(super) fn new(
        networks: &Arc<crate::net::Networks>,
        store: &Arc<Store>,
        ranges: Ranges,
    ) -> Self {
        Self { networks: Arc::clone(networks), store: Arc::clone(store), ranges }
    }

    /// Where a VM is on the bridge; none when that is not its network.
    async fn place(&self, vm: &VmRecord) -> PortResult<Option<Place>> {
        match vm.spec.net {
            NetMode::User | NetMode::None => Ok(None),
            NetMode::Bridge => {
                let slot = self.store.lease(&vm.id).await?;
                let (name, peers) = (vm.name.clone(), vm.spec.peers.clone());
                Ok(Some(Place { name, slot, peers }))
            }
        }
    }

    /// A VM that runs has the address that it was started with, or it is none of the bridge any more.
    async fn living(&self, vm: &VmRecord, folder: &Path, slot: Option<u32>) -> Option<Living> {
        let network = vm.state.boot()?.network.as_ref()?;
        let begun = network.address;
        let lease = |slot: &u32| self.ranges.lease(*slot).is_some_and(|lease| lease.ipv4 == begun);
        let Some(slot) = slot.filter(lease) else {
            let range = self.ranges.range4();
            tracing::error!(vm = %vm.id, %begun, %range, "its address is none of the bridge; restart it");
            return None;
        };
        // Without its keeper it cannot be put on the bridge again; until then it needs none.
        let rows = self.store.resources(&vm.id).await.unwrap_or_default();
        let keeper = rows.iter().find(|(kind, _)| *kind == ResourceKind::NetworkKeeper);
        let keeper = keeper.and_then(|(_, process)| *process);
        let (name, peers) = (vm.name.clone(), vm.spec.peers.clone());
        let (vm, folder) = (vm.id.clone(), folder.to_owned());
        let place = Place { name, slot, peers };
        Some(Living { vm, folder, place, addresses: network.addresses(), keeper })
    }
}

#[async_trait]
impl Networks for VmNetworks {
    async fn recover(&self, living: &[(VmRecord, PathBuf)], others: &[VmId]) -> PortResult<()> {
        let slots: BTreeMap<VmId, u32> = self.store.leases().await?.into_iter().collect();
        let mut places = Vec::new();
        for (vm, folder) in living {
            places.extend(self.living(vm, folder, slots.get(&vm.id).copied()).await);
        }
        let others = others.iter().filter_map(|vm| {
            let (vm, slot) = slots.get_key_value(vm)?;
            Some(Member { vm: vm.clone(), slot: *slot, peers: BTreeSet::new() })
        });
        self.networks.recover_bridge(places, others.collect()).await;
        Ok(())
    }

    async fn start(
        &self,
        vm: &VmRecord,
        folder: &Path,
        policy: &Policy,
        ledger: &dyn Ledger,
    ) -> PortResult<Attachment> {
        let place = self.place(vm).await?;
        let wanted = Wanted { vm: &vm.id, folder, policy, place: place.as_ref() };
        let attached = self.networks.start(wanted, ledger).await;
        let attached = attached.map_err(|error| Report::of(&error))?;
        Ok(Attachment { tap: attached.tap, guest: attached.guest })
    }

    async fn adopt(
        &self,
        vm: &VmId,
        folder: &Path,
        processes: (ProcessId, Option<ProcessId>),
        policy: &Policy,
    ) -> PortResult<()> {
        let adopted = self.networks.adopt(vm, folder, processes, policy).await;
        adopted.map_err(|error| Report::of(&error))
    }

    async fn detach(&self, vm: &VmId) -> PortResult<()> {
        self.networks.detach(vm).await
    }
}

#[async_trait]
impl Outbound for VmNetworks {
    async fn set_policy(&self, _: &VmId, folder: &Path, policy: &Policy) -> Result<(), NotSet> {
        self.networks.set_policy(folder, policy).await.map_err(|error| {
            match error.leaves_the_policy() {
                true => NotSet::Refused(Report::of(&error)),
                false => NotSet::Unconfirmed(Report::of(&error)),
            }
        })
    }

    async fn explain(
        &self,
        _: &VmId,
        folder: &Path,
        host: &str,
        port: Option<u16>,
    ) -> PortResult<NetExplanation> {
        self.networks.explain(folder, host, port).await.map_err(|error| Report::of(&error))
    }

    async fn denials(
        &self,
        _: &VmId,
        folder: &Path,
        after: u64,
        wait: Duration,
    ) -> PortResult<Denials> {
        self.networks.denials(folder, after, wait).await.map_err(|error| Report::of(&error))
    }
}
