//! Which files git names: tracked, untracked, and those of submodules.
//!
//! Submodules are asked one by one, as the repositories they are, so that their own rules of what is
//! ignored hold and none of them is entered through a symlink.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::git::{self, Size, in_source};
use super::listing::{self, check, shown};
use super::repository;
use super::tree::Root;
use super::{Untracked, WorkspaceError};
use crate::report::counted;

/// More files than the largest repositories people work in; with 150 bytes each in memory.
const MAX_FILES: usize = 1_000_000;

/// More submodules would be a loop.
const MAX_SUBMODULES: usize = 1_000;

/// How many of a kind of path a note names.
pub(super) const NAMED_IN_NOTES: usize = 5;

/// What git lists in the repository and in its submodules.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The repository's own index, raw.
    pub(super) index: Vec<u8>,
    /// Files, relative to the root.
    pub(super) files: Vec<Vec<u8>>,
    /// Submodules, relative to the root, with a slash at the end.
    pub(super) submodules: Vec<Vec<u8>>,
    /// Submodules whose content goes in, the outer ones first.
    pub(super) populated: Vec<Populated>,
    pub(super) conflicts: usize,
    pub(super) left_out: u64,
    pub(super) nested: Vec<Vec<u8>>,
}

/// A submodule that is checked out.
#[derive(Debug)]
pub(super) struct Populated {
    /// Its folder, relative to the root, with a slash at the end.
    pub(super) path: Vec<u8>,
    /// That of the submodule that it is in, or empty.
    pub(super) above: Vec<u8>,
    /// Its index, raw.
    pub(super) index: Vec<u8>,
}

impl Lists {
    /// Asks git, in the repository and in every submodule that is checked out.
    pub(super) async fn read(
        root_path: &Path,
        root: &Arc<Root>,
        untracked: Untracked,
    ) -> Result<Self, WorkspaceError> {
        let mut lists = Self::default();
        let mut to_read = VecDeque::from([(Vec::new(), Vec::new())]);
        while let Some((above, prefix)) = to_read.pop_front() {
            let folder = root_path.join(OsStr::from_bytes(&prefix));
            let (index, others) = list(&folder).await?;
            let submodules = lists.take_index(&prefix, &index)?;
            lists.take_untracked(&prefix, &others, untracked)?;
            for submodule in submodules {
                if is_populated(root_path, root, &submodule).await? {
                    to_read.push_back((prefix.clone(), submodule.clone()));
                }
                lists.submodules.push(submodule);
            }
            match prefix.is_empty() {
                true => lists.index = index,
                false => lists.populated.push(Populated { path: prefix, above, index }),
            }
            if lists.files.len() > MAX_FILES || lists.submodules.len() > MAX_SUBMODULES {
                return Err(WorkspaceError::TooManyFiles { limit: MAX_FILES });
            }
        }
        Ok(lists)
    }

    /// Takes the tracked files; returns the submodules.
    fn take_index(&mut self, prefix: &[u8], raw: &[u8]) -> Result<Vec<Vec<u8>>, WorkspaceError> {
        let mut submodules = Vec::new();
        let mut before: &[u8] = b"";
        for entry in listing::index(raw) {
            let entry = entry?;
            check(entry.path)?;
            if entry.path == before {
                continue; // another stage of the same conflict
            }
            before = entry.path;
            self.conflicts += usize::from(entry.is_conflict());
            match entry.is_submodule() {
                true => submodules.push([prefix, entry.path, b"/"].concat()),
                false => self.files.push([prefix, entry.path].concat()),
            }
        }
        Ok(submodules)
    }

    fn take_untracked(
        &mut self,
        prefix: &[u8],
        raw: &[u8],
        untracked: Untracked,
    ) -> Result<(), WorkspaceError> {
        for path in listing::paths(raw) {
            let whole = [prefix, path].concat();
            match (path.strip_suffix(b"/"), untracked) {
                (None, Untracked::Include) => {
                    check(path)?;
                    self.files.push(whole);
                }
                (None, Untracked::Leave) => self.left_out += 1,
                // A repository of its own inside this one: git lists only its folder.
                (Some(_), _) => {
                    self.left_out += 1;
                    self.nested.push(whole);
                }
            }
        }
        Ok(())
    }

    /// Lines for the user about what is left out, or goes in without a part; so many submodules are checked out.
    pub(super) fn notes(&self, untracked: Untracked, populated: usize) -> Vec<String> {
        let mut notes = Vec::new();
        let files = self.left_out - self.nested.len() as u64;
        if files > 0 && untracked == Untracked::Leave {
            let files = counted(files, "untracked file");
            notes.push(format!("{files} left out (take them along with --include-untracked)"));
        }
        if !self.nested.is_empty() {
            let named = named(&self.nested, NAMED_IN_NOTES);
            notes.push(format!("untracked repositories inside this one left out: {named}"));
        }
        let empty = self.submodules.len() - populated;
        if empty > 0 {
            let count = counted(empty as u64, "submodule");
            notes.push(format!("{count} not checked out here, and empty in the guest"));
        }
        if self.conflicts > 0 {
            let count = counted(self.conflicts as u64, "file");
            notes.push(format!(
                "{count} in conflict: the conflict goes in, but not the merge or rebase it belongs to"
            ));
        }
        notes
    }
}

/// The index and the untracked files of one repository, raw.
async fn list(folder: &Path) -> Result<(Vec<u8>, Vec<u8>), WorkspaceError> {
    let list = |what: &[&str]| in_source(folder, Size::Work).args(["ls-files", "-z"]).args(what);
    tokio::try_join!(
        git::run(list(&["-v", "--stage"]), "list the tracked files"),
        git::run(list(&["--others", "--exclude-standard"]), "list the untracked files"),
    )
}

/// Whether a submodule is checked out, and git, asked there, agrees that it is a repository of its own
/// with its root there.
async fn is_populated(
    root_path: &Path,
    root: &Arc<Root>,
    submodule: &[u8],
) -> Result<bool, WorkspaceError> {
    let read = |source| WorkspaceError::Read { path: shown(submodule), source };
    if !root.has([submodule, b".git"].concat()).await.map_err(read)? {
        return Ok(false);
    }
    let folder = root_path.join(OsStr::from_bytes(submodule));
    match repository::find(&folder).await {
        Ok(found) => Ok(found.root.join("") == folder),
        Err(
            WorkspaceError::NotARepository { .. }
            | WorkspaceError::Bare { .. }
            | WorkspaceError::InsideGitFolder { .. }
            | WorkspaceError::MovedWorkingTree { .. },
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// As many paths as are named at most, and how many more there are.
pub(super) fn named(paths: &[Vec<u8>], most: usize) -> String {
    let shown_paths = paths.iter().take(most).map(|path| format!("`{}`", shown(path)));
    let more = paths.len().saturating_sub(most);
    let more = (more > 0).then(|| format!("and {more} more"));
    shown_paths.chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_name_a_few_paths() {
        let paths: Vec<_> = (0..7).map(|n| format!("p\n{n}").into_bytes()).collect();
        let text = named(&paths, NAMED_IN_NOTES);
        assert_eq!(text, "`p\\n0`, `p\\n1`, `p\\n2`, `p\\n3`, `p\\n4`, and 2 more");
        assert_eq!((counted(1, "file"), counted(2, "file")), ("1 file".into(), "2 files".into()));
    }
}
