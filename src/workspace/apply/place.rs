//! Putting new files in the place of old ones, all or none.
//!
//! ```text
//!  folder `.cove-apply-…` in the working tree       working tree
//!  0  new content ───────────── exchange ─────────► a.txt       what was there is in 0 then, and is looked at
//!  1  ◄──────────────────────── move ────────────── gone.txt    the same
//!  2  new content ───────────── move ─────────────► new.txt     only where nothing is
//! ```
//!
//! Every step is one rename, so at every moment a path has its old content or its new one, whole, and nothing is
//! overwritten: what was in a place is kept until all is done. When one step fails, or finds another file than was
//! compared, all steps are undone, the last first. Folders are opened below the root, through no symlink.
//!
//! A program or a host that ends in the middle leaves some paths new and others old, and the folder with what was
//! there. Applying again does the rest: a path that is as the guest has it needs nothing.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tempfile::TempDir;

use super::super::beside::Beside;
use super::super::git::{self, Size};
use super::super::listing::shown;
use super::super::tree::{Kind, Root, Stamp};
use super::changes::Change;
use super::error::ApplyError;
use super::present::Lying;
use crate::task::blocking;
use crate::wire::survey::EntryKind;

const WRITING: &str = "write the new files beside the old ones";

/// New contents, written and not yet in their places.
#[derive(Debug)]
pub(super) struct Staged {
    root: Arc<Root>,
    /// Its entries are named by the numbers of their changes.
    beside: Root,
    folder: TempDir,
    work: Vec<Change>,
    files: HashMap<Vec<u8>, Lying>,
}

/// What was done, for undoing it.
#[derive(Debug)]
enum Step<'a> {
    Exchanged { path: &'a [u8], number: usize },
    Taken { path: &'a [u8], number: usize },
    Placed { path: &'a [u8], number: usize },
    FolderMade { path: &'a [u8] },
    FolderRemoved { path: &'a [u8], mode: u32 },
}

impl Staged {
    /// Writes the new contents into a folder in the working tree at `path`, whose root is `root`. They are written
    /// by git under names that no attribute is about, so as they are.
    pub(super) async fn write(
        repository: &Beside,
        root: Arc<Root>,
        path: &Path,
        work: Vec<Change>,
        files: HashMap<Vec<u8>, Lying>,
    ) -> Result<Self, ApplyError> {
        let failed = |source| ApplyError::Stage { path: path.to_owned(), source };
        let at = path.to_owned();
        let make = move || {
            let folder = tempfile::Builder::new().prefix(".cove-apply-").tempdir_in(at)?;
            Ok((Root::open(folder.path())?, folder))
        };
        let (beside, folder) = blocking(make).await.map_err(failed)?;
        let entry = |(number, change): (usize, &Change)| {
            let new = change.to.as_ref()?;
            Some(format!("{} {}\t{number}\0", new.kind.mode(), new.object))
        };
        let entries: String = work.iter().enumerate().filter_map(entry).collect();
        let index = repository.folder().join("index-of-new");
        let git = || repository.git(Size::Work).env("GIT_INDEX_FILE", &index);
        let list = git().args(["update-index", "-z", "--index-info"]).input(entries.into_bytes());
        git::run(list, WRITING).await?;
        let write = git()
            .env("GIT_DIR", repository.folder())
            .env("GIT_WORK_TREE", folder.path())
            .args(["-c", "core.attributesFile=/dev/null", "checkout-index", "--all"]);
        git::run(write, WRITING).await?;
        Ok(Self { root, beside, folder, work, files })
    }

    /// Puts them in their places. Blocks.
    pub(super) fn place(self) -> Result<(), ApplyError> {
        let failed = |source| ApplyError::Stage { path: self.folder.path().to_owned(), source };
        self.keep_permissions().map_err(failed)?;
        self.beside.sync().map_err(failed)?;
        let new = self.stamps().map_err(failed)?;
        let mut done = Vec::new();
        let placed = self.place_all(&mut done).and_then(|()| {
            // Everything is in its place; that it is on the disk as well is better, but nothing to undo for.
            if let Err(error) = self.root.sync() {
                tracing::warn!(%error, "cannot wait until what was applied is on the disk");
            }
            self.check_all()
        });
        match placed {
            Ok(()) => Ok(()),
            Err(error) => match self.undo(done, &new) {
                Ok(()) => Err(error),
                Err(why) => {
                    tracing::error!(%why, "what was applied cannot be undone");
                    let (folder, source) = (self.folder.keep(), Box::new(error));
                    Err(ApplyError::HalfApplied { folder, source })
                }
            },
        }
    }

    /// What the new files are like.
    fn stamps(&self) -> io::Result<HashMap<usize, Stamp>> {
        let new = self.work.iter().enumerate().filter(|(_, change)| change.to.is_some());
        new.map(|(number, _)| Ok((number, self.lying(number)?))).collect()
    }

    /// What a file beside is like.
    fn lying(&self, number: usize) -> io::Result<Stamp> {
        let found = self.beside.look(number.to_string().as_bytes())?;
        found.map(|found| found.stamp).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A file that takes another's place may be read and written by whom that could be.
    fn keep_permissions(&self) -> io::Result<()> {
        for (number, change) in self.work.iter().enumerate() {
            let (Some(old), Some(new)) = (&change.from, &change.to) else { continue };
            let Some(lying) = self.files.get(&change.path) else { continue };
            let mode = match (old.kind, new.kind) {
                (EntryKind::Link, _) | (_, EntryKind::Link) => continue,
                (_, EntryKind::File) => lying.mode & !0o111,
                (_, EntryKind::Executable) => lying.mode | ((lying.mode & 0o444) >> 2),
            };
            let path = self.folder.path().join(number.to_string());
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// First what goes, as its place may be a folder's afterwards; then what is replaced; then what is new.
    fn place_all<'a>(&'a self, done: &mut Vec<Step<'a>>) -> Result<(), ApplyError> {
        let changes = || self.work.iter().enumerate();
        for (number, change) in changes().filter(|(_, change)| change.to.is_none()) {
            let path = &change.path[..];
            let moved = self.rename(path, number, Rename::Away);
            moved.map_err(|source| cannot(path, source))?;
            done.push(Step::Taken { path, number });
            self.check(path, number)?;
            self.remove_emptied(path, done)?;
        }
        for (number, change) in changes() {
            if let (Some(_), Some(_)) = (&change.from, &change.to) {
                let path = &change.path[..];
                let exchanged = self.rename(path, number, Rename::Exchange);
                exchanged.map_err(|source| cannot(path, source))?;
                done.push(Step::Exchanged { path, number });
                self.check(path, number)?;
            }
        }
        for (number, change) in changes().filter(|(_, change)| change.from.is_none()) {
            let path = &change.path[..];
            self.make_folders(path, done).map_err(|source| cannot(path, source))?;
            let moved = self.rename(path, number, Rename::Into);
            moved.map_err(|source| cannot(path, source))?;
            done.push(Step::Placed { path, number });
        }
        Ok(())
    }

    /// Looks whether what was moved out of its place is the file that was compared.
    fn check(&self, path: &[u8], number: usize) -> Result<(), ApplyError> {
        let name = number.to_string();
        let found = self.beside.look(name.as_bytes()).map_err(|source| cannot(path, source))?;
        let compared = self.files.get(path).map(|lying| lying.stamp);
        match found.map(|found| found.stamp) == compared {
            true => Ok(()),
            false => Err(ApplyError::ChangedMeanwhile { path: shown(path) }),
        }
    }

    /// The same for all: whoever had one of them open may have written to it since.
    fn check_all(&self) -> Result<(), ApplyError> {
        let old = self.work.iter().enumerate().filter(|(_, change)| change.from.is_some());
        old.into_iter().try_for_each(|(number, change)| self.check(&change.path, number))
    }

    /// Removes the folders of a path in which nothing is any more. One that cannot be removed stays: git does not
    /// know of folders.
    fn remove_emptied<'a>(
        &self,
        path: &'a [u8],
        done: &mut Vec<Step<'a>>,
    ) -> Result<(), ApplyError> {
        let mut folder = path;
        while let Some(slash) = folder.iter().rposition(|byte| *byte == b'/') {
            folder = &folder[..slash];
            let found = self.root.look(folder).map_err(|source| cannot(path, source))?;
            let Some(mode) =
                found.filter(|found| found.kind == Kind::Folder).map(|found| found.mode)
            else {
                return Ok(());
            };
            let (parent, name) =
                self.root.folder_of(folder).map_err(|source| cannot(path, source))?;
            if unlinkat(&parent, name, UnlinkatFlags::RemoveDir).is_err() {
                return Ok(());
            }
            done.push(Step::FolderRemoved { path: folder, mode });
        }
        Ok(())
    }

    fn make_folders<'a>(&self, path: &'a [u8], done: &mut Vec<Step<'a>>) -> io::Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let folder = &path[..at];
            let (parent, name) = self.root.folder_of(folder)?;
            match mkdirat(&parent, name, Mode::from_bits_truncate(0o777)) {
                Ok(()) => done.push(Step::FolderMade { path: folder }),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn rename(&self, path: &[u8], number: usize, how: Rename) -> io::Result<()> {
        let (folder, name) = self.root.folder_of(path)?;
        let number = number.to_string();
        let (beside, number) = self.beside.folder_of(number.as_bytes())?;
        match how {
            Rename::Exchange => {
                renameat2(&folder, name, &beside, number, RenameFlags::RENAME_EXCHANGE)?;
            }
            Rename::Away => {
                renameat2(&folder, name, &beside, number, RenameFlags::RENAME_NOREPLACE)?;
            }
            Rename::Into => {
                renameat2(&beside, number, &folder, name, RenameFlags::RENAME_NOREPLACE)?;
            }
        }
        Ok(())
    }

    /// Undoes everything that can be undone. Returns what could not be, first. What comes back and is not one of
    /// the `new` files is somebody's, saved in between: it must not go with the folder.
    fn undo(&self, done: Vec<Step<'_>>, new: &HashMap<usize, Stamp>) -> io::Result<()> {
        let back = |number: usize| match self.lying(number)? {
            stamp if new.get(&number) == Some(&stamp) => Ok(()),
            _ => Err(io::Error::other("a file was written to meanwhile")),
        };
        let mut outcome = Ok(());
        for step in done.into_iter().rev() {
            let undone = match step {
                Step::Exchanged { path, number } => {
                    self.rename(path, number, Rename::Exchange).and_then(|()| back(number))
                }
                Step::Taken { path, number } => self.rename(path, number, Rename::Into),
                Step::Placed { path, number } => {
                    self.rename(path, number, Rename::Away).and_then(|()| back(number))
                }
                Step::FolderMade { path } => self.remove_folder(path),
                Step::FolderRemoved { path, mode } => self.make_folder(path, mode),
            };
            outcome = outcome.and(undone);
        }
        outcome
    }

    fn remove_folder(&self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.root.folder_of(path)?;
        match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
            // Somebody has put something there by now.
            Ok(()) | Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_folder(&self, path: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name) = self.root.folder_of(path)?;
        mkdirat(&parent, name, Mode::from_bits_truncate(0o777))?;
        let mode = Mode::from_bits_truncate(mode);
        Ok(fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink)?)
    }
}

/// What becomes of a path and the file of its number beside.
#[derive(Debug, Clone, Copy)]
enum Rename {
    /// They change places.
    Exchange,
    /// What is at the path goes beside.
    Away,
    /// What is beside goes to the path.
    Into,
}

fn cannot(path: &[u8], source: io::Error) -> ApplyError {
    ApplyError::Place { path: shown(path), source }
}
