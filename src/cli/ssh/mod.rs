//! `cove ssh`, and what it shares with `cove proxy` and `cove ssh-config`.
//!
//! ```text
//!  cove ssh web ──▶ it runs? ──▶ becomes: ssh -o … web.cove ──▶ cove proxy web.cove ══ the guest
//!                                          ▲
//!  cove ssh-config: the same options ──▶ Host *.cove, for everything that runs ssh by itself
//! ```
//!
//! With `--ssh-agent` it does not become ssh but waits beside it, because the guest then gets to use an agent that
//! is this process (`agent`).
//!
//! Everything that says who a VM is comes from the daemon (`cove proxy`): its host key is the one that the
//! daemon gave the guest, and no file of the user's is asked or written.

mod agent;
pub(super) mod config;
mod key;
mod options;
mod user_file;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::libc;

use crate::config::{ClientEnvironment, search_path};
use crate::process::{Beside, find_program, replaced_by};
use crate::report::{Kind, Report};
use crate::wire::rpc::{Vm, VmRef, VmShow, VmState};

use super::completion::vm_names;
use super::connect::{connect, paths};
use super::failure::Failure;
use super::forward::not_running;
use super::output::failed;
use super::signals::Signals;

use agent::Forwarding;
pub(super) use key::OwnKey;
use options::{Agent, Place};

/// What follows a VM's name where ssh is told of it.
pub(super) const SUFFIX: &str = ".cove";

/// Arguments of `cove ssh`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Let the VM use this key of your ssh agent while the session lasts: a fingerprint (`SHA256:…`), a
    /// comment, or the file of a public key. Each signature is shown and written down. May be given several
    /// times
    #[arg(long, value_name = "KEY")]
    ssh_agent: Vec<String>,
    /// What ssh gets behind the VM's name: options of its own, and a command, which the guest's shell reads;
    /// a shell in the home when not given
    #[arg(last = true, value_name = "SSH-ARGS")]
    arguments: Vec<OsString>,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let paths = paths()?;
        let place = Place::of(&paths)?;
        let ssh = find_program(Path::new("ssh"), &search_path()).ok_or_else(|| {
            Report::new(Kind::NotFound, "there is no `ssh` in PATH")
                .with_hint("install OpenSSH's client (`apt install openssh-client`)")
        })?;
        let vm = connect().await?.call::<VmShow>(VmRef { vm: self.vm }).await?;
        if vm.state != VmState::Running {
            return Err(not_running(&vm).into());
        }
        // Before ssh looks for it.
        OwnKey::ensure(&paths)?;
        if self.ssh_agent.is_empty() {
            let words = words(&place, &Agent::AtHome, &vm, self.arguments);
            return Err(not_run(&ssh, &replaced_by(&ssh, words)).into());
        }
        let users = ClientEnvironment::read().ssh_auth_sock.map(PathBuf::from);
        let mut signals = Signals::listen()?;
        let begin = Forwarding::begin(self.ssh_agent, users, &vm, &paths);
        let forwarding = signals.unless_interrupted(begin).await?;
        let agent = Agent::at(&forwarding.socket())?;
        let words = words(&place, &agent, &vm, self.arguments);
        let ended = beside(&ssh, words, &mut signals).await;
        forwarding.end().await;
        Ok(ended?)
    }
}

/// What ssh is run with.
fn words(place: &Place, agent: &Agent, vm: &Vm, arguments: Vec<OsString>) -> Vec<OsString> {
    let options = options::of(place, agent).into_iter();
    let options = options.flat_map(|(key, value)| ["-o".to_owned(), format!("{key}={value}")]);
    let name = format!("{}{SUFFIX}", vm.name);
    options.chain([name]).map(OsString::from).chain(arguments).collect()
}

/// Runs ssh and returns its status. All signals are for it; that the terminal has another size it hears by itself.
async fn beside(ssh: &Path, words: Vec<OsString>, signals: &mut Signals) -> Result<u8, Report> {
    let mut running = Beside::start(ssh, words).map_err(|error| not_run(ssh, &error))?;
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            ended = running.ended() => {
                let ended = ended.map_err(|error| failed("cannot wait for ssh", &error))?;
                return Ok(shell_status(ended));
            }
            signal = signals.next() => {
                if signal != libc::SIGWINCH {
                    running.signal(signal).map_err(|error| failed("cannot signal ssh", &error))?;
                }
            }
        }
    }
}

/// A status as a shell has it.
fn shell_status(ended: ExitStatus) -> u8 {
    let status = ended.code().or_else(|| Some(128 + ended.signal()?));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(u8::MAX)
}

fn not_run(ssh: &Path, error: &std::io::Error) -> Report {
    Report::new(Kind::Failed, format!("cannot run `{}`", ssh.display())).with_cause(error)
}
