//! Networks of VMs, for the VM service.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::egress::Policy;
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::Report;
use crate::vm::ledger::Ledger;
use crate::vm::ports::{Attachment, Networks, PortResult};

/// The networks.
pub(super) struct VmNetworks(pub(super) Arc<crate::net::Networks>);

#[async_trait]
impl Networks for VmNetworks {
    async fn start(&self, vm: &VmId, folder: &Path, ledger: &dyn Ledger) -> PortResult<Attachment> {
        let attached = self.0.start(vm, folder, &Policy::default(), ledger).await;
        let attached = attached.map_err(|error| Report::of(&error))?;
        Ok(Attachment { tap: attached.tap, guest: attached.guest })
    }

    async fn adopt(
        &self,
        vm: &VmId,
        folder: &Path,
        keeper: ProcessId,
        uplink: ProcessId,
    ) -> PortResult<()> {
        let adopted = self.0.adopt(vm, folder, keeper, uplink, &Policy::default()).await;
        adopted.map_err(|error| Report::of(&error))
    }
}
