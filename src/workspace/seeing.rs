//! What a look at the guest's tree has found, and by what the agent knows its files again.

use std::collections::HashMap;
use std::fs;

use super::WorkspaceError;
use super::kept::Kept;
use crate::report::Report;
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
        kept.know_again(records).await;
        let Self { nested, unseen, absent, .. } = self;
        Ok(Seeing { tree: kept.seen().await?, nested, unseen, absent })
    }
}

impl Kept {
    /// Keeps the records by which an agent knows files of the tree that was seen last again. They count as much as
    /// those of a look: the contents were hashed here. What are no records is not kept.
    pub async fn know_again(&self, records: Vec<u8>) {
        let keep = move |kept: &Self| {
            let records = match Seen::read_all(&records) {
                Ok(_) => &records[..],
                Err(_) => &[],
            };
            let place = kept.folder().join("tokens");
            let new = place.with_extension("new");
            fs::write(&new, records).and_then(|()| fs::rename(&new, &place))
        };
        // Without them, files are only read once more.
        if let Err(error) = self.blocking(keep).await {
            let (folder, error) = (self.folder().display(), Report::of(&error).one_line());
            tracing::warn!(%folder, error, "cannot keep tokens of files");
        }
    }

    /// The tokens by the files' paths. Blocks.
    pub(super) fn tokens(&self) -> HashMap<Vec<u8>, Token> {
        // Without them, files are only read once more.
        let records = fs::read(self.folder().join("tokens")).unwrap_or_default();
        let seen = Seen::read_all(&records).unwrap_or_default().into_iter();
        let token = |entry| match entry {
            Seen::Same { token, path } => Some((path, token)),
            Seen::Changed { .. }
            | Seen::Absent { .. }
            | Seen::Unseen { .. }
            | Seen::Nested { .. } => None,
        };
        seen.filter_map(token).collect()
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
