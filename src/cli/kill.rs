//! `cove kill`: stop VMs as if their power was cut, or send their monitors another signal.

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::rpc::client::Client;
use crate::wire::rpc::{KillSignal, KillVm, Vm, VmKill};

use super::batch;
use super::failure::Failure;

/// Arguments of `cove kill`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
    /// The signal for their monitors: KILL cuts the power; TERM, INT and HUP have the monitor end in
    /// order; STOP makes the machine stand still and CONT go on
    #[arg(long, value_name = "SIGNAL", default_value = "KILL", add = signals())]
    signal: KillSignal,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let signal = self.signal;
        let act = async |client: &Client, vm: &Vm| {
            client.call::<VmKill>(KillVm { vm: vm.id.to_string(), signal }).await
        };
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}

/// The names of the signals, for a shell that completes.
fn signals() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let names = KillSignal::ALL.into_iter().map(KillSignal::name);
        names.map(CompletionCandidate::new).collect()
    })
}
