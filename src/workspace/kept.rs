//! What the host keeps of a workspace: which tree went in, which one was seen last, which one was exported.
//!
//! ```text
//! FOLDER/git      a repository of our own: the history that went in, and the content of every file that
//!                 went in or was seen
//!   refs/cove/base      what went in
//!   refs/cove/seen      what was seen last
//!   refs/cove/exported  what somebody took out last
//!   refs/cove/left      what was there when the VM stopped in order, until it runs again
//!   refs/cove/next      what was on its way in last: whether the guest has it may not be known
//!   refs/cove/commit    the commit of the source that went in, with its history
//! FOLDER/packs    the packs of git objects that went in
//! FOLDER/mode     the mode in which it went in
//! FOLDER/tokens   how the agent knows the files of `seen` again
//! FOLDER/unchanged   how the source's files that `base` has are known again
//! ```
//!
//! The trees are flat: files of submodules are files like others in them. Every content was hashed here, so
//! nothing rests on what a guest says of its own git. The source repository is not needed any more, whatever
//! becomes of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::WorkspaceError;
use super::git::{self, Size, in_scratch};
use super::import::{self, Import, TreeWriter};
use super::listing::{self, shown};
use super::objects::{copy_shallow, link_all, packs_in, remove_stale_locks};
use super::package::Package;
use super::seeing::Found;
use crate::task;
use crate::wire::survey::{EntryKind, Known, Seen, Token};

/// The refs whose commits have the trees.
pub(super) const BASE: &str = "refs/cove/base";
pub(super) const SEEN: &str = "refs/cove/seen";
pub(super) const EXPORTED: &str = "refs/cove/exported";
pub(super) const NEXT: &str = "refs/cove/next";
pub(super) const COMMIT: &str = "refs/cove/commit";

pub(super) const KEEPING: &str = "keep what goes into the guest";
pub(super) const READING: &str = "read what is known of the workspace";

/// What is kept of one workspace.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
    /// Held by whoever has the workspace alone.
    _alone: Option<Arc<OwnedMutexGuard<()>>>,
}

/// A record that is being made of what goes in.
pub struct Recording {
    kept: Kept,
    import: Import,
}

/// A look at the guest's tree.
#[derive(Debug)]
pub struct Look {
    kept: Kept,
    tree: String,
    /// With what is in the tree, and not only in what went in.
    known: Vec<(Known, bool)>,
    /// What the agent is to be told.
    pub records: Vec<u8>,
}

/// How many bytes a guest may have to show: as many as its disk has.
#[derive(Debug, Clone, Copy)]
pub struct Limit(pub u64);

impl Kept {
    /// What is kept in this folder, or will be.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder, _alone: None }
    }

    /// The same, for whoever has the workspace alone. It stays theirs until the last work on files has ended that
    /// was begun here, also when nobody waits for that any more.
    #[must_use]
    pub fn while_alone(self, alone: OwnedMutexGuard<()>) -> Self {
        Self { _alone: Some(Arc::new(alone)), ..self }
    }

    /// Does something in the folder, beside the async threads.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, WorkspaceError> {
        let kept = self.clone();
        let done = task::blocking(move || work(&kept)).await;
        done.map_err(|source| WorkspaceError::Scratch { path: self.folder.clone(), source })
    }

    /// Whether something is kept at all.
    pub async fn is_there(&self) -> bool {
        tokio::fs::try_exists(self.git_folder().join(BASE)).await.unwrap_or(false)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.folder.join("packs")
    }

    pub(super) fn git_folder(&self) -> PathBuf {
        self.folder.join("git")
    }

    pub(super) fn git(&self, size: Size) -> crate::process::Tool {
        in_scratch(&self.git_folder(), size)
    }

    /// Begins anew with the history of a package. The writer is for
    /// [`Package::write_tar_recorded`], and must have finished before [`Recording::done`] comes back.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub async fn record(
        &self,
        package: &Package,
    ) -> Result<(TreeWriter, Recording), WorkspaceError> {
        self.blocking(Self::begin_anew).await?;
        let git = self.git_folder();
        let init = in_scratch(&git, Size::Question)
            .args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main"])
            .arg(format!("--object-format={}", package.object_format));
        git::run(init, KEEPING).await?;
        let (from, mode) = (package.metadata.git_folder(), package.mode);
        let (submodules, objects) =
            (package.submodules().cloned().collect::<Vec<_>>(), package.lfs.names());
        let keep = move |kept: &Self| {
            let git = kept.git_folder();
            link_all(&from.join("objects"), &git.join("objects"))?;
            copy_shallow(&from, &git)?;
            fs::write(kept.packs(), packs_in(&from)?)?;
            fs::write(kept.mode_file(), mode.as_str())?;
            kept.keep_submodules(submodules)?;
            kept.keep_lfs_objects(objects)
        };
        self.blocking(keep).await?;
        if let Some(commit) = &package.commit {
            let update = self.git(Size::Question).args(["update-ref", COMMIT, commit]);
            git::run(update, KEEPING).await?;
        }
        let begun = import::begin(&git, BASE, None);
        let (writer, import) = begun
            .map_err(|source| WorkspaceError::Scratch { path: self.folder.clone(), source })?;
        Ok((writer, Recording { kept: self.clone(), import }))
    }

    fn begin_anew(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Not the VM's own folder: when that is gone, so is the VM.
        fs::create_dir(&self.folder)?;
        fs::create_dir(self.git_folder())
    }

    /// Begins a look at the guest's tree.
    ///
    /// # Errors
    /// When nothing is kept, or it cannot be read.
    pub async fn look(&self) -> Result<Look, WorkspaceError> {
        if !self.is_there().await {
            return Err(WorkspaceError::NothingKept);
        }
        let read = |kept: &Self| {
            remove_stale_locks(&kept.git_folder());
            Ok(kept.tokens())
        };
        let tokens = self.blocking(read).await?;
        let (tree, base) = tokio::try_join!(self.seen(), self.base())?;
        let list = |tree: &str| {
            let list = self.git(Size::Work).args(["ls-tree", "-r", "-z", "--full-tree"]);
            git::run(list.arg(tree), READING)
        };
        let (seen, went_in) = tokio::try_join!(list(&tree), list(&base))?;
        let unexpected = || WorkspaceError::Unexpected { doing: READING };
        let mut known = BTreeMap::new();
        for (listing, in_tree) in [(&went_in, false), (&seen, true)] {
            for line in listing::paths(listing) {
                let mut entry = entry(line).ok_or_else(unexpected)?;
                if in_tree {
                    entry.went_in = known.contains_key(&entry.path);
                    if let Some(token) = tokens.get(&entry.path) {
                        entry.token = token.clone();
                    }
                }
                known.insert(entry.path.clone(), (entry, in_tree));
            }
        }
        let known: Vec<(Known, bool)> = known.into_values().collect();
        let mut records = Vec::new();
        known.iter().for_each(|(entry, _)| entry.write(&mut records));
        // Without what keeps others away: a guest may go on showing what it has when nobody waits for that.
        Ok(Look { kept: Self::at(self.folder.clone()), tree, known, records })
    }

    /// The tree that a ref has; none before there is one.
    pub(super) async fn tree(&self, reference: &str) -> Result<Option<String>, WorkspaceError> {
        let tree = format!("{reference}^{{tree}}");
        let ask = self.git(Size::Question).args(["rev-parse", "--verify", "--quiet", &tree]);
        let tree = git::ask(ask, READING).await?;
        Ok(tree.map(|tree| String::from_utf8_lossy(&tree).into_owned()))
    }

    /// The tree that went in.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn base(&self) -> Result<String, WorkspaceError> {
        self.tree(BASE).await?.ok_or(WorkspaceError::NothingKept)
    }

    /// The tree that was seen last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn seen(&self) -> Result<String, WorkspaceError> {
        self.tree(SEEN).await?.ok_or(WorkspaceError::NothingKept)
    }

    /// Whether a tree is what went in, or was on its way in, or was exported.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn is_safe(&self, tree: &str) -> Result<bool, WorkspaceError> {
        let (base, next, exported) =
            tokio::try_join!(self.tree(BASE), self.tree(NEXT), self.tree(EXPORTED))?;
        Ok([base, next, exported].iter().flatten().any(|safe| safe == tree))
    }

    /// The tree that somebody took out last; none before that.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn last_exported(&self) -> Result<Option<String>, WorkspaceError> {
        self.tree(EXPORTED).await
    }

    /// Writes down that somebody has the changes up to this tree, which was seen last when they were made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn exported(&self, tree: &str) -> Result<(), WorkspaceError> {
        // The tree itself, which no later look takes away.
        let update = self.git(Size::Question).args(["update-ref", EXPORTED, tree]);
        git::run(update, "write down what was exported").await.map(drop)
    }
}

impl Recording {
    /// Waits until everything is written down.
    ///
    /// # Errors
    /// When it could not be, or not everything went in.
    pub async fn done(self) -> Result<(), WorkspaceError> {
        let statuses = self.import.done().await?;
        let update = self.kept.git(Size::Question).args(["update-ref", SEEN, BASE]);
        git::run(update, KEEPING).await?;
        self.kept.keep_statuses(statuses).await;
        Ok(())
    }
}

impl Look {
    /// Takes what the agent sees: `contents` holds those of everything that has changed. Blocks. What it
    /// returns holds once the import is done.
    ///
    /// # Errors
    /// When the agent says what cannot be, or its contents end early.
    pub fn take(
        &self,
        records: &[u8],
        contents: &mut dyn Read,
        limit: Limit,
        mut writer: TreeWriter,
    ) -> Result<Found, WorkspaceError> {
        let said = |why: String| WorkspaceError::Nonsense { why };
        let seen = Seen::read_all(records).map_err(|error| said(error.to_string()))?;
        let mut known: BTreeMap<&[u8], (&Known, bool)> = self
            .known
            .iter()
            .map(|(entry, in_tree)| (&entry.path[..], (entry, *in_tree)))
            .collect();
        let mut found = Found::default();
        let (mut changed, mut back, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
        let mut last: Option<&[u8]> = None;
        for entry in &seen {
            match entry {
                Seen::Same { token, path } => {
                    back.extend(again(&mut known, path)?);
                    found.tokens.push((token.clone(), path.clone()));
                }
                Seen::Absent { path } => {
                    back.extend(again(&mut known, path)?);
                    found.absent.push(path.clone());
                }
                Seen::Unseen { path } => {
                    if known.remove(&path[..]).is_some_and(|(_, in_tree)| in_tree) {
                        found.absent.push(path.clone());
                    }
                    found.unseen.push(shown(path));
                }
                Seen::Changed { token, kind, size, path } => {
                    let plain = listing::check(path).is_ok();
                    if !plain || last.is_some_and(|last| last >= &path[..]) {
                        return Err(said(format!("it names `{}`", shown(path))));
                    }
                    known.remove(&path[..]);
                    bytes = bytes.saturating_add(*size);
                    changed.push((*kind, *size, path));
                    last = Some(path);
                    found.tokens.push((token.clone(), path.clone()));
                }
                Seen::Nested { path } => found.nested.push(shown(path)),
            }
        }
        if bytes > limit.0 {
            return Err(WorkspaceError::TooLarge { bytes, limit: limit.0 });
        }
        // First what is gone: its place may be a folder's by now.
        for (path, _) in known.iter().filter(|(_, (_, in_tree))| *in_tree) {
            writer.remove(path);
        }
        back.iter().for_each(|entry| writer.put(&entry.path, entry.kind, &entry.object));
        for (kind, size, path) in changed {
            writer.begin(path, kind, size);
            copy(contents, size, &mut writer)?;
        }
        let mut rest = [0];
        match contents.read(&mut rest).map_err(|source| WorkspaceError::Receive { source })? {
            0 => writer.finish(),
            _ => return Err(said("it sends more than it says".to_owned())),
        }
        Ok(found)
    }

    /// A tree that begins as the one that was seen last.
    ///
    /// # Errors
    /// When no pipe can be made.
    pub fn import(&self) -> Result<(TreeWriter, Import), WorkspaceError> {
        let failed = |source| WorkspaceError::Scratch { path: self.kept.folder.clone(), source };
        import::begin(&self.kept.git_folder(), SEEN, Some(&self.tree)).map_err(failed)
    }
}

/// What the agent knows again: the entry, where it is to come back into the tree.
fn again<'a>(
    known: &mut BTreeMap<&[u8], (&'a Known, bool)>,
    path: &[u8],
) -> Result<Option<&'a Known>, WorkspaceError> {
    let why = || format!("it knows `{}` again", shown(path));
    let entry = known.remove(path).ok_or_else(|| WorkspaceError::Nonsense { why: why() })?;
    Ok(Some(entry).filter(|(_, in_tree)| !in_tree).map(|(entry, _)| entry))
}

/// An entry of a tree as git lists it, that went in.
pub(super) fn entry(line: &[u8]) -> Option<Known> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (info, path) = (std::str::from_utf8(&line[..tab]).ok()?, line[tab + 1..].to_vec());
    let mut words = info.split(' ');
    let (mode, _kind, object) = (words.next()?, words.next()?, words.next()?);
    let (token, kind) = (Token::unknown(), EntryKind::of_mode(mode)?);
    Some(Known { token, kind, object: object.to_owned(), went_in: true, path })
}

fn copy(contents: &mut dyn Read, size: u64, writer: &mut TreeWriter) -> Result<(), WorkspaceError> {
    match writer.copy(contents, size).map_err(|source| WorkspaceError::Receive { source })? {
        0 => Ok(()),
        _ => {
            let why = "it sends less than it says".to_owned();
            Err(WorkspaceError::Nonsense { why })
        }
    }
}
