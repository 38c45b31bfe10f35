//! `cove create`: make a VM without starting it.

use crate::wire::rpc::{CreateVm, DeleteVm, VmCreate, VmDelete};

use super::connect::{client_context, connect};
use super::failure::Failure;
use super::machine::MachineArguments;
use super::operation::{Ended, follow};
use super::output::Format;
use super::progress::Progress;
use super::signals::Signals;

/// Arguments of `cove create`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let request =
            CreateVm { start: Some(false), client: client_context(), ..self.machine.request() };
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        let operation = client.call::<VmCreate>(request).await?;
        let progress = Progress::default();
        let ended = {
            let mut view = progress.view();
            follow(&client, operation, &mut view, &mut signals).await?
        };
        match ended {
            Ended::Done { vm, .. } => {
                self.format.print(vm.as_ref(), |vm| vm.name.to_string())?;
                Ok(0)
            }
            Ended::Failed { report, .. } => Err(Failure::Report(report)),
            Ended::Interrupted { too_late } => {
                if let Some(vm) = too_late {
                    let vm = vm.id.to_string();
                    client.call::<VmDelete>(DeleteVm::whatever(vm)).await?;
                }
                Err(Failure::Interrupted)
            }
            Ended::Abandoned { report } => Err(Failure::Report(report)),
        }
    }
}
