//! `cove start`: start VMs.

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{Operation, Vm, VmStart, VmWait};

use super::batch;
use super::connect::client_context;
use super::failure::Failure;
use super::operation::{Ended, follow};
use super::progress::{Progress, took};
use super::signals::Signals;

/// Arguments of `cove start`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    vms: batch::Targets,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let progress = Progress::default();
        let act = async |client: &Client, vm: &Vm| start(client, vm, &progress).await;
        self.vms.each(act, |vm| vm.name.to_string()).await
    }
}

async fn start(client: &Client, vm: &Vm, progress: &Progress) -> Result<Box<Vm>, Report> {
    let signals = Signals::listen()?;
    let operation = client.call::<VmStart>(request(vm)).await?;
    ready(client, operation, progress, signals).await
}

/// The request to start or restart a VM and not to wait for it.
pub(super) fn request(vm: &Vm) -> VmWait {
    VmWait { vm: vm.id.to_string(), wait: false, client: client_context() }
}

/// Follows a start or restart until its VM is ready.
///
/// # Errors
/// When it fails or is interrupted.
pub(super) async fn ready(
    client: &Client,
    operation: Operation,
    progress: &Progress,
    mut signals: Signals,
) -> Result<Box<Vm>, Report> {
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
