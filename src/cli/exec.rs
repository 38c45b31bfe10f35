//! `cove exec`: a command or a shell in a running VM. Also what `run` does once its VM is up.

use crate::config::ClientEnvironment;
use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::guest::ExecFailure;
use crate::wire::rpc::{ExecVm, VmExec};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::machine::{environment, variable};
use super::session::{self, Ending, Pty};
use super::signals::Signals;
use super::terminal;

/// Arguments of `cove exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Give the command a terminal of its own
    #[arg(short, long)]
    tty: bool,
    /// Add a variable to the command's environment
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Run in this folder of the guest instead of the workspace or the home
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// The command and its arguments, passed on unchanged; a login shell when not given
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let pty = self.pty()?;
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        let exec = ExecVm {
            vm: self.vm,
            argv: self.command,
            env: environment(self.env),
            cwd: self.cwd,
            tty: None,
        };
        remote(&client, exec, pty, &mut signals).await
    }

    fn pty(&self) -> Result<Pty, Report> {
        match (self.tty, terminal::is_interactive()) {
            (true, false) => {
                Err(Report::new(Kind::Invalid, "`--tty` needs a terminal on stdin and stdout")
                    .with_hint("leave out `--tty` to run the command without one"))
            }
            (true, true) => Ok(Pty::Yes),
            (false, _) => Ok(pty_of(&self.command)),
        }
    }
}

/// Whether a command gets a pseudo-terminal when nobody says so: a shell in front of a user does.
pub(super) fn pty_of(command: &[String]) -> Pty {
    if command.is_empty() && terminal::is_interactive() { Pty::Yes } else { Pty::No }
}

/// Runs a command in a VM, joined to this process's standard streams, and returns the exit status to
/// show.
///
/// # Errors
/// Every failure of cove itself, and a reader of the output that went away.
pub(super) async fn remote(
    client: &Client,
    mut exec: ExecVm,
    pty: Pty,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    if pty == Pty::Yes {
        exec.tty = Some(terminal::size());
        if let Some(term) = ClientEnvironment::read().term {
            exec.env.entry("TERM".to_owned()).or_insert(term);
        }
    }
    let program = exec.argv.first().cloned();
    let open = async {
        let ticket = client.call::<VmExec>(exec).await?;
        client.open_stream(&ticket).await
    };
    let stream = signals.unless_interrupted(open).await?;
    match session::join(stream, pty, signals).await? {
        Ending::Ended(status) => Ok(status.shell_status()),
        Ending::Left { signal } => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Ending::OutputClosed => Err(Failure::StdoutClosed),
        Ending::NotStarted { reason, message } => not_started(program, reason, message),
    }
}

fn not_started(
    program: Option<String>,
    reason: ExecFailure,
    message: String,
) -> Result<u8, Failure> {
    let program = program.unwrap_or_else(|| "the login shell".to_owned());
    let (kind, text, status) = match reason {
        ExecFailure::NotFound => (Kind::NotFound, "there is no such program in the guest", 127),
        ExecFailure::NotExecutable => (Kind::Failed, "it cannot be executed in the guest", 126),
        ExecFailure::Other => (Kind::Failed, "it could not be started in the guest", 125),
    };
    let mut report = Report::new(kind, format!("cannot run `{program}`: {text}"));
    report.cause.push(message);
    super::failure::show(&report, super::failure::Statuses::OfRemote);
    Ok(status)
}
