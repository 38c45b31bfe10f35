//! Processes of the host that belong to one world.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_until;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its id.
    pub(crate) pid: i32,
    /// Its arguments, with blanks between.
    pub(crate) arguments: String,
}

impl Found {
    /// Whether it is `coved` itself, not one of the helpers that it is as well.
    pub(crate) fn is_daemon(&self) -> bool {
        self.arguments.contains("coved --ready-fd") || self.arguments.trim_end().ends_with("coved")
    }
}

/// Living processes that have this folder in their arguments, their environment's `COVE_HOME` or their
/// working folder, or one of these ids in their arguments.
pub(super) fn of(folder: &Path, ids: &[String]) -> Vec<Found> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").expect("/proc");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter_map(|name| name.parse::<i32>().ok()).filter(|pid| *pid != own);
    pids.filter_map(|pid| belongs(pid, folder, ids)).collect()
}

fn belongs(pid: i32, folder: &Path, ids: &[String]) -> Option<Found> {
    let process = Path::new("/proc").join(pid.to_string());
    // A process may end between two looks. Zombies have no arguments.
    let arguments = fs::read(process.join("cmdline")).ok().filter(|bytes| !bytes.is_empty())?;
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    let folder_text = folder.to_str().expect("UTF-8");
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let home = format!("COVE_HOME={folder_text}/");
    let is_ours = arguments.contains(folder_text)
        || environment.split('\0').any(|variable| variable.starts_with(&home))
        || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        || ids.iter().any(|id| arguments.contains(id.as_str()));
    is_ours.then_some(Found { pid, arguments })
}

/// Ends the processes of a world whose test has failed.
pub(super) fn end(folder: &Path, ids: &[String]) {
    // The daemon first, so that it starts nothing more.
    for daemon_first in [true, false] {
        for found in of(folder, ids).iter().filter(|found| found.is_daemon() == daemon_first) {
            // It may have ended by itself.
            kill(Pid::from_raw(found.pid), Signal::SIGKILL).unwrap_or_default();
        }
    }
    let gone = wait_until(Duration::from_secs(5), || match of(folder, ids) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    // A panic inside a drop would hide why the test failed.
    gone.unwrap_or_default();
}
