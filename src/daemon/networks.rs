//! Networks of VMs and what they may reach, for the VM service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::{Config, Paths};
use crate::egress::Policy;
use crate::id::VmId;
use crate::net::Ahead;
use crate::process::ProcessId;
use crate::report::Report;
use crate::store::Store;
use crate::vm::ledger::Ledger;
use crate::vm::ports::{Attachment, Networks, NotSet, Outbound, PortResult};
use crate::wire::rpc::{Denials, NetExplanation};

/// How networks are made before VMs want them.
pub(super) fn ahead(paths: &Paths, config: &Config, store: &Arc<Store>) -> Ahead {
    let (folder, count) = (paths.home.join("spare-networks"), config.net.spares.into());
    Ahead { rows: store.clone(), folder, count }
}

/// The networks.
pub(super) struct VmNetworks(pub(super) Arc<crate::net::Networks>);

#[async_trait]
impl Networks for VmNetworks {
    async fn start(
        &self,
        vm: &VmId,
        folder: &Path,
        policy: &Policy,
        ledger: &dyn Ledger,
    ) -> PortResult<Attachment> {
        let attached = self.0.start(vm, folder, policy, ledger).await;
        let attached = attached.map_err(|error| Report::of(&error))?;
        Ok(Attachment { tap: attached.tap, guest: attached.guest })
    }

    async fn adopt(
        &self,
        vm: &VmId,
        folder: &Path,
        keeper: ProcessId,
        uplink: ProcessId,
        policy: &Policy,
    ) -> PortResult<()> {
        let adopted = self.0.adopt(vm, folder, keeper, uplink, policy).await;
        adopted.map_err(|error| Report::of(&error))
    }
}

#[async_trait]
impl Outbound for VmNetworks {
    async fn set_policy(&self, _: &VmId, folder: &Path, policy: &Policy) -> Result<(), NotSet> {
        self.0.set_policy(folder, policy).await.map_err(|error| match error.leaves_the_policy() {
            true => NotSet::Refused(Report::of(&error)),
            false => NotSet::Unconfirmed(Report::of(&error)),
        })
    }

    async fn explain(
        &self,
        _: &VmId,
        folder: &Path,
        host: &str,
        port: Option<u16>,
    ) -> PortResult<NetExplanation> {
        self.0.explain(folder, host, port).await.map_err(|error| Report::of(&error))
    }

    async fn denials(
        &self,
        _: &VmId,
        folder: &Path,
        after: u64,
        wait: Duration,
    ) -> PortResult<Denials> {
        self.0.denials(folder, after, wait).await.map_err(|error| Report::of(&error))
    }
}
