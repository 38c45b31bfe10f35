//! What lies in `.git` besides the repository's own metadata: the git of submodules, and objects of git-lfs.

use std::io::Write;

use tar::EntryType;

use super::{Exact, METADATA_MODE, Stream, header, send};
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
