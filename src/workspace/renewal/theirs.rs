//! What the guest's git keeps of its own when it is brought up to date, and what it is told.

use super::Renewal;
use crate::workspace::WorkspaceError;
use crate::workspace::git_files::write_ref;
use crate::workspace::metadata::Metadata;
use crate::workspace::modules::Module;
use crate::workspace::settings::Setting;

impl Renewal {
    /// Has the guest's git keep a commit, by a ref of this name.
    ///
    /// # Errors
    /// When the scratch folder cannot be written.
    pub async fn keep_in_guest(&self, name: &str, commit: &str) -> Result<(), WorkspaceError> {
        keep_reference(&self.package.metadata, name, commit).await
    }

    /// The same in the git of the submodule at this path, if it is sent.
    ///
    /// # Errors
    /// When the scratch folder cannot be written.
    pub async fn keep_in_submodule(
        &self,
        path: &str,
        name: &str,
        commit: &str,
    ) -> Result<(), WorkspaceError> {
        match self.module(path) {
            Some(module) => keep_reference(&module.metadata, name, commit).await,
            None => Ok(()),
        }
    }

    /// Has the guest see more of the history of the submodule at this path, if it is sent: behind those of these
    /// commits, which have no parents there, whose parents come.
    ///
    /// # Errors
    /// When the scratch folder cannot be written.
    pub async fn deepen_submodule(
        &self,
        path: &str,
        shallow: &[&str],
    ) -> Result<(), WorkspaceError> {
        match self.module(path) {
            Some(module) => module.deepen(shallow).await,
            None => Ok(()),
        }
    }

    fn module(&self, path: &str) -> Option<&Module> {
        self.package.modules.iter().find(|module| module.went_in.path == path)
    }

    /// What git in the guest is to be told once it has it.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.package.settings
    }
}

async fn keep_reference(
    metadata: &Metadata,
    name: &str,
    commit: &str,
) -> Result<(), WorkspaceError> {
    let (git, name, commit) =
        (metadata.git_folder(), format!("refs/cove/{name}"), commit.to_owned());
    metadata.folder.blocking(move || write_ref(&git, &name, &commit)).await
}
