//! `cove ssh`, and what it shares with `cove proxy` and `cove ssh-config`.
//!
//! ```text
//!  cove ssh web ──▶ it runs? ──▶ becomes: ssh -o … web.cove ──▶ cove proxy web.cove ══ the guest
//!                                          ▲
//!  cove ssh-config: the same options ──▶ Host *.cove, for everything that runs ssh by itself
//! ```
//!
//! Everything that says who a VM is comes from the daemon (`cove proxy`): its host key is the one that the
//! daemon gave the guest, and no file of the user's is asked or written.

pub(super) mod config;
mod key;
mod options;
mod user_file;

use std::ffi::OsString;
use std::path::Path;

use crate::config::search_path;
use crate::process::{find_program, replaced_by};
use crate::report::{Kind, Report};
use crate::wire::rpc::{VmRef, VmShow, VmState};

use super::completion::vm_names;
use super::connect::{connect, paths};
use super::failure::Failure;
use super::forward::not_running;

pub(super) use key::OwnKey;
use options::Place;

/// What follows a VM's name where ssh is told of it.
pub(super) const SUFFIX: &str = ".cove";

/// Arguments of `cove ssh`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// What ssh gets behind the VM's name: options of its own, and a command, which the guest's shell reads;
    /// a shell in the home when not given
    #[arg(last = true, value_name = "SSH-ARGS")]
    arguments: Vec<OsString>,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let paths = paths()?;
        let options = options::of(&Place::of(&paths)?);
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
        let options = options.into_iter().flat_map(|(key, value)| {
            [OsString::from("-o"), OsString::from(format!("{key}={value}"))]
        });
        let name = OsString::from(format!("{}{SUFFIX}", vm.name));
        let arguments = options.chain([name]).chain(self.arguments);
        let error = replaced_by(&ssh, arguments);
        let message = format!("cannot run `{}`", ssh.display());
        Err(Report::new(Kind::Failed, message).with_cause(&error).into())
    }
}
