//! A repository of our own for a moment, on top of what is kept: what is made in it is gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::git::{self, Size, in_scratch};
use super::import::{self, TreeWriter, alternate};
use super::kept::Kept;
use super::objects::copy_shallow;
use crate::process::Tool;
use crate::task::blocking;

/// The repository.
#[derive(Debug)]
pub(super) struct Beside {
    folder: PathBuf,
}

impl Beside {
    /// Makes it in a folder that is not there yet; `doing` completes "cannot …".
    pub(super) async fn make(
        kept: &Kept,
        folder: PathBuf,
        doing: &'static str,
    ) -> Result<Self, WorkspaceError> {
        let scratch = |source| WorkspaceError::Scratch { path: folder.clone(), source };
        let format = kept.git(Size::Question).args(["rev-parse", "--show-object-format"]);
        let format = git::line(git::run(format, doing).await?);
        tokio::fs::create_dir(&folder).await.map_err(scratch)?;
        let init = in_scratch(&folder, Size::Question)
            .args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main"])
            .arg(format!("--object-format={}", String::from_utf8_lossy(&format)));
        git::run(init, doing).await?;
        let (from, to) = (kept.git_folder(), folder.clone());
        let borrow = move || {
            fs::write(to.join("objects/info/alternates"), alternate(&from.join("objects")))?;
            copy_shallow(&from, &to)
        };
        blocking(borrow).await.map_err(scratch)?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Git in it.
    pub(super) fn git(&self, size: Size) -> Tool {
        in_scratch(&self.folder, size)
    }

    /// Makes a tree that begins as the tree `from`; `write` blocks. Returns it with what that has returned.
    pub(super) async fn tree<T: Send + 'static>(
        &self,
        from: &str,
        write: impl FnOnce(TreeWriter) -> Result<T, WorkspaceError> + Send + 'static,
    ) -> Result<(String, T), WorkspaceError> {
        let failed = |source| WorkspaceError::Scratch { path: self.folder.clone(), source };
        let (writer, import) =
            import::begin(&self.folder, "refs/cove/made", Some(from)).map_err(failed)?;
        let (written, imported) = tokio::join!(blocking(move || write(writer)), import.done());
        // An import that ended early because nothing more came says nothing of the cause.
        let written = written?;
        imported?;
        let ask = self.git(Size::Question).args(["rev-parse", "refs/cove/made^{tree}"]);
        let tree = git::line(git::run(ask, "read the tree that was made").await?);
        Ok((String::from_utf8_lossy(&tree).into_owned(), written))
    }
}
