//! `cove touch`: say that VMs are being used, so that they do not stop by themselves.

use crate::rpc::client::Client;
use crate::wire::rpc::{Vm, VmRef, VmTouch};

use super::batch;
use super::failure::Failure;

/// Arguments of `cove touch`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let act = async |client: &Client, vm: &Vm| {
            client.call::<VmTouch>(VmRef { vm: vm.id.to_string() }).await
        };
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}
