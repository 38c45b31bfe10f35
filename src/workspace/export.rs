//! What was done in a guest, for the host: a patch, the names of what has changed, the state.
//!
//! Everything is said about trees that the host keeps ([`Kept`]). A patch is binary-safe, has no renames, and is
//! made by a git that sees no configuration.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::WorkspaceError;
use super::beside::Beside;
use super::git::{self, Size, in_source};
use super::import::quoted;
use super::kept::Kept;
use super::listing::{self, shown};
use super::repository::{self, Repository};
use crate::process::Tool;
use crate::wire::rpc::{ChangeKind, WorkspaceChange};

const CHECKING: &str = "check the bundle that the guest made";
const COMPARING: &str = "compare the guest's files with those that went in";

/// What an export is the difference to.
#[derive(Debug, Clone, Copy)]
pub enum Against<'a> {
    /// What went in.
    Base,
    /// A commit of the source repository, which has this path.
    Commit {
        /// A path in the source repository.
        source: &'a Path,
        /// The commit, as git understands it there.
        commit: &'a str,
    },
}

/// Two trees to be compared.
pub struct Comparison<'a> {
    kept: &'a Kept,
    from: String,
    to: &'a str,
    /// The objects of the source repository, where `from` may lie there.
    objects: Option<Vec<u8>>,
    /// What is not compared: submodules, which a commit only names.
    without: Vec<Vec<u8>>,
}

impl<'a> Comparison<'a> {
    /// Compares with `to`, a tree that was seen.
    ///
    /// # Errors
    /// When there is no such commit, or the source repository is not there any more.
    pub async fn of(
        kept: &'a Kept,
        against: Against<'_>,
        to: &'a str,
    ) -> Result<Self, WorkspaceError> {
        let Against::Commit { source, commit } = against else {
            let from = kept.base().await?;
            return Ok(Self { kept, from, to, objects: None, without: Vec::new() });
        };
        let repository = repository::find(source).await?;
        let from = resolve(&repository, commit, "tree").await?;
        let objects = repository.common.join("objects");
        let objects = Some(quoted(objects.as_os_str().as_bytes()));
        let mut comparison = Self { kept, from, to, objects, without: Vec::new() };
        let list = comparison.git().args(["ls-tree", "-r", "-z", "--full-tree"]);
        let listing = git::run(list.arg(&comparison.from), COMPARING).await?;
        for line in listing::paths(&listing).filter(|line| line.starts_with(b"160000 ")) {
            let path = line.splitn(2, |byte| *byte == b'\t').nth(1).unwrap_or_default();
            comparison.without.push(path.to_vec());
        }
        Ok(comparison)
    }

    /// Whether everything is compared: a commit only names submodules, so what is in them is not.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.without.is_empty()
    }

    /// Writes the patch into a file.
    ///
    /// # Errors
    /// When git fails, or the file cannot be written.
    pub async fn patch(&self, file: &Path) -> Result<(), WorkspaceError> {
        let diff = self.diff().args(["--binary", "--full-index"]);
        let diff = diff.args(["--src-prefix=a/", "--dst-prefix=b/"]);
        self.write(diff, file).await
    }

    /// Writes the names of what has changed into a file, one a line, quoted as git does.
    ///
    /// # Errors
    /// When git fails, or the file cannot be written.
    pub async fn names(&self, file: &Path) -> Result<(), WorkspaceError> {
        self.write(self.diff().arg("--name-only"), file).await
    }

    /// What has changed, by name.
    ///
    /// # Errors
    /// When git fails.
    pub async fn changes(&self) -> Result<Vec<WorkspaceChange>, WorkspaceError> {
        let diff = self.diff().args(["--name-status", "-z"]);
        read_changes(&git::run(self.trees(diff), COMPARING).await?)
    }

    async fn write(&self, diff: Tool, file: &Path) -> Result<(), WorkspaceError> {
        let mut output = OsStr::new("--output=").to_owned();
        output.push(file);
        git::run(self.trees(diff.arg(output)), COMPARING).await.map(drop)
    }

    fn git(&self) -> Tool {
        let git = self.kept.git(Size::Work);
        match &self.objects {
            // Only read there, as through any alternate.
            Some(objects) => {
                git.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", OsStr::from_bytes(objects))
            }
            None => git,
        }
    }

    fn diff(&self) -> Tool {
        self.git().args(["diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"])
    }

    fn trees(&self, diff: Tool) -> Tool {
        let mut diff = diff.arg(&self.from).arg(self.to).arg("--");
        if !self.without.is_empty() {
            diff = diff.arg(":/");
        }
        for path in &self.without {
            let mut without = OsStr::new(":(top,exclude,literal)").to_owned();
            without.push(OsStr::from_bytes(path));
            diff = diff.arg(without);
        }
        diff
    }
}

/// Looks whether a bundle that a guest made is sound: its objects are read into a repository in `folder`, checked
/// one by one, on top of the history that went in.
pub(super) async fn check_bundle(
    kept: &Kept,
    folder: &Path,
    bundle: &Path,
) -> Result<(), WorkspaceError> {
    let check = Beside::make(kept, folder.join("check"), CHECKING).await?;
    let fetch = check
        .git(Size::Work)
        .args(["-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags"])
        .args(["--no-write-fetch-head", "--no-recurse-submodules"])
        .arg(bundle)
        .args(["+refs/*:refs/checked/*", "+HEAD:refs/checked-head"]);
    git::run(fetch, CHECKING).await.map(drop)
}

/// The object of this type that a name of the source's stands for: a commit, or its tree.
pub(super) async fn resolve(
    repository: &Repository,
    commit: &str,
    kind: &str,
) -> Result<String, WorkspaceError> {
    let wanted = format!("{commit}^{{{kind}}}");
    let ask = in_source(&repository.root, Size::Question);
    let ask = ask.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]);
    let answer = git::ask(ask, "find the commit").await?;
    let object = answer.and_then(|answer| String::from_utf8(answer).ok());
    object.ok_or_else(|| WorkspaceError::NoSuchCommit {
        commit: shown(commit.as_bytes()),
        path: repository.root.clone(),
    })
}

/// Takes apart `STATUS<nul>PATH<nul>`, again and again.
fn read_changes(listing: &[u8]) -> Result<Vec<WorkspaceChange>, WorkspaceError> {
    let unexpected = || WorkspaceError::Unexpected { doing: COMPARING };
    let mut parts = listing::paths(listing);
    let mut changes = Vec::new();
    while let Some(status) = parts.next() {
        let change = match status {
            b"A" => ChangeKind::Added,
            b"D" => ChangeKind::Deleted,
            b"M" | b"T" => ChangeKind::Modified,
            _ => return Err(unexpected()),
        };
        let path = parts.next().ok_or_else(unexpected)?;
        changes.push(WorkspaceChange { path: shown(path), change });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_changes_is_taken_apart() {
        let changes = read_changes(b"A\0a b\0D\0c\nd\0M\0e\0T\0f\0").expect("reads");
        let shown: Vec<_> =
            changes.iter().map(|change| (&change.path[..], change.change)).collect();
        assert_eq!(
            shown,
            [
                ("a b", ChangeKind::Added),
                ("c\\nd", ChangeKind::Deleted),
                ("e", ChangeKind::Modified),
                ("f", ChangeKind::Modified),
            ]
        );
        for bad in [&b"X\0a\0"[..], b"A\0", b"U\0a\0"] {
            assert!(read_changes(bad).is_err(), "{bad:?}");
        }
    }
}
