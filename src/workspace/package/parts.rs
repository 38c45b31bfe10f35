//! What lies in `.git`: the repository's own metadata, the git of submodules, and objects of git-lfs. And how files
//! are read that may change meanwhile.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use super::promises::INDEX;
use super::{FOLDER_MODE, METADATA_MODE, Stream, header, send};
use crate::workspace::WorkspaceError;
use crate::workspace::import::TreeWriter;
use crate::workspace::lfs::Lfs;
use crate::workspace::listing::shown;
use crate::workspace::modules::{Module, WentIn};

/// Where git finds the objects that are in the guest already; leads to a folder of the host's.
const ALTERNATES: &[u8] = b".git/objects/info/alternates";

/// What the user of the guest may have changed by the time of an update.
const GUESTS: [&[u8]; 3] = [b".git/config", b".git/info/exclude", b".git/info/attributes"];

impl<W: Write> Stream<W> {
    /// Writes a folder that this daemon made itself, with everything in it. If it is a git folder, its working tree is
    /// `tree`: empty for the root, or with a slash at the end.
    pub(super) fn metadata(
        &mut self,
        folder: &Path,
        name: &[u8],
        tree: Option<&[u8]>,
    ) -> Result<(), WorkspaceError> {
        let scratch = |source| WorkspaceError::Scratch { path: folder.to_owned(), source };
        let opening = header(EntryType::Directory, FOLDER_MODE, 0);
        self.append(opening, name, io::empty()).map_err(send)?;
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(scratch)?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = [name, entry.file_name().as_bytes()].concat();
            // The guest has those of its own.
            let is_update = !self.prefix.is_empty();
            if name == ALTERNATES || (is_update && GUESTS.contains(&&name[..])) {
                continue;
            }
            if entry.file_type().map_err(scratch)?.is_dir() {
                self.metadata(&entry.path(), &[&name, &b"/"[..]].concat(), None)?;
                continue;
            }
            if let Some(tree) = tree.filter(|_| entry.file_name() == INDEX) {
                let index = fs::read(entry.path()).map_err(scratch)?;
                let index = self.promises.put_into(tree, index);
                let mut header = header(EntryType::Regular, METADATA_MODE, 0);
                header.set_size(index.len() as u64);
                self.append(header, &name, &index[..]).map_err(send)?;
                continue;
            }
            let file = File::open(entry.path()).map_err(scratch)?;
            let mut header = header(EntryType::Regular, METADATA_MODE, 0);
            header.set_size(file.metadata().map_err(scratch)?.len());
            self.append(header, &name, file).map_err(send)?;
        }
        Ok(())
    }

    /// Writes the git folders of submodules, and for each of all the file in its own folder that says where it is, also
    /// of those that are `there`: somebody in the guest may have removed that, or put another repository there.
    pub(super) fn modules(
        &mut self,
        modules: &[Module],
        there: &[WentIn],
    ) -> Result<(), WorkspaceError> {
        for Module { went_in, metadata } in modules {
            let (name, tree) = (format!(".git/{}/", went_in.place), format!("{}/", went_in.path));
            self.metadata(&metadata.git_folder(), name.as_bytes(), Some(tree.as_bytes()))?;
        }
        let sent = modules.iter().map(|module| &module.went_in);
        sent.chain(there).try_for_each(|went_in| self.link(went_in))
    }

    /// Writes where the git folder of a submodule is.
    fn link(&mut self, went_in: &WentIn) -> Result<(), WorkspaceError> {
        let (name, link) = (format!("{}/.git", went_in.path), went_in.link());
        let mut header = header(EntryType::Regular, METADATA_MODE, 0);
        header.set_size(link.len() as u64);
        self.append(header, name.as_bytes(), link.as_bytes()).map_err(send)
    }

    /// Writes objects of git-lfs into their places.
    pub(super) fn lfs(&mut self, lfs: &Lfs) -> Result<(), WorkspaceError> {
        for found in lfs.files() {
            let (name, file, size) = found?;
            let mut header = header(EntryType::Regular, METADATA_MODE, 0);
            header.set_size(size);
            let record = TreeWriter::to_nowhere();
            let mut exact = Exact { file, left: size, failure: None, record };
            self.exactly(header, format!(".git/{name}").as_bytes(), &mut exact)?;
        }
        Ok(())
    }

    /// Writes a file of which exactly so much is to come.
    pub(super) fn exactly(
        &mut self,
        header: Header,
        path: &[u8],
        exact: &mut Exact,
    ) -> Result<(), WorkspaceError> {
        let appended = self.append(header, path, &mut *exact);
        match (appended, exact.failure.take(), exact.left) {
            (_, Some(source), _) => Err(WorkspaceError::Read { path: shown(path), source }),
            (Err(source), None, _) => Err(send(source)),
            (Ok(()), None, 1..) => Err(WorkspaceError::Shrunk { path: shown(path) }),
            (Ok(()), None, 0) => Ok(()),
        }
    }
}

/// Reads exactly `left` bytes as far as the file has them; what was appended since stays out. Keeps the
/// file's own error apart from the sink's.
pub(super) struct Exact {
    pub(super) file: File,
    pub(super) left: u64,
    pub(super) failure: Option<io::Error>,
    /// Where what was read is written down.
    pub(super) record: TreeWriter,
}

impl Read for &mut Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut buffer[..wanted]) {
            Ok(read) => {
                self.left -= read as u64;
                self.record.content(&buffer[..read]);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::from(error.kind());
                self.failure = Some(error);
                Err(copy)
            }
        }
    }
}
