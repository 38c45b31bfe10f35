//! Asking git in the guest which files it would keep: those in the index, and new ones that it does not
//! ignore; in submodules too.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::Listed;
use crate::agent::exec::login::{Login, Terminal};
use crate::agent::failure::{During, Failure};
use crate::wire::survey::MAX_RECORDS;

/// How long git may take for one repository: large ones on slow, emulated disks.
const DEADLINE: Duration = Duration::from_secs(300);

/// How much of what git complains of is told.
const COMPLAINTS: u64 = 4096;

/// More submodules would be a loop.
const MAX_SUBMODULES: usize = 1_000;

/// The mode of a submodule in an index.
const SUBMODULE: &[u8] = b"160000 ";

/// Said over whatever the repository's configuration says: the repository may belong to another user of the
/// guest, and nothing here may start a program that stays.
const OVERRIDES: [(&str, &str); 3] =
    [("safe.directory", "*"), ("core.fsmonitor", "false"), ("core.untrackedCache", "false")];

/// What git lists in the repository at `folder`.
///
/// # Errors
/// When there is no git, or it fails there.
pub async fn paths(folder: &Path, login: &Login) -> Result<Listed, Failure> {
    let mut listed = Listed::default();
    let mut to_read = VecDeque::from([Vec::new()]);
    let mut submodules = 0;
    while let Some(prefix) = to_read.pop_front() {
        let place = folder.join(OsStr::from_bytes(&prefix));
        let step = || format!("list what is in `{}`", place.display());
        let inside = std::fs::symlink_metadata(place.join(".git")).is_ok();
        let git = match inside || prefix.is_empty() {
            true => Git { folder: &place, of: None, login },
            false => Git { folder: &place, of: Some(folder.join(".git")), login },
        };
        let (index, others) =
            tokio::join!(git.list(&["--stage"]), git.list(&["--others", "--exclude-standard"]));
        let index = index.during(step())?;
        for entry in records(&index) {
            let tab = entry.iter().position(|byte| *byte == b'\t');
            let path = tab.map_or(&b""[..], |tab| &entry[tab + 1..]);
            let whole = [&prefix, path].concat();
            if entry.starts_with(SUBMODULE) {
                submodules += 1;
                to_read.push_back([&whole[..], b"/"].concat());
            } else if !path.is_empty() {
                listed.paths.push(whole);
            }
        }
        let others = others.during(step())?;
        for path in records(&others) {
            let whole = [&prefix, path].concat();
            match path.ends_with(b"/") {
                true => listed.nested.push(whole),
                false => listed.paths.push(whole),
            }
        }
        if submodules > MAX_SUBMODULES {
            return Err(Failure::new(step(), "it has more than a thousand submodules"));
        }
        to_read.retain(|submodule| {
            let place = std::fs::symlink_metadata(folder.join(OsStr::from_bytes(submodule)));
            place.is_ok_and(|place| place.is_dir())
        });
    }
    Ok(listed)
}

fn records(listing: &[u8]) -> impl Iterator<Item = &[u8]> {
    listing.split(|byte| *byte == 0).filter(|record| !record.is_empty())
}

/// Git in one place.
struct Git<'a> {
    folder: &'a Path,
    /// The git folder whose rules of what is ignored hold here, where there is none: a submodule comes without
    /// its own. Nothing is in an index there.
    of: Option<PathBuf>,
    login: &'a Login,
}

impl Git<'_> {
    #[expect(
        clippy::disallowed_methods,
        reason = "git runs where the agent does, without a session"
    )]
    fn command(&self, what: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.folder).env_clear().envs(self.login.environment(Terminal::No));
        command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_CONFIG_COUNT", OVERRIDES.len().to_string());
        for (number, (key, value)) in OVERRIDES.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(git_folder) = &self.of {
            command.env("GIT_DIR", git_folder).env("GIT_WORK_TREE", self.folder);
            command.env("GIT_INDEX_FILE", "/proc/none");
        }
        command.args(["ls-files", "-z"]).args(what);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    async fn list(&self, what: &[&str]) -> io::Result<Vec<u8>> {
        let listing = async {
            let mut child = self.command(what).spawn().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::other("there is no `git` in this guest"),
                _ => error,
            })?;
            let (output, errors) = (child.stdout.take(), child.stderr.take());
            let (output, errors) =
                tokio::join!(read(output, MAX_RECORDS as u64), read(errors, COMPLAINTS),);
            let status = child.wait().await?;
            if !status.success() {
                let errors = errors?.bytes;
                let said = String::from_utf8_lossy(&errors).trim().to_owned();
                return Err(io::Error::other(format!("git failed ({status}): {said}")));
            }
            let Read { bytes, whole } = output?;
            if whole { Ok(bytes) } else { Err(io::Error::other("git lists too much")) }
        };
        timeout(DEADLINE, listing).await?
    }
}

/// What was read of a pipe.
struct Read {
    bytes: Vec<u8>,
    /// Whether that is all.
    whole: bool,
}

/// Reads a pipe to its end, and keeps its first `limit` bytes.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Read> {
    let Some(mut pipe) = pipe else { return Ok(Read { bytes: Vec::new(), whole: true }) };
    let mut bytes = Vec::new();
    (&mut pipe).take(limit).read_to_end(&mut bytes).await?;
    let rest = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(Read { bytes, whole: rest == 0 })
}
