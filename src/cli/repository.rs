//! The flags that say what of a repository goes in, shared by `run` and `workspace prepare`.

use std::num::NonZeroU32;

use clap::ValueEnum;

use crate::report::{Kind, Report};
use crate::wire::rpc::{CreateWorkspace, WorkspaceMode};

/// What of the repository goes in.
#[derive(Debug, clap::Args)]
pub(super) struct RepositoryArguments {
    /// In which form it is to be there; shallow, or the one that it is in already, when not given
    #[arg(long, value_enum)]
    mode: Option<Mode>,
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

/// In which form a repository is in a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Its files, and git metadata with its last commits
    Shallow,
    /// Its files alone, without git metadata
    Full,
    /// Git metadata alone, with no file checked out
    Metadata,
}

impl Mode {
    /// The same on the wire.
    fn mode(self) -> WorkspaceMode {
        match self {
            Self::Shallow => WorkspaceMode::Shallow,
            Self::Full => WorkspaceMode::Full,
            Self::Metadata => WorkspaceMode::Metadata,
        }
    }
}

impl RepositoryArguments {
    /// The first flag that was given, if one was.
    pub(super) fn first(&self) -> Option<&'static str> {
        let given = [
            ("--mode", self.mode.is_some()),
            ("--include-untracked", self.include_untracked),
            ("--depth", self.depth.is_some()),
            ("--full-history", self.full_history),
            ("--branch", self.branch.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// So much of the repository at this path.
    ///
    /// # Errors
    /// When something is wanted that the mode has none of.
    pub(super) fn of(self, path: String) -> Result<CreateWorkspace, Report> {
        let Self { mode, include_untracked, depth, full_history, branch, from } = self;
        let mode = mode.map(Mode::mode);
        let wanted =
            CreateWorkspace { path, mode, include_untracked, depth, full_history, branch, from };
        let contradiction = mode.and_then(|mode| Some((mode, mode.contradiction(&wanted)?)));
        let Some((mode, (what, why))) = contradiction else { return Ok(wanted) };
        let (mode, what) = (mode.as_str(), what.replace('_', "-"));
        let message = format!("`--{what}` and `--mode {mode}` exclude each other: {why}");
        Err(Report::new(Kind::Invalid, message).with_hint("leave one of them out"))
    }
}
