//! `cove start` and `cove restart`: both have VMs run, by one request each.

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{Method, Operation, Vm, VmWait};

use super::batch;
use super::connect::client_context;
use super::failure::Failure;
use super::operation::{Ended, follow};
use super::progress::{Progress, took};
use super::signals::Signals;

/// Arguments of `cove start` and `cove restart`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    /// Sends the request `M` for each VM.
    pub(super) async fn run<M: Launch>(self) -> Result<u8, Failure> {
        let progress = Progress::default();
        let act = async |client: &Client, vm: &Vm| launch::<M>(client, vm, &progress).await;
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}

/// A request that has a VM run.
pub(super) trait Launch: Method<Params = VmWait, Reply = Operation> {}
impl<M: Method<Params = VmWait, Reply = Operation>> Launch for M {}

/// Has a VM run, and follows that until it is ready.
async fn launch<M: Launch>(
    client: &Client,
    vm: &Vm,
    progress: &Progress,
) -> Result<Box<Vm>, Report> {
    let mut signals = Signals::listen()?;
    let wanted = VmWait { vm: vm.id.to_string(), wait: false, client: client_context() };
    let operation = client.call::<M>(wanted).await?;
    let (action, name) = (operation.action.clone(), operation.vm_name.clone());
    let mut view = progress.view();
    match follow(client, operation, &mut view, &mut signals).await? {
        Ended::Done { vm, operation } => {
            let seconds = took(&operation).as_secs_f64();
            view.say(&format!("`{}` is ready ({seconds:.1} s)", vm.name));
            Ok(vm)
        }
        Ended::Failed { report, .. } | Ended::Abandoned { report } => Err(*report),
        Ended::Interrupted { too_late } => {
            let message = format!("the {action} of `{name}` was interrupted");
            let report = Report::new(Kind::Cancelled, message);
            Err(match too_late {
                None => report,
                Some(_) => report.with_hint("it was too late to cancel it: the VM runs"),
            })
        }
    }
}
