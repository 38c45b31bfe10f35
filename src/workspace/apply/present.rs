//! The source's working tree as it is now, as far as a patch touches it.
//!
//! Contents are hashed as they lie there, as they were when they went in: no filter and no attribute has a say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::super::WorkspaceError;
use super::super::beside::Beside;
use super::super::import::TreeWriter;
use super::super::listing::shown;
use super::super::tree::{Found, Kind, Root, Stamp};
use crate::wire::survey::EntryKind;

/// What is there.
#[derive(Debug)]
pub(super) struct Present {
    /// The tree that went in, with the touched files as they are now.
    pub(super) tree: String,
    /// What is in the way, or where nothing may be written: no merge helps there.
    pub(super) blocked: HashSet<Vec<u8>>,
    /// The files that are there.
    pub(super) files: HashMap<Vec<u8>, Lying>,
}

/// A file as it lies there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lying {
    pub(super) stamp: Stamp,
    /// Permission bits.
    pub(super) mode: u32,
}

/// What of the working tree is the repository's and what is not. All of them end with a slash.
#[derive(Debug)]
pub(super) struct Others {
    /// Folders below which nothing is the repository's.
    pub(super) foreign: Vec<Vec<u8>>,
    /// The submodules that are checked out. Any other folder with a `.git` in it is another repository, which git
    /// does not tell of where it is ignored.
    pub(super) submodules: HashSet<Vec<u8>>,
}

/// Reads the touched files. What lies in another repository is in the way.
pub(super) async fn read(
    repository: &Beside,
    root: Arc<Root>,
    base: &str,
    touched: BTreeSet<Vec<u8>>,
    others: Others,
) -> Result<Present, WorkspaceError> {
    let write = move |writer| Reading { root: &root, touched: &touched }.write(writer, &others);
    let (tree, (blocked, files)) = repository.tree(base, write).await?;
    Ok(Present { tree, blocked, files })
}

struct Reading<'a> {
    root: &'a Root,
    touched: &'a BTreeSet<Vec<u8>>,
}

type Blocked = HashSet<Vec<u8>>;
type Files = HashMap<Vec<u8>, Lying>;

impl Reading<'_> {
    fn write(
        &self,
        mut writer: TreeWriter,
        others: &Others,
    ) -> Result<(Blocked, Files), WorkspaceError> {
        let (mut blocked, mut there) = (Blocked::new(), Vec::new());
        // First what is not there: its place may be a folder's by now.
        for path in self.touched {
            let kind = self.look(path)?.map(|found| found.kind);
            match kind {
                Some(Kind::File(_) | Kind::Link) => there.push(path),
                Some(Kind::Folder) => writer.remove(path),
                Some(Kind::Special) => {
                    writer.remove(path);
                    blocked.insert(path.clone());
                }
                None => {
                    writer.remove(path);
                    if self.is_cut_off(path)? {
                        blocked.insert(path.clone());
                    }
                }
            }
            if self.is_elsewhere(path, others)? {
                blocked.insert(path.clone());
            }
        }
        let mut files = Files::new();
        for path in there {
            files.insert(path.clone(), self.file(path, &mut writer)?);
        }
        writer.finish();
        Ok((blocked, files))
    }

    /// Writes a file or a symlink into the tree.
    fn file(&self, path: &[u8], writer: &mut TreeWriter) -> Result<Lying, WorkspaceError> {
        let read = |source| WorkspaceError::Read { path: shown(path), source };
        let shrunk = || WorkspaceError::Shrunk { path: shown(path) };
        let found = self.look(path)?.ok_or_else(shrunk)?;
        if found.kind == Kind::Link {
            let target = found.target().map_err(read)?;
            writer.begin(path, EntryKind::Link, target.len() as u64);
            writer.content(&target);
            return Ok(Lying { stamp: found.stamp, mode: found.mode });
        }
        let (mut file, size) = self.root.read(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let mode = metadata.permissions().mode() & 0o777;
        let executable = mode & 0o100 != 0;
        let kind = if executable { EntryKind::Executable } else { EntryKind::File };
        writer.begin(path, kind, size);
        match writer.copy(&mut file, size).map_err(read)? {
            0 => Ok(Lying { stamp: Stamp::of(&metadata), mode }),
            _ => Err(shrunk()),
        }
    }

    /// Whether a path is in another repository.
    fn is_elsewhere(&self, path: &[u8], others: &Others) -> Result<bool, WorkspaceError> {
        if others.foreign.iter().any(|folder| path.starts_with(folder)) {
            return Ok(true);
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let folder = &path[..=at];
            let git = [folder, b".git"].concat();
            if !others.submodules.contains(folder) && self.look(&git)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether something that is no folder, and is not touched itself, lies where a folder of the path would be:
    /// nothing is written through a symlink.
    fn is_cut_off(&self, path: &[u8]) -> Result<bool, WorkspaceError> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let folder = &path[..at];
            let Some(found) = self.look(folder)? else {
                return Ok(false);
            };
            if found.kind != Kind::Folder {
                return Ok(!self.touched.contains(folder));
            }
        }
        Ok(false)
    }

    fn look(&self, path: &[u8]) -> Result<Option<Found>, WorkspaceError> {
        let found = self.root.look(path);
        found.map_err(|source| WorkspaceError::Read { path: shown(path), source })
    }
}
