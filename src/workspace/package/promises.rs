//! What the source's indexes say of the files that are sent, put into the indexes that go along with them.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::index::{Index, Promise};
use crate::workspace::inspection::Inspection;
use crate::workspace::tree::{Kind, Root};

/// So large are all indexes of a source at most that are read: a million files with names of a hundred bytes and more.
const MAX_INDEXES: u64 = 256 << 20;

/// An index in a git folder, in which it has this name.
pub(super) const INDEX: &str = "index";

/// Where an index is that says something of files that are sent.
#[derive(Debug)]
pub(super) struct Place {
    /// The working tree that it is of, relative to the root: empty, or with a slash at the end.
    tree: Vec<u8>,
    git_folder: PathBuf,
}

/// Where the indexes are of what was inspected.
pub(super) fn places(inspection: &Inspection) -> Vec<Place> {
    let git_folder = match &inspection.contents.folder {
        // The files are those of another commit, which is checked out there.
        Some(folder) => folder.path().join(".git"),
        None => inspection.repository.git_folder.clone(),
    };
    let submodules = inspection.submodules.iter().map(|submodule| Place {
        tree: format!("{}/", submodule.path).into_bytes(),
        git_folder: submodule.inspection.repository.git_folder.clone(),
    });
    [Place { tree: Vec::new(), git_folder }].into_iter().chain(submodules).collect()
}

/// What is promised of the files that have been sent.
#[derive(Debug, Default)]
pub(super) struct Promises(Vec<Source>);

#[derive(Debug)]
struct Source {
    tree: Vec<u8>,
    index: Index,
    /// By path in its working tree.
    promises: HashMap<Vec<u8>, Promise>,
}

impl Promises {
    /// Reads the indexes. One that cannot be read promises nothing, and git in the guest reads every file then.
    pub(super) fn of(places: &[Place]) -> Self {
        let (mut sources, mut left) = (Vec::new(), MAX_INDEXES);
        for Place { tree, git_folder } in places {
            match read(git_folder, &mut left) {
                Ok(Some(index)) => {
                    let (tree, promises) = (tree.clone(), HashMap::new());
                    sources.push(Source { tree, index, promises });
                }
                Ok(None) => {}
                Err(error) => {
                    let folder = git_folder.display();
                    tracing::warn!(%folder, %error, "an index cannot be read, and says nothing of files");
                }
            }
        }
        Self(sources)
    }

    /// Takes what is said of a file or link that has been read to its end: if it is now as git saw it last, it was so
    /// when it was read.
    pub(super) fn take(&mut self, path: &[u8], file: &fs::File) {
        let around = self.0.iter_mut().filter_map(|source| {
            let inside = path.strip_prefix(&source.tree[..])?;
            Some((source, inside))
        });
        let innermost = around.max_by_key(|(source, _)| source.tree.len());
        if let Some((source, inside)) = innermost
            && let Some(promise) = source.index.promise(inside, file)
        {
            source.promises.insert(inside.to_vec(), promise);
        }
    }

    /// An index of this working tree on its way, with what is promised.
    pub(super) fn put_into(&self, tree: &[u8], index: Vec<u8>) -> Vec<u8> {
        let source = self.0.iter().find(|source| source.tree == tree);
        let Some(source) = source.filter(|source| !source.promises.is_empty()) else {
            return index;
        };
        match put(&index, &source.promises) {
            Ok(with_promises) => with_promises,
            Err(error) => {
                tracing::warn!(%error, "an index goes in without promises");
                index
            }
        }
    }
}

fn put(index: &[u8], promises: &HashMap<Vec<u8>, Promise>) -> io::Result<Vec<u8>> {
    let mut index = Index::read(index, SystemTime::UNIX_EPOCH)?;
    index.put(promises);
    index.write()
}

/// The index in a git folder, of at most so many bytes as are `left`; none before the first file.
fn read(git_folder: &Path, left: &mut u64) -> io::Result<Option<Index>> {
    let root = Root::open(git_folder)?;
    let Some(found) = root.look(INDEX.as_bytes())? else { return Ok(None) };
    match found.kind {
        Kind::File(size) if size <= *left => {}
        Kind::File(_) => return Err(io::Error::other("it is too large")),
        Kind::Link | Kind::Folder | Kind::Special => {
            return Err(io::Error::other("it is no file"));
        }
    }
    let (file, _) = root.read(INDEX.as_bytes())?;
    let written = file.metadata()?.modified()?;
    let mut bytes = Vec::new();
    file.take(*left).read_to_end(&mut bytes)?;
    *left -= bytes.len() as u64;
    Index::read_entries(&bytes, written).map(Some)
}
