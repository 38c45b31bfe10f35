//! `cove exec attach`: a detached command, joined to this process's standard streams.

use crate::cli::completion::vm_names;
use crate::cli::connect::connect;
use crate::cli::failure::Failure;
use crate::cli::output::say;
use crate::cli::session::{self, Ending, Joining};
use crate::cli::signals::Signals;
use crate::id::ExecId;
use crate::wire::rpc::{AttachVm, VmExecAttach};

use super::{left_by, meant_as_name, not_started};

/// Arguments of `cove exec attach`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(required_unless_present = "command", add = vm_names())]
    vm: Option<String>,
    /// The command's id, as `cove exec -d` has printed it
    #[arg(required_unless_present = "command")]
    id: Option<ExecId>,
    /// Not for this subcommand
    #[arg(last = true, hide = true)]
    command: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let (Some(vm), Some(id), []) = (self.vm, self.id, self.command.as_slice()) else {
            return Err(meant_as_name("attach").into());
        };
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        let again =
            format!("the command goes on; `cove exec attach {vm} {id}` attaches to it again");
        let open = async {
            let ticket = client.call::<VmExecAttach>(AttachVm { vm, id }).await?;
            client.open_stream(&ticket).await
        };
        let stream = signals.unless_interrupted(open).await?;
        match session::join(stream, Joining::Attached, &mut signals).await? {
            Ending::Ended(status) => Ok(status.shell_status()),
            Ending::Left { signal } => {
                say(&again);
                Ok(left_by(signal))
            }
            Ending::Detached => {
                say(&again);
                Ok(0)
            }
            Ending::OutputClosed => Err(Failure::StdoutClosed),
            Ending::NotStarted { reason, message } => not_started(None, reason, message),
        }
    }
}
