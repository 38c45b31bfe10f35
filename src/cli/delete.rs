//! `cove delete`: delete VMs with their disks, whatever their state.

use crate::wire::rpc::{DeleteVm, VmDelete};

use super::batch;
use super::failure::Failure;

/// Arguments of `cove delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let act = async |client: &crate::rpc::client::Client, vm: &crate::wire::rpc::Vm| {
            let vm = vm.id.to_string();
            client.call::<VmDelete>(DeleteVm::whatever(vm)).await
        };
        self.vms.each(act, |deleted| deleted.name.to_string()).await
    }
}
