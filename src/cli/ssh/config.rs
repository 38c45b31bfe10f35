//! `cove ssh-config`: prints what makes `ssh NAME.cove` work, puts it into the user's file, or takes it out.

use crate::report::escape_control;

use super::super::connect::paths;
use super::super::failure::Failure;
use super::super::output::{print, say};
use super::OwnKey;
use super::options::{Place, section};
use super::user_file::{Taken, UserFile};

/// Arguments of `cove ssh-config`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// Put it at the start of ~/.ssh/config, between two lines that mark it, in place of an earlier one
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Take it out of ~/.ssh/config
    #[arg(long)]
    uninstall: bool,
}

impl Arguments {
    pub(in super::super) fn run(self) -> Result<u8, Failure> {
        let paths = paths()?;
        if self.uninstall {
            let (path, taken) = UserFile::of(&paths.user_home)?.uninstall()?;
            let path = escape_control(&path.display().to_string());
            say(&match taken {
                Taken::Block => format!("taken out of `{path}`"),
                Taken::File => format!("removed `{path}`, which had nothing else"),
                Taken::Nothing => format!("nothing to take out: `{path}` has nothing of cove"),
            });
            return Ok(0);
        }
        let section = section(&Place::of(&paths)?);
        if !self.install {
            print(&section)?;
            return Ok(0);
        }
        let file = UserFile::of(&paths.user_home)?;
        OwnKey::ensure(&paths)?;
        let path = file.install(&section)?;
        let path = escape_control(&path.display().to_string());
        say(&format!("written into `{path}`: `ssh NAME.cove` reaches the VM of that name"));
        if let Some(other) = other_home(&paths.user_home) {
            let other = escape_control(&other.display().to_string());
            say(&format!(
                "warning: HOME is not your account's home, and ssh reads `{other}/.ssh/config`"
            ));
        }
        Ok(0)
    }
}

/// The home that ssh takes, which is the account's, where that is not `HOME`.
fn other_home(home: &std::path::Path) -> Option<std::path::PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??;
    (user.dir != home).then_some(user.dir)
}
