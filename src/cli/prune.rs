//! `cove prune`: delete the VMs that are not running.

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{DeleteVm, Vm, VmDelete};

use super::batch::{all, each_of};
use super::connect::connect;
use super::failure::Failure;
use super::output::{Format, say};
use super::terminal::{can_ask, confirm};

/// Arguments of `cove prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Delete work in their workspaces that was not exported, too
    #[arg(long)]
    discard_work: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        if !self.force && !can_ask() {
            let message = "there is no terminal to ask whether the VMs are to be deleted";
            return Err(Report::new(Kind::Invalid, message)
                .with_hint("`cove prune --force` does not ask")
                .into());
        }
        let client = connect().await?;
        let known = all(&client).await?;
        let doomed: Vec<Vm> = known.into_iter().filter(|vm| vm.state.is_at_rest()).collect();
        if doomed.is_empty() {
            say("nothing to delete: there is no VM that is not running");
        } else if !self.force && !agreed(&doomed).await? {
            say("nothing was deleted");
            return Ok(0);
        }
        // The daemon looks again: one that somebody has started meanwhile stays, and one with work, too.
        let act = async |client: &Client, vm: &Vm| {
            let (vm, discard_work) = (vm.id.to_string(), self.discard_work);
            client.call::<VmDelete>(DeleteVm { vm, at_rest: true, discard_work }).await
        };
        let doomed = doomed.into_iter().map(Ok);
        each_of(&client, doomed, act, |deleted| deleted.name.to_string(), self.format).await
    }
}

async fn agreed(doomed: &[Vm]) -> Result<bool, Report> {
    let names: Vec<_> = doomed.iter().map(|vm| vm.name.as_str()).collect();
    say(&format!("to be deleted with their disks: {}", names.join(", ")));
    confirm("delete them?").await
}
