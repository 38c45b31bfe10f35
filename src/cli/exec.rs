//! `cove exec`: a command or a shell in a running VM, with this process or detached. Also what `run` does once
//! its VM is up.
//!
//! `attach` and `list` are subcommands, so VMs of these names are to be called by their ids.

use std::collections::BTreeMap;

use crate::config::ClientEnvironment;
use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::guest::{DetachOutcome, DetachedStdin, ExecFailure};
use crate::wire::rpc::{DetachVm, ExecVm, VmExec, VmExecDetach};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::{Failure, Statuses};
use super::machine::{environment, variable};
use super::output::Format;
use super::session::{self, Ending, Joining, Pty};
use super::signals::Signals;
use super::terminal;

mod attach;
mod list;

/// Arguments of `cove exec`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    detached: Option<Detached>,
    /// The VM: its name, its id, or the beginning of its id
    #[arg(required = true, add = vm_names())]
    vm: Option<String>,
    /// Start the command, print its id and leave it running, whatever becomes of cove; see `attach`, `list`
    #[arg(short, long)]
    detach: bool,
    /// Keep the stdin of a detached command open for those who attach
    #[arg(short, long, requires = "detach")]
    interactive: bool,
    /// Print one JSON value
    #[arg(long, requires = "detach")]
    json: bool,
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

/// What is done with detached commands.
#[derive(Debug, clap::Subcommand)]
enum Detached {
    /// Attach to a detached command: Ctrl-P Ctrl-Q leaves it where it has a terminal
    Attach(attach::Arguments),
    /// List the detached commands of a VM's boot
    List(list::Arguments),
}

impl Arguments {
    /// Which exit statuses are shown.
    pub(super) fn statuses(&self) -> Statuses {
        match &self.detached {
            Some(Detached::List(_)) => Statuses::OfKind,
            Some(Detached::Attach(_)) | None => Statuses::OfRemote,
        }
    }

    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self.detached {
            Some(Detached::Attach(arguments)) => return arguments.run().await,
            Some(Detached::List(arguments)) => return arguments.run().await,
            None => {}
        }
        if self.detach {
            return self.run_detached().await;
        }
        let pty = self.pty()?;
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        let exec = ExecVm {
            // The parser wants it where there is no subcommand.
            vm: self.vm.unwrap_or_default(),
            argv: self.command,
            env: environment(self.env),
            cwd: self.cwd,
            tty: None,
        };
        remote(&client, exec, pty, &mut signals).await
    }

    /// Starts the command and leaves it.
    async fn run_detached(self) -> Result<u8, Failure> {
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        let program = self.command.first().cloned();
        let mut env = environment(self.env);
        if self.tty {
            add_term(&mut env);
        }
        let detach = DetachVm {
            vm: self.vm.unwrap_or_default(),
            argv: self.command,
            env,
            cwd: self.cwd,
            tty: self.tty.then(terminal::size),
            stdin: match self.interactive {
                true => DetachedStdin::Open,
                false => DetachedStdin::Ended,
            },
        };
        let outcome = signals.unless_interrupted(client.call::<VmExecDetach>(detach)).await?;
        match &outcome {
            DetachOutcome::Started { id, .. } => {
                Format { json: self.json }.print(&outcome, |_| id.to_string())?;
                Ok(0)
            }
            DetachOutcome::NotStarted { reason, message } => {
                not_started(program, *reason, message.clone())
            }
        }
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
        add_term(&mut exec.env);
    }
    let program = exec.argv.first().cloned();
    let open = async {
        let ticket = client.call::<VmExec>(exec).await?;
        client.open_stream(&ticket).await
    };
    let stream = signals.unless_interrupted(open).await?;
    match session::join(stream, Joining::Started(pty), signals).await? {
        Ending::Ended(status) => Ok(status.shell_status()),
        Ending::Left { signal } => Ok(left_by(signal)),
        Ending::Detached => Ok(0),
        Ending::OutputClosed => Err(Failure::StdoutClosed),
        Ending::NotStarted { reason, message } => not_started(program, reason, message),
    }
}

/// The exit status of a process that a signal made leave.
fn left_by(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Tells a command with a terminal which kind of terminal it is.
fn add_term(env: &mut BTreeMap<String, String>) {
    if let Some(term) = ClientEnvironment::read().term {
        env.entry("TERM".to_owned()).or_insert(term);
    }
}

/// What is said of a command that was to be run in a VM which is named as a subcommand is.
fn meant_as_name(name: &str) -> Report {
    let message = format!("`{name}` is a subcommand of `cove exec` and takes no command");
    Report::new(Kind::Invalid, message).with_hint(format!(
        "to run a command in a VM of the name `{name}`, give the VM's id: `cove list --json` has it"
    ))
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
    super::failure::show(&report, Statuses::OfRemote);
    Ok(status)
}
