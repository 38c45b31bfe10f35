//! Asking git in the guest which files it would keep: those in the index, and new ones that it does not
//! ignore; in submodules too. A tree that is no repository is asked about by an empty one beside it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::Listed;
use crate::agent::exec::login::{Login, Terminal};
use crate::agent::failure::{During, Failure};
use crate::id::BootId;
use crate::task::blocking;
use crate::wire::survey::{ListedBy, MAX_RECORDS};

/// How long git may take for one repository: large ones on slow, emulated disks.
const DEADLINE: Duration = Duration::from_secs(300);

/// How much of what git complains of is told.
const COMPLAINTS: u64 = 4096;

/// More submodules would be a loop.
const MAX_SUBMODULES: usize = 1_000;

/// How git marks an entry of an index that is not to be in the working tree.
const LEFT_OUT: u8 = b'S';

/// The mode of a submodule in an index.
const SUBMODULE: &[u8] = b"160000 ";

/// Said over whatever the repository's configuration says: the repository may belong to another user of the
/// guest, and nothing here may start a program that stays.
const OVERRIDES: [(&str, &str); 3] =
    [("safe.directory", "*"), ("core.fsmonitor", "false"), ("core.untrackedCache", "false")];

/// What git lists in the tree at `folder`. In `own`, what it needs lies for a moment.
///
/// # Errors
/// When there is no git, or it fails there.
pub async fn paths(
    folder: &Path,
    by: ListedBy,
    login: &Login,
    own: PathBuf,
) -> Result<Listed, Failure> {
    match by {
        ListedBy::Repository => in_repository(folder, login).await,
        ListedBy::Rules => by_rules(folder, login, own).await,
    }
}

/// What is there and not ignored, whatever `.git` there says of it.
async fn by_rules(folder: &Path, login: &Login, own: PathBuf) -> Result<Listed, Failure> {
    let step = || format!("list what is in `{}`", folder.display());
    let empty = blocking(move || Empty::make(&own)).await.during(step())?;
    let git = Git { folder, of: Some(empty.0.clone()), login };
    let mut listed = Listed::default();
    let others = git.list(&["--others", "--exclude-standard"]).await;
    blocking(move || drop(empty)).await;
    listed.take_others(b"", &others.during(step())?);
    Ok(listed)
}

async fn in_repository(folder: &Path, login: &Login) -> Result<Listed, Failure> {
    let mut listed = Listed::default();
    let mut to_read = VecDeque::from([Vec::new()]);
    let mut submodules = 0;
    while let Some(prefix) = to_read.pop_front() {
        let place = folder.join(OsStr::from_bytes(&prefix));
        let step = || format!("list what is in `{}`", place.display());
        let inside = tokio::fs::symlink_metadata(place.join(".git")).await.is_ok();
        let git = match inside || prefix.is_empty() {
            true => Git { folder: &place, of: None, login },
            false => Git { folder: &place, of: Some(folder.join(".git")), login },
        };
        let (index, others) = tokio::join!(
            git.list(&["-v", "--stage"]),
            git.list(&["--others", "--exclude-standard"])
        );
        let index = index.during(step())?;
        let mut below = Vec::new();
        for entry in records(&index).filter_map(entry) {
            let whole = [&prefix, entry.path].concat();
            if entry.info.starts_with(SUBMODULE) {
                submodules += 1;
                below.push([&whole[..], b"/"].concat());
                continue;
            }
            // Of what submodules leave out, the host knows nothing.
            if entry.tag.eq_ignore_ascii_case(&LEFT_OUT) && prefix.is_empty() {
                listed.left_out.insert(whole.clone(), entry.object);
            }
            listed.paths.push(whole);
        }
        listed.take_others(&prefix, &others.during(step())?);
        if submodules > MAX_SUBMODULES {
            return Err(Failure::new(step(), "it has more than a thousand submodules"));
        }
        for submodule in below {
            let place = folder.join(OsStr::from_bytes(&submodule));
            if tokio::fs::symlink_metadata(place).await.is_ok_and(|place| place.is_dir()) {
                to_read.push_back(submodule);
            }
        }
    }
    Ok(listed)
}

fn records(listing: &[u8]) -> impl Iterator<Item = &[u8]> {
    listing.split(|byte| *byte == 0).filter(|record| !record.is_empty())
}

/// One entry of an index: `TAG MODE OBJECT STAGE<tab>PATH`.
struct Entry<'a> {
    tag: u8,
    /// From the mode on.
    info: &'a [u8],
    object: String,
    path: &'a [u8],
}

fn entry(record: &[u8]) -> Option<Entry<'_>> {
    let tab = record.iter().position(|byte| *byte == b'\t')?;
    let (tag, info) = (*record.first()?, record[..tab].get(2..)?);
    let object = info.split(|byte| *byte == b' ').nth(1)?;
    let (object, path) = (String::from_utf8_lossy(object).into_owned(), &record[tab + 1..]);
    (!path.is_empty()).then_some(Entry { tag, info, object, path })
}

impl Listed {
    /// Takes what is in no index.
    fn take_others(&mut self, prefix: &[u8], others: &[u8]) {
        for path in records(others) {
            let whole = [prefix, path].concat();
            match path.ends_with(b"/") {
                true => self.nested.push(whole),
                false => self.paths.push(whole),
            }
        }
    }
}

/// A git folder of a repository in which nothing is. It is removed when the value is dropped.
struct Empty(PathBuf);

impl Empty {
    /// Makes it in a folder that nobody else writes in: what somebody put into it, git would go by. Blocks.
    fn make(own: &Path) -> io::Result<Self> {
        fs::create_dir_all(own)?;
        let folder = own.join(format!("empty-{}.git", BootId::random()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let made = Self(folder);
        fs::create_dir(made.0.join("objects"))?;
        fs::create_dir(made.0.join("refs"))?;
        fs::write(made.0.join("HEAD"), "ref: refs/heads/none\n")?;
        Ok(made)
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        // What stays is empty.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Git in one place.
struct Git<'a> {
    folder: &'a Path,
    /// The git folder whose rules of what is ignored hold here, where there is none. Nothing is in an index there.
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
        // Over `core.worktree`, which may name another folder: then git would look there.
        command.env("GIT_WORK_TREE", self.folder);
        if let Some(git_folder) = &self.of {
            command.env("GIT_DIR", git_folder).env("GIT_INDEX_FILE", "/proc/none");
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_empty_repository_lies_in_the_agents_own_folder_and_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("run/cove");
        let empty = Empty::make(&own).expect("made");
        assert_eq!(empty.0.parent(), Some(&*own));
        let mode = fs::metadata(&empty.0).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(empty.0.join("HEAD").is_file());
        drop(empty);
        assert_eq!(fs::read_dir(&own).expect("listed").count(), 0);
    }
}
