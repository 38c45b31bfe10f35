//! `cove delete`: delete VMs with their disks, whatever their state, but not with work that was not exported.

use crate::wire::rpc::{DeleteVm, VmDelete};

use super::batch;
use super::failure::Failure;

/// Arguments of `cove delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Delete work in their workspaces that was not exported, too
    #[arg(long)]
    discard_work: bool,
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let act = async |client: &crate::rpc::client::Client, vm: &crate::wire::rpc::Vm| {
            let (vm, discard_work) = (vm.id.to_string(), self.discard_work);
            client.call::<VmDelete>(DeleteVm { vm, at_rest: false, discard_work }).await
        };
        self.vms.each(act, |deleted| deleted.name.to_string()).await
    }
}
