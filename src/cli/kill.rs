//! `cove kill`: stop VMs; as if their power was cut.

use crate::wire::rpc::{VmKill, VmRef};

use super::batch;
use super::failure::Failure;

/// Arguments of `cove kill`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let act = async |client: &crate::rpc::client::Client, vm: &crate::wire::rpc::Vm| {
            let vm = vm.id.to_string();
            client.call::<VmKill>(VmRef { vm }).await
        };
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}
