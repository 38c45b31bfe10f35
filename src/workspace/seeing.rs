//! What a look at the guest's tree has found.

use super::WorkspaceError;
use super::kept::Kept;
use crate::wire::survey::{Seen, Token};

/// What a look has found, and is to be written down.
#[derive(Debug, Default)]
pub struct Found {
    pub(super) tokens: Vec<(Token, Vec<u8>)>,
    pub(super) nested: Vec<String>,
    pub(super) unseen: Vec<String>,
    pub(super) absent: Vec<Vec<u8>>,
}

impl Found {
    /// Keeps how the agent knows the files again, and returns the tree that was seen.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub async fn keep(self, kept: &Kept) -> Result<Seeing, WorkspaceError> {
        let mut records = Vec::new();
        for (token, path) in self.tokens {
            Seen::Same { token, path }.write(&mut records);
        }
        kept.know_again(&records);
        let Self { nested, unseen, absent, .. } = self;
        Ok(Seeing { tree: kept.seen().await?, nested, unseen, absent })
    }
}

/// What is in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeing {
    /// The tree.
    pub tree: String,
    /// Repositories in it that are no part of it, fit for a terminal.
    pub nested: Vec<String>,
    /// Files that have changed in git's index there alone, without lying in the working tree, fit for a terminal. The
    /// tree has what was known of them before.
    pub unseen: Vec<String>,
    /// Files of the tree that do not lie in the working tree, as a sparse checkout leaves them out.
    pub absent: Vec<Vec<u8>>,
}

impl Seeing {
    /// A tree in which there is nothing that is no part of it.
    #[must_use]
    pub fn plain(tree: String) -> Self {
        Self { tree, nested: Vec::new(), unseen: Vec::new(), absent: Vec::new() }
    }

    /// What of the guest's is no part of the tree, for people; nothing when the tree is all there is.
    #[must_use]
    pub fn beside(&self) -> Option<String> {
        let several = |paths: &[String], one: &str, many: &str| match paths {
            [] => None,
            [first] => Some(format!("the {one} `{first}` inside it")),
            [first, ..] => Some(format!("{} {many} inside it, such as `{first}`,", paths.len())),
        };
        several(&self.nested, "repository", "repositories").or_else(|| {
            let changed = "changed in git alone and not checked out";
            let (one, many) = (format!("file {changed}"), format!("files {changed}"));
            several(&self.unseen, &one, &many)
        })
    }
}
