//! `cove completion`, and answering the shells that run what it prints.
//!
//! The scripts call cove back with [`VARIABLE`] set for every completion, so they always know the
//! commands and flags of the program that is installed, and the VMs there are.

use std::ffi::OsString;
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::rpc::client::Client;
use crate::wire::rpc::{HookList, Nothing};

use super::batch::all;
use super::connect::connect_if_running;
use super::failure::Failure;
use super::output::{failed, write};

/// What tells cove that a shell asks.
const VARIABLE: &str = "COVE_COMPLETE";

/// How long a user at the Tab key waits for the names of VMs.
const NAMES_DEADLINE: Duration = Duration::from_secs(1);

/// Arguments of `cove completion`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    /// Add `source <(cove completion bash)` to ~/.bashrc
    Bash,
    /// Add `source <(cove completion zsh)` to ~/.zshrc
    Zsh,
    /// Add `cove completion fish | source` to ~/.config/fish/config.fish
    Fish,
}

impl Arguments {
    pub(super) fn run(self) -> Result<u8, Failure> {
        write(&script(self.shell)?)?;
        Ok(0)
    }
}

fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).expect("all three are built in");
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "cove", "cove", "cove", &mut script)
        .map_err(|error| failed("cannot write the script", &error))?;
    Ok(script)
}

/// Whether a shell asked for completions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No: the arguments are a command.
    No,
    /// Yes, and the answer is on stdout.
    AndAnswered,
}

/// Answers a shell that asks for completions.
///
/// # Errors
/// When it asks in a way that is not understood.
pub(super) fn answer(
    arguments: &[OsString],
    commands: impl Fn() -> clap::Command,
) -> Result<Asked, clap::Error> {
    let folder = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(commands)
        .var(VARIABLE)
        .try_complete(arguments, folder.as_deref())?;
    Ok(if answered { Asked::AndAnswered } else { Asked::No })
}

/// The names of the VMs there are, for an argument that names one.
pub(super) fn vm_names() -> ArgValueCandidates {
    names(|client| async move {
        let vms = all(&client).await.ok()?;
        Some(vms.iter().map(|vm| vm.name.to_string()).collect())
    })
}

/// The ids of the plugins there are, for an argument that names one.
pub(super) fn plugin_ids() -> ArgValueCandidates {
    names(|client| async move {
        let hooks = client.call::<HookList>(Nothing {}).await.ok()?;
        Some(hooks.iter().map(|hook| hook.plugin.to_string()).collect())
    })
}

/// Names that a daemon tells. A user at the Tab key is told nothing of failures, and starts no daemon.
fn names<Asked>(ask: impl Fn(Client) -> Asked + Send + Sync + 'static) -> ArgValueCandidates
where
    Asked: Future<Output = Option<Vec<String>>>,
{
    ArgValueCandidates::new(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            return Vec::new();
        };
        runtime.block_on(async {
            let names = async { ask(connect_if_running().await.ok()??).await };
            let names = tokio::time::timeout(NAMES_DEADLINE, names).await;
            let names = names.ok().flatten().unwrap_or_default();
            names.into_iter().map(CompletionCandidate::new).collect()
        })
    })
}
