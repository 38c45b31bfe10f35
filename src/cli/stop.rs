//! `cove stop`: stop VMs; their guests power off, and their monitors are killed after a deadline.

use crate::rpc::client::Client;
use crate::wire::rpc::{Vm, VmRef, VmState, VmStop};

use super::batch;
use super::failure::Failure;
use super::output::{one_line, say};

/// Arguments of `cove stop`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let act = async |client: &Client, vm: &Vm| {
            let stopped = client.call::<VmStop>(VmRef { vm: vm.id.to_string() }).await?;
            if let (VmState::Running, Some(cause)) = (vm.state, &stopped.cause) {
                say(&format!("note: {}: {}", stopped.name, one_line(cause)));
            }
            Ok(stopped)
        };
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}
