//! What lies in `.git` besides the repository's own metadata: the git of submodules, and objects of git-lfs.

use std::collections::HashSet;
use std::io::Write;

use tar::EntryType;

use super::{Exact, METADATA_MODE, Stream, header, send};
use crate::workspace::WorkspaceError;
use crate::workspace::import::TreeWriter;
use crate::workspace::lfs::Lfs;
use crate::workspace::modules::{Module, WentIn, sent};

impl<W: Write> Stream<W> {
    /// Writes the git folders of submodules, but for those that are `unchanged`, and for each of all the file in its own
    /// folder that says where it is: somebody in the guest may have removed that, or put another repository there.
    pub(super) fn modules(
        &mut self,
        modules: &[Module],
        unchanged: &HashSet<String>,
    ) -> Result<(), WorkspaceError> {
        for Module { went_in, metadata } in sent(modules, unchanged) {
            let name = format!(".git/{}/", went_in.place);
            self.metadata(&metadata.git_folder(), name.as_bytes())?;
        }
        modules.iter().try_for_each(|module| self.link(&module.went_in))
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
}
