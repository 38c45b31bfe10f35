//! What lies in `.git` besides the repository's own metadata: the git of submodules, and objects of git-lfs. And how
//! files are read that may change meanwhile.

use std::fs::File;
use std::io::{self, Read, Write};

use tar::EntryType;

use super::{METADATA_MODE, Stream, header, send};
use crate::workspace::WorkspaceError;
use crate::workspace::import::TreeWriter;
use crate::workspace::lfs::Lfs;
use crate::workspace::modules::{Module, WentIn};

impl<W: Write> Stream<W> {
    /// Writes the git folder of a submodule, and where it is into the submodule's own folder.
    pub(super) fn module(&mut self, module: &Module) -> Result<(), WorkspaceError> {
        let WentIn { place, path, .. } = &module.went_in;
        self.metadata(&module.metadata.git_folder(), format!(".git/{place}/").as_bytes())?;
        let (name, link) = (format!("{path}/.git"), module.went_in.link());
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
