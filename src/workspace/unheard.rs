//! What is kept of a repository that went in without anybody hearing whether it took effect: the next one finds out
//! by that, and must not believe what is kept of one that has not.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::kept::{BASE, Kept};
use crate::report::Report;
use crate::wire::rpc::WorkspaceMode;

/// All modes.
const MODES: [WorkspaceMode; 3] =
    [WorkspaceMode::Shallow, WorkspaceMode::Full, WorkspaceMode::Metadata];

impl Kept {
    /// The mode in which it went in; the usual one where none was written down.
    pub async fn mode(&self) -> WorkspaceMode {
        let written = tokio::fs::read_to_string(self.mode_file()).await.unwrap_or_default();
        MODES.into_iter().find(|mode| mode.as_str() == written).unwrap_or_default()
    }

    pub(super) fn mode_file(&self) -> PathBuf {
        self.folder().join("mode")
    }

    /// Keeps nothing any more, as the guest has not taken what was on its way in.
    pub async fn forget(&self) {
        let remove = |kept: &Self| {
            // Without that one, nothing counts as kept, whatever else is left.
            let base = kept.git_folder().join(BASE);
            let gone = fs::remove_file(base).and_then(|()| fs::remove_dir_all(kept.folder()));
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        };
        if let Err(error) = self.blocking(remove).await {
            let (folder, error) = (self.folder().display(), Report::of(&error).one_line());
            tracing::warn!(%folder, error, "cannot forget what was to go in");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_mode_is_read_back_and_nothing_is_kept_when_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::at(folder.path().join("workspace"));
        kept.forget().await;
        assert_eq!(kept.mode().await, WorkspaceMode::Shallow);
        let base = kept.git_folder().join(BASE);
        fs::create_dir_all(base.parent().expect("a parent")).expect("made");
        fs::write(base, "a commit").expect("written");
        for mode in MODES {
            fs::write(kept.mode_file(), mode.as_str()).expect("written");
            assert_eq!(kept.mode().await, mode);
        }
        assert!(kept.is_there().await);
        kept.forget().await;
        assert!(!kept.is_there().await && !kept.folder().exists());
    }
}
