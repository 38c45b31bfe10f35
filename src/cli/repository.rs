//! The flags that say what of a repository goes in, shared by `run` and `workspace prepare`.

use std::num::NonZeroU32;

use crate::wire::rpc::CreateWorkspace;

/// What of the repository goes in.
#[derive(Debug, clap::Args)]
pub(super) struct RepositoryArguments {
    /// Put in untracked files too, but never ignored ones
    #[arg(long)]
    include_untracked: bool,
    /// Put in so many of the last commits; 50 when neither this nor the configuration says
    #[arg(long, value_name = "COMMITS", conflicts_with = "full_history")]
    depth: Option<NonZeroU32>,
    /// Put in all commits
    #[arg(long)]
    full_history: bool,
    /// Be on this branch in the VM; it is made there only
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Begin that branch at this commit of the source, without uncommitted edits
    #[arg(long, value_name = "REF", requires = "branch", conflicts_with = "include_untracked")]
    from: Option<String>,
}

impl RepositoryArguments {
    /// The first flag that was given, if one was.
    pub(super) fn first(&self) -> Option<&'static str> {
        let given = [
            ("--include-untracked", self.include_untracked),
            ("--depth", self.depth.is_some()),
            ("--full-history", self.full_history),
            ("--branch", self.branch.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// So much of the repository at this path.
    pub(super) fn of(self, path: String) -> CreateWorkspace {
        let Self { include_untracked, depth, full_history, branch, from } = self;
        CreateWorkspace { path, include_untracked, depth, full_history, branch, from }
    }
}
