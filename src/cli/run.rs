//! `cove run`: make a VM, start it, and open a shell in it, with or without a repository, or run a
//! command and show its exit status.
//!
//! ```text
//!  check flags ──▶ create + start ──▶ shell or command ──▶ say that it runs on, or delete it (--rm)
//!                     │ Ctrl-C            │ whatever happens
//!                     ▼                   ▼
//!                  cancelled           delete it (--rm)
//! ```
//!
//! With `--rm` the daemon holds a lease on this client's connection as well, so a killed client leaves
//! nothing behind either.

use std::path::{Path, PathBuf};

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{
    CreateVm, DeleteVm, Deleted, ExecVm, Operation, Vm, VmCreate, VmDelete, VmPlan,
};

use super::connect::{client_context, connect};
use super::exec::{pty_of, remote};
use super::failure::{Failure, Statuses, add_hint, render};
use super::machine::MachineArguments;
use super::operation::{Ended, Kept, follow};
use super::output::{Format, say};
use super::progress::{Progress, took};
use super::repository::RepositoryArguments;
use super::signals::Signals;

mod plan;

/// Arguments of `cove run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A folder inside the git repository to put in
    #[arg(value_hint = clap::ValueHint::DirPath)]
    path: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArguments,
    /// Delete the VM at the end, whatever happens
    #[arg(long)]
    rm: bool,
    /// Print the VM's name and leave it running
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    repository: RepositoryArguments,
    /// Print what would go into the VM, and make nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
    /// The command and its arguments, passed on unchanged; a shell when not given
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// What is to be done with the VM.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Only plan it.
    DryRun,
    /// Leave it running.
    Detach,
    /// Run a command, or a shell when it is empty, and leave the VM running.
    Keep(Vec<String>),
    /// The same, and delete the VM.
    Remove(Vec<String>),
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let format = self.format;
        let (request, purpose) = self.check()?;
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        if purpose == Purpose::DryRun {
            let plan = client.call::<VmPlan>(request);
            let plan = signals.unless_interrupted(plan).await?;
            format.print(&plan, plan::render)?;
            return Ok(0);
        }
        let vm = start(&client, request, &purpose, &mut signals).await?;
        match purpose {
            Purpose::DryRun | Purpose::Detach => {
                format.print(vm.as_ref(), |vm| vm.name.to_string())?;
                Ok(0)
            }
            Purpose::Keep(command) => {
                let ended = in_vm(&client, &vm, command, &mut signals).await;
                let name = &vm.name;
                say(&format!("`{name}` keeps running; stop it with `cove stop {name}`"));
                ended
            }
            Purpose::Remove(command) => {
                let ended = in_vm(&client, &vm, command, &mut signals).await;
                let deleted = delete(&client, &vm, &mut signals).await;
                // The command's own failure is the more telling one.
                let status = ended?;
                deleted?;
                Ok(status)
            }
        }
    }

    /// All that can be told without the daemon.
    pub(super) fn check(self) -> Result<(CreateVm, Purpose), Report> {
        let refused =
            |message: &str, hint: &str| Err(Report::new(Kind::Invalid, message).with_hint(hint));
        if self.detach && self.rm {
            return refused(
                "`--detach` and `--rm` exclude each other",
                "a detached VM goes on when this command ends; delete it later with `cove delete`",
            );
        }
        if self.detach && !self.command.is_empty() {
            return refused(
                "`--detach` cannot run a command",
                "start the VM with `--detach`, then use `cove exec`",
            );
        }
        if self.format.json && !self.detach && !self.dry_run {
            return refused(
                "`--json` needs `--detach` or `--dry-run`",
                "without them stdout belongs to the command in the guest",
            );
        }
        if let (None, Some(flag)) = (&self.path, self.repository.first()) {
            return refused(
                &format!("`{flag}` needs a PATH"),
                "it says what of a repository goes in: name a folder inside one",
            );
        }
        let workspace = self.path.as_deref().map(existing_folder).transpose()?;
        let request = CreateVm {
            workspace: workspace.map(|path| self.repository.of(path)).transpose()?,
            start: Some(true),
            lease: self.rm,
            client: client_context(),
            ..self.machine.request()
        };
        let purpose = match (self.dry_run, self.detach, self.rm) {
            (true, _, _) => Purpose::DryRun,
            (false, true, _) => Purpose::Detach,
            (false, false, false) => Purpose::Keep(self.command),
            (false, false, true) => Purpose::Remove(self.command),
        };
        Ok((request, purpose))
    }
}

/// The absolute path of an existing folder: the daemon has another working folder.
pub(super) fn existing_folder(path: &Path) -> Result<String, Report> {
    let invalid = |problem: &str| {
        let message = format!("`{}` {problem}", path.display());
        Report::new(Kind::Invalid, message).with_hint("PATH is a folder inside a git repository")
    };
    let found = std::fs::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => invalid("does not exist"),
        _ => invalid("cannot be opened").with_cause(&error),
    })?;
    if !found.is_dir() {
        return Err(invalid("is not a folder"));
    }
    let text = found.into_os_string().into_string();
    text.map_err(|_| invalid("has a path that is not UTF-8"))
}

/// Makes and starts the VM.
async fn start(
    client: &Client,
    request: CreateVm,
    purpose: &Purpose,
    signals: &mut Signals,
) -> Result<Box<Vm>, Failure> {
    // Not given up on a signal: only the answer says what is to be cancelled.
    let operation: Operation = client.call::<VmCreate>(request).await?;
    let reference = DeleteVm::whatever(operation.vm.to_string());
    let progress = Progress::default();
    let mut view = progress.view();
    match follow(client, operation, &mut view, signals).await? {
        Ended::Done { vm, operation } => {
            let seconds = took(&operation).as_secs_f64();
            view.say(&format!("`{}` is ready ({seconds:.1} s)", vm.name));
            Ok(vm)
        }
        Ended::Interrupted { too_late } => {
            if let Some(vm) = too_late {
                delete(client, &vm, signals).await?;
            }
            Err(Failure::Interrupted)
        }
        Ended::Abandoned { report } => {
            say(&render(&report, Statuses::OfKind));
            Err(Failure::Interrupted)
        }
        Ended::Failed { mut report, kept } => {
            if kept == Kept::Yes && matches!(purpose, Purpose::Remove(_)) {
                match client.call::<VmDelete>(reference).await {
                    Ok(deleted) => add_console(&mut report, &deleted),
                    // The lease ends with this connection, and deletes it then.
                    Err(other) if other.kind == Kind::NotFound => {}
                    Err(other) => add_hint(&mut report, &format!("then: {}", other.one_line())),
                }
            }
            Err(Failure::Report(report))
        }
    }
}

fn add_console(report: &mut Report, deleted: &Deleted) {
    if let Some(path) = &deleted.console_saved {
        // What was said about the kept VM is no longer true.
        report.hint = Some(format!("the console of `{}` was saved at {path}", deleted.name));
    }
}

async fn in_vm(
    client: &Client,
    vm: &Vm,
    command: Vec<String>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let pty = pty_of(&command);
    let exec = ExecVm {
        vm: vm.id.to_string(),
        argv: command,
        env: std::collections::BTreeMap::new(),
        cwd: None,
        tty: None,
    };
    remote(client, exec, pty, signals).await
}

/// Deletes the VM of a `--rm`. A signal meanwhile ends the wait only: the lease is kept to.
async fn delete(client: &Client, vm: &Vm, signals: &mut Signals) -> Result<(), Failure> {
    let reference = DeleteVm::whatever(vm.id.to_string());
    let deleted = client.call::<VmDelete>(reference);
    match signals.unless_interrupted(deleted).await {
        Ok(_) => Ok(()),
        // Somebody else was faster.
        Err(Failure::Report(report)) if report.kind == Kind::NotFound => Ok(()),
        Err(failure) => Err(failure),
    }
}
