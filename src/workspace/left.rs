//! What was in a workspace when its VM stopped in order. It holds until the VM runs again: a guest that nobody
//! has seen since may have anything in it.

use super::WorkspaceError;
use super::git::{self, Size};
use super::kept::Kept;
use super::objects::remove_stale_locks;

const LEFT: &str = "refs/cove/left";

const KEEPING: &str = "write down what was in the workspace when its VM stopped";

impl Kept {
    /// Writes down that the VM stops with this tree, which was seen last, in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn leave(&self, tree: &str) -> Result<(), WorkspaceError> {
        let update = self.git(Size::Question).args(["update-ref", LEFT, tree]);
        git::run(update, KEEPING).await.map(drop)
    }

    /// Forgets what the VM had when it stopped.
    ///
    /// # Errors
    /// When it cannot be forgotten.
    pub async fn forget_left(&self) -> Result<(), WorkspaceError> {
        if !self.is_there().await {
            return Ok(());
        }
        let remove = |kept: &Self| {
            remove_stale_locks(&kept.git_folder());
            Ok(())
        };
        self.blocking(remove).await?;
        let update = self.git(Size::Question).args(["update-ref", "-d", LEFT]);
        git::run(update, KEEPING).await.map(drop)
    }

    /// The tree with which the VM stopped; none when that is not known.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn left(&self) -> Result<Option<String>, WorkspaceError> {
        if !self.is_there().await {
            return Ok(None);
        }
        self.tree(LEFT).await
    }
}
