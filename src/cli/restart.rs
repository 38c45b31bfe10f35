//! `cove restart`: stop VMs that run, then start them; each gets another boot.

use crate::report::Report;
use crate::rpc::client::Client;
use crate::wire::rpc::{Vm, VmRestart};

use super::batch;
use super::failure::Failure;
use super::progress::Progress;
use super::signals::Signals;
use super::start::{ready, request};

/// Arguments of `cove restart`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let progress = Progress::default();
        let act = async |client: &Client, vm: &Vm| restart(client, vm, &progress).await;
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}

async fn restart(client: &Client, vm: &Vm, progress: &Progress) -> Result<Box<Vm>, Report> {
    let signals = Signals::listen()?;
    let operation = client.call::<VmRestart>(request(vm)).await?;
    ready(client, operation, progress, signals).await
}
