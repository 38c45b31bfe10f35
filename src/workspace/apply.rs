//! The guest's work, put into the working tree that it came from.
//!
//! ```text
//!  went in ──┬── what the guest has now ──┐
//!            │                            ├─► what is to be written, path by path ─► beside ─► in its place
//!            └── what the source has now ─┘
//! ```
//!
//! A path is *touched* when the guest's file there differs from what went in, or from what was exported last. Of what
//! is touched,
//!
//! 1. a path at which the source has just what the guest has needs nothing;
//! 2. a path at which the source has what went in, or what was exported last, gets what the guest has: nothing that
//!    is only the user's is lost by it;
//! 3. a path at which the source has anything else is not as it was, and everything is refused, or both sides' work
//!    is merged ([`ApplyHow`]);
//! 4. but a path at which the guest took back what was exported, so that it is again as it went in, is no part of
//!    the patch, and left alone then.
//!
//! Only the working tree is written: no index, ref or configuration, and nothing that git runs is run. Nothing is
//! written through a symlink, into a `.git` folder however it is spelled, into a repository that is no part of this
//! one, or into a submodule that is not checked out. How it is made whole or not at all: see `place`.

mod changes;
mod error;
mod merge;
mod place;
mod present;
mod runs;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::beside::Beside;
use super::git::{self, Size};
use super::kept::Kept;
use super::listing::{self, shown};
use super::lists::{Lists, named};
use super::repository::{self, Repository};
use super::scratch::ScratchFolder;
use super::tree::Root;
use super::{TreeWriter, Untracked, WorkspaceError, Workspaces};
use crate::task::blocking;
use crate::wire::rpc::{ApplyHow, RunsByItself};
use changes::{Change, Entry, between};
pub use error::ApplyError;
use place::Staged;
use present::{Others, Present};

const PREPARING: &str = "prepare what is to be applied";
/// How many paths an error names.
const NAMED: usize = 10;

const CHECKING: &str = "check the names of the files that are to be written";

/// What is to be written into a working tree.
#[derive(Debug)]
pub struct Application {
    kept: Kept,
    repository: Repository,
    root: Arc<Root>,
    present: Present,
    to: String,
    work: Vec<Change>,
    conflicts: Vec<Vec<u8>>,
    beside: Beside,
    /// In which that repository is.
    _folder: ScratchFolder,
}

impl Application {
    /// Compares the tree `to`, which was seen in a guest, with the working tree at `source`.
    pub(super) async fn of(
        workspaces: &Workspaces,
        kept: &Kept,
        source: &Path,
        to: &str,
        how: ApplyHow,
    ) -> Result<Self, ApplyError> {
        let repository = find(source).await?;
        let opened = Root::opened(&repository.root).await;
        let root = opened.map_err(|source| WorkspaceError::Read { path: ".".into(), source })?;
        let root = Arc::new(root);
        let folder = workspaces.scratch_folder().await?;
        let beside = Beside::make(kept, folder.path().join("apply"), PREPARING).await?;
        let base = kept.base().await?;
        let exported = kept.last_exported().await?;
        let mut differing = between(&beside, &base, to).await?;
        let patch = paths(&differing);
        if let Some(exported) = &exported {
            differing.extend(between(&beside, exported, to).await?);
        }
        check_names(&beside, &differing).await?;
        let touched: BTreeSet<_> = differing.into_iter().map(|change| change.path).collect();
        let others = others(&repository, &root).await?;
        let present = present::read(&beside, root.clone(), &base, touched.clone(), others).await?;
        let comparing = Comparing { beside: &beside, base: &base, present: &present, touched };
        let sorted = comparing.sort(exported.as_deref(), &patch, to).await?;
        let (work, conflicts) = match (sorted.strangers.is_empty(), how) {
            (true, _) => (sorted.work, Vec::new()),
            (false, ApplyHow::AsItWas) => {
                return Err(ApplyError::NotAsItWas { paths: some(&sorted.strangers) });
            }
            (false, ApplyHow::ThreeWay) => comparing.merge(sorted, to).await?,
        };
        let (kept, to) = (kept.clone(), to.to_owned());
        let _folder = folder;
        Ok(Self { kept, repository, root, present, to, work, conflicts, beside, _folder })
    }

    /// How many files would be written or removed.
    #[must_use]
    pub fn files(&self) -> usize {
        self.work.len()
    }

    /// Those of them that run by themselves.
    #[must_use]
    pub fn runs(&self) -> Vec<RunsByItself> {
        runs::of(&self.work)
    }

    /// The files that were changed in both places in ways that do not fit together, fit for a terminal.
    #[must_use]
    pub fn conflicts(&self) -> Vec<String> {
        self.conflicts.iter().map(|path| shown(path)).collect()
    }

    /// A word for exactly this: what the source has now, and what the guest has.
    #[must_use]
    pub fn change(&self) -> String {
        format!("{}..{}", self.present.tree, self.to)
    }

    /// Writes it: all, or nothing.
    ///
    /// # Errors
    /// When something cannot be written, or was changed since it was compared.
    pub async fn carry_out(self) -> Result<(), ApplyError> {
        if self.work.is_empty() {
            return Ok(());
        }
        let path = &self.repository.root;
        let staged = Staged::write(&self.beside, self.root, path, self.work, self.present.files);
        let (staged, kept) = (staged.await?, self.kept);
        let place = move || {
            let placed = staged.place();
            // Nobody else has the workspace before.
            drop(kept);
            placed
        };
        blocking(place).await
    }
}

/// What is compared.
struct Comparing<'a> {
    beside: &'a Beside,
    base: &'a str,
    present: &'a Present,
    touched: BTreeSet<Vec<u8>>,
}

/// The touched paths, by what becomes of them.
#[derive(Debug, Default)]
struct Sorted {
    /// The source has what went in or was exported: the guest's is written.
    work: Vec<Change>,
    /// It is not as it was.
    strangers: Vec<Change>,
    /// It is left as it is.
    left: Vec<Change>,
}

impl Comparing<'_> {
    /// Sorts what the source has otherwise than the guest. `patch` is what the guest has otherwise than it went in.
    async fn sort(
        &self,
        exported: Option<&str>,
        patch: &HashSet<Vec<u8>>,
        to: &str,
    ) -> Result<Sorted, WorkspaceError> {
        let here = &self.present.tree;
        let since_base = paths(&between(self.beside, self.base, here).await?);
        let since_export = match exported {
            Some(exported) => Some(paths(&between(self.beside, exported, here).await?)),
            None => None,
        };
        let mut sorted = Sorted::default();
        for change in between(self.beside, here, to).await? {
            let path = &change.path;
            let as_exported = since_export.as_ref().is_some_and(|since| !since.contains(path));
            let as_it_was = !since_base.contains(path) || as_exported;
            let list = match (self.present.blocked.contains(path), as_it_was) {
                (false, true) => &mut sorted.work,
                (_, _) if patch.contains(path) => &mut sorted.strangers,
                (_, _) => &mut sorted.left,
            };
            list.push(change);
        }
        Ok(sorted)
    }

    /// Merges what is not as it was. Returns all that is to be written, and the paths in conflict.
    async fn merge(
        &self,
        sorted: Sorted,
        to: &str,
    ) -> Result<(Vec<Change>, Vec<Vec<u8>>), ApplyError> {
        let unmergeable = |paths: &[Change]| ApplyError::Unmergeable { paths: some(paths) };
        let blocked = |change: &&Change| self.present.blocked.contains(&change.path);
        let in_the_way: Vec<_> = sorted.strangers.iter().filter(blocked).cloned().collect();
        if !in_the_way.is_empty() {
            return Err(unmergeable(&in_the_way));
        }
        // What is as it was began as what went in, to the merge: the guest's is taken.
        let own: Vec<_> = sorted.strangers.into_iter().chain(sorted.left).collect();
        let write = move |mut writer: TreeWriter| {
            let gone = own.iter().filter(|change| change.from.is_none());
            gone.for_each(|change| writer.remove(&change.path));
            for Change { path, from, .. } in &own {
                if let Some(Entry { kind, object }) = from {
                    writer.put(path, *kind, object);
                }
            }
            writer.finish();
            Ok(())
        };
        let (source, ()) = self.beside.tree(self.base, write).await?;
        let merged = merge::merge(self.beside, self.base, &source, to).await?;
        let work = between(self.beside, &self.present.tree, &merged.tree).await?;
        // A file here and a folder there: git would put one of them under another name.
        let elsewhere = |change: &&Change| !self.touched.contains(&change.path);
        let moved: Vec<_> = work.iter().filter(elsewhere).cloned().collect();
        match moved.is_empty() {
            true => Ok((work, merged.conflicts)),
            false => Err(unmergeable(&moved)),
        }
    }
}

/// The repository whose root is still at `source`.
async fn find(source: &Path) -> Result<Repository, ApplyError> {
    let found = match repository::find(source).await {
        Ok(found) if found.root == source => return Ok(found),
        Ok(found) => WorkspaceError::MovedWorkingTree { path: source.to_owned(), root: found.root },
        Err(error) => error,
    };
    Err(ApplyError::NoSource { path: source.to_owned(), source: Box::new(found) })
}

/// Submodules that are checked out, and what is not the repository's: those that are not, and other repositories.
async fn others(repository: &Repository, root: &Arc<Root>) -> Result<Others, WorkspaceError> {
    let lists = Lists::read(&repository.root, root, Untracked::Leave).await?;
    let mut others = Others { foreign: lists.nested, submodules: HashSet::new() };
    for submodule in lists.submodules {
        let is_checked_out = root.has([&submodule, &b".git"[..]].concat()).await;
        let read = |source| WorkspaceError::Read { path: shown(&submodule), source };
        match is_checked_out.map_err(read)? {
            true => _ = others.submodules.insert(submodule),
            false => others.foreign.push(submodule),
        }
    }
    Ok(others)
}

/// Refuses names that git would not write into a working tree on any system: those that some file system takes for
/// `.git`.
async fn check_names(beside: &Beside, changes: &[Change]) -> Result<(), ApplyError> {
    for change in changes {
        listing::check(&change.path).map_err(|_| unfit(&change.path))?;
    }
    let mut names = HashSet::new();
    let mut entries = Vec::new();
    for change in changes {
        let Some(new) = &change.to else { continue };
        names.insert(&change.path[..]);
        entries.extend_from_slice(format!("{} {}\t", new.kind.mode(), new.object).as_bytes());
        entries.extend_from_slice(&change.path);
        entries.push(0);
    }
    let index = beside.folder().join("index-of-names");
    let git = || {
        let git = beside.git(Size::Work).env("GIT_INDEX_FILE", &index);
        git.args(["-c", "core.protectHFS=true", "-c", "core.protectNTFS=true"])
    };
    // It leaves out what it would not write.
    let take = git().args(["update-index", "-z", "--index-info"]).input(entries);
    git::run(take, CHECKING).await?;
    let taken = git::run(git().args(["ls-files", "-z", "--cached"]), CHECKING).await?;
    for path in listing::paths(&taken) {
        names.remove(path);
    }
    match names.into_iter().min() {
        Some(path) => Err(unfit(path)),
        None => Ok(()),
    }
}

fn unfit(path: &[u8]) -> ApplyError {
    ApplyError::UnfitPath { path: shown(path) }
}

fn paths(changes: &[Change]) -> HashSet<Vec<u8>> {
    changes.iter().map(|change| change.path.clone()).collect()
}

/// Their paths, for an error.
fn some(changes: &[Change]) -> String {
    let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
    named(&paths, NAMED)
}
