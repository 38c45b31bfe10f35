//! What would go into a guest: found before anything is created, shown by `--dry-run`.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::WorkspaceError;
use super::configuration::{self, Configuration};
use super::git::{self, Size, in_source};
use super::listing::shown;
use super::lists::{Lists, NAMED_IN_NOTES, named};
use super::repository::{self, Head, Repository};
use super::scratch::ScratchFolder;
use super::submodule::{Submodule, Submodules};
use super::tree::{Kind, Root};
use crate::task::blocking;
use crate::wire::rpc::{WorkspaceMode, WorkspacePlan};

const WITHOUT_GIT: &str =
    "the files go in without a `.git`: the folder is no repository in the guest";

const WITHOUT_FILES: &str = "git metadata goes in without files, and without what is not committed: \
    `git sparse-checkout disable` in the guest checks the files out";

/// What to do with files that are neither tracked nor ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untracked {
    /// They stay on the host, and are counted.
    Leave,
    /// They go in.
    Include,
}

/// How much of the history goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// As much as the daemon's settings say.
    Usual,
    /// So many of the last commits.
    Last(NonZeroU32),
    /// All of it.
    Whole,
}

/// A repository and what would go in of it. Holds a descriptor of the working tree's root.
#[derive(Debug)]
pub struct Inspection {
    pub(super) repository: Repository,
    pub(super) head: Head,
    pub(super) configuration: Configuration,
    /// The index as git listed it: what the checkout's index is made from.
    pub(super) index: Vec<u8>,
    pub(super) contents: Arc<Contents>,
    pub(super) mode: WorkspaceMode,
    pub(super) history: History,
    /// Those whose git metadata goes in.
    pub(super) submodules: Vec<Submodule>,
    pub(super) untracked_left_out: u64,
    /// About the files.
    pub(super) notes: Vec<String>,
}

/// The files that go in.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) root: Arc<Root>,
    /// Sorted by path, each once.
    pub(super) entries: Vec<Entry>,
    /// The folder that they lie in, when it is one for a moment.
    pub(super) folder: Option<ScratchFolder>,
}

/// One file, symlink or folder.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Relative to the root; folders end with a slash, which sorts them right before what is in them.
    pub(super) path: Vec<u8>,
    /// Bytes it had when it was looked at.
    pub(super) size: u64,
}

impl Inspection {
    /// The same with so much of its history.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        for submodule in &mut self.submodules {
            submodule.inspection.history = history;
        }
        Self { history, ..self }
    }

    /// The same in this form.
    #[must_use]
    pub fn in_mode(self, mode: WorkspaceMode) -> Self {
        Self { mode, ..self }
    }

    /// The same on a branch of this name, which only the guest has.
    ///
    /// # Errors
    /// When git takes no such name.
    pub async fn on_branch(mut self, name: &str) -> Result<Self, WorkspaceError> {
        let branch = format!("refs/heads/{name}");
        let check = in_source(&self.repository.root, Size::Question);
        let check = check.args(["check-ref-format", &branch]);
        // A name that looks like an option is one that git itself does not make.
        let fits = git::ask(check, "look at the branch's name").await?.is_some();
        if !fits || name.starts_with('-') || name == "HEAD" {
            return Err(WorkspaceError::BadBranch { name: shown(name.as_bytes()) });
        }
        self.head.branch = Some(branch.into());
        // It follows no other branch.
        self.configuration.upstream = None;
        Ok(self)
    }

    /// What would go in, for people and programs. `guest_path` is relative to the home (`~/NAME`), which
    /// this service does not know.
    #[must_use]
    pub fn plan(&self) -> WorkspacePlan {
        let files = self.contents.in_mode(self.mode).iter().filter(|entry| !entry.is_folder());
        WorkspacePlan {
            source_path: self.repository.root.to_string_lossy().into_owned(),
            guest_path: format!("~/{}", self.guest_folder_name()),
            base_commit: self.head.commit.clone(),
            origin: self.origin().map(str::to_owned),
            files: files.map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect(),
            bytes: self.bytes(),
            untracked_left_out: self.untracked_left_out,
        }
    }

    /// The folder's name in the guest: the one of the working tree's root. It lies in the home, so it
    /// neither hides (`.ssh`, `.config`) nor looks like an option.
    #[must_use]
    pub fn guest_folder_name(&self) -> String {
        folder_name(self.repository.root.file_name().unwrap_or_default())
    }

    /// The root of the working tree on the host, absolute and without symlinks.
    #[must_use]
    pub fn source_root(&self) -> &Path {
        &self.repository.root
    }

    /// The commit that is checked out; none before the first one.
    #[must_use]
    pub fn base_commit(&self) -> Option<&str> {
        self.head.commit.as_deref()
    }

    /// The branch that the checkout will be on, as a full ref name; none when HEAD is detached, and none that is not
    /// UTF-8.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.head.branch.as_ref()?.to_str()
    }

    /// The origin that the checkout will have, without user name, password and token.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        match self.mode {
            WorkspaceMode::Shallow | WorkspaceMode::Metadata => self.configuration.origin.url(),
            WorkspaceMode::Full => None,
        }
    }

    /// In which form it goes in.
    #[must_use]
    pub fn mode(&self) -> WorkspaceMode {
        self.mode
    }

    /// How many files are neither tracked nor ignored and stay on the host.
    #[must_use]
    pub fn untracked_left_out(&self) -> u64 {
        self.untracked_left_out
    }

    /// Bytes of the files that go in, as they were when they were looked at.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.contents.in_mode(self.mode).iter().map(|entry| entry.size).sum()
    }

    /// Lines for the user: what was changed or left out on the way. Fit for a terminal.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let files = self.notes.iter().cloned();
        let origin = self.configuration.origin.note("origin");
        let submodules = self.submodules.iter().filter_map(Submodule::note);
        match self.mode {
            WorkspaceMode::Shallow => {
                files.chain(origin).chain(submodules).chain(self.filters()).collect()
            }
            WorkspaceMode::Full => files.chain([WITHOUT_GIT.to_owned()]).collect(),
            WorkspaceMode::Metadata => {
                [WITHOUT_FILES.to_owned()].into_iter().chain(origin).collect()
            }
        }
    }

    fn filters(&self) -> Option<String> {
        let note = "filters such as git-lfs are configured: files they manage may look changed in the guest \
             until the filter is set up there";
        self.configuration.has_filters.then(|| note.to_owned())
    }
}

impl Contents {
    /// What of them goes in.
    pub(super) fn in_mode(&self, mode: WorkspaceMode) -> &[Entry] {
        match mode {
            WorkspaceMode::Shallow | WorkspaceMode::Full => &self.entries,
            WorkspaceMode::Metadata => &[],
        }
    }
}

impl Entry {
    /// Whether it is a folder that goes in although nothing is in it: a submodule.
    pub(super) fn is_folder(&self) -> bool {
        self.path.ends_with(b"/")
    }
}

/// Inspects the repository that contains `path`.
pub(super) async fn inspect(
    path: &Path,
    untracked: Untracked,
) -> Result<Inspection, WorkspaceError> {
    let repository = repository::find(path).await?;
    let head = repository::head(&repository).await?;
    let root = Root::opened(&repository.root).await;
    let root =
        Arc::new(root.map_err(|source| WorkspaceError::Read { path: ".".to_owned(), source })?);
    let (configuration, mut lists) = tokio::try_join!(
        configuration::read(&repository, &head),
        Lists::read(&repository.root, &root, untracked),
    )?;
    let index = std::mem::take(&mut lists.index);
    let submodules = std::mem::take(&mut lists.populated);
    let mut notes = lists.notes(untracked, submodules.len());
    let submodules = Submodules::find(&repository, submodules).await;
    notes.extend(submodules.notes());
    let untracked_left_out = lists.left_out;
    let (contents, found) = blocking(move || look(root, lists)).await?;
    notes.extend(found);
    let contents = Arc::new(contents);
    Ok(Inspection {
        repository,
        head,
        configuration,
        index,
        contents,
        mode: WorkspaceMode::Shallow,
        history: History::Usual,
        submodules: submodules.found,
        untracked_left_out,
        notes,
    })
}

/// Looks at every listed path: which are there, and how large. Returns notes too. Blocks.
pub(super) fn look(
    root: Arc<Root>,
    lists: Lists,
) -> Result<(Contents, Vec<String>), WorkspaceError> {
    let mut special = Vec::new();
    let mut entries = Vec::with_capacity(lists.files.len() + lists.submodules.len());
    for path in lists.files {
        let found = root.look(&path);
        let found = found.map_err(|source| WorkspaceError::Read { path: shown(&path), source })?;
        match found.map(|found| found.kind) {
            Some(Kind::File(size)) => entries.push(Entry { path, size }),
            Some(Kind::Link) => entries.push(Entry { path, size: 0 }),
            // Deleted, or its place taken by a folder, whose files are listed by themselves.
            None | Some(Kind::Folder) => {}
            Some(Kind::Special) => special.push(path),
        }
    }
    for path in lists.submodules {
        let found = root.look(&path);
        let found = found.map_err(|source| WorkspaceError::Read { path: shown(&path), source })?;
        if found.is_some_and(|found| found.kind == Kind::Folder) {
            entries.push(Entry { path, size: 0 });
        }
    }
    entries.sort_unstable();
    entries.dedup_by(|one, other| one.path == other.path);
    let notes = match special.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "pipes, sockets and devices left out: {}",
            named(&special, NAMED_IN_NOTES)
        )],
    };
    Ok((Contents { root, entries, folder: None }, notes))
}

fn folder_name(name: &OsStr) -> String {
    let name = String::from_utf8_lossy(name.as_bytes());
    let name = name.replace(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER, "_");
    match name.trim_start_matches(['.', '-']) {
        "" => "workspace".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_folder_neither_hides_nor_looks_like_an_option() {
        let table: [(&[u8], &str); 9] = [
            (b"web", "web"),
            (b"my repo", "my repo"),
            (b"r.git", "r.git"),
            (b".ssh", "ssh"),
            (b"--help", "help"),
            (b"-.x", "x"),
            (b"...", "workspace"),
            (b"", "workspace"),
            (b"a\nb\xff", "a_b_"),
        ];
        for (name, expected) in table {
            assert_eq!(folder_name(OsStr::from_bytes(name)), expected);
        }
    }
}
