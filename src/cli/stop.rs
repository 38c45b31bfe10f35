//! `cove stop`: stop VMs; their guests power off, and their monitors are killed after a deadline.

use crate::wire::rpc::{VmRef, VmStop};

use super::batch;
use super::failure::Failure;

/// Arguments of `cove stop`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let act = async |client: &crate::rpc::client::Client, vm: &crate::wire::rpc::Vm| {
            let vm = vm.id.to_string();
            client.call::<VmStop>(VmRef { vm }).await
        };
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}
