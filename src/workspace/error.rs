//! What can go wrong between a path and a tar stream.

use std::io;
use std::path::PathBuf;

use crate::process::ToolError;
use crate::report::{Explain, Kind};

/// A failure of the workspace service.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The path is not there.
    #[error("there is no folder `{}`", path.display())]
    NoSuchPath {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is no folder.
    #[error("`{}` is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// No repository contains the path.
    #[error("`{}` is not in a git repository", path.display())]
    NotARepository {
        /// The path.
        path: PathBuf,
        /// What git said.
        #[source]
        source: ToolError,
    },
    /// The repository has no working tree.
    #[error("the git repository at `{}` is bare: it has no working tree", path.display())]
    Bare {
        /// The path.
        path: PathBuf,
    },
    /// The path lies in a `.git` folder.
    #[error("`{}` lies inside a repository's `.git` folder", path.display())]
    InsideGitFolder {
        /// The path.
        path: PathBuf,
    },
    /// The configuration of the repository puts its working tree elsewhere.
    #[error("the repository at `{}` says that its working tree is `{}`", path.display(), root.display())]
    MovedWorkingTree {
        /// The path.
        path: PathBuf,
        /// Where the working tree is said to be.
        root: PathBuf,
    },
    /// The repository belongs to somebody else, and git does not trust it.
    #[error("git does not trust the repository at `{}`", path.display())]
    ForeignOwner {
        /// The path.
        path: PathBuf,
        /// What git said.
        #[source]
        source: ToolError,
    },
    /// Git failed.
    #[error("cannot {doing}")]
    Git {
        /// What it was to do: completes "cannot …".
        doing: &'static str,
        /// How it failed.
        #[source]
        source: ToolError,
    },
    /// Git answered something that this program does not understand.
    #[error("git's answer was not understood when it was asked to {doing}")]
    Unexpected {
        /// What it was to do.
        doing: &'static str,
    },
    /// The history is not all there, because the source is a partial clone.
    #[error("the repository is a partial clone and lacks objects of its last commits")]
    PartialClone {
        /// What git said.
        #[source]
        source: ToolError,
    },
    /// The index names a path that no working tree has.
    #[error("the repository's index names the path `{path}`, which git would not write")]
    BadPath {
        /// The path, fit for a terminal.
        path: String,
    },
    /// There are more files than a guest should be given.
    #[error("the repository has more than {limit} files")]
    TooManyFiles {
        /// The bound.
        limit: usize,
    },
    /// A file of the working tree cannot be read.
    #[error("cannot read `{path}` in the repository")]
    Read {
        /// The path, relative to the root, fit for a terminal.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("`{path}` became shorter while it was copied")]
    Shrunk {
        /// The path, relative to the root, fit for a terminal.
        path: String,
    },
    /// The scratch folder cannot be used.
    #[error("cannot use the scratch folder `{}`", path.display())]
    Scratch {
        /// The folder or the file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The receiver of the tar stream failed.
    #[error("cannot send the repository")]
    Send {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Explain for WorkspaceError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSuchPath { .. } => Kind::NotFound,
            Self::NotAFolder { .. }
            | Self::NotARepository { .. }
            | Self::Bare { .. }
            | Self::InsideGitFolder { .. }
            | Self::MovedWorkingTree { .. }
            | Self::ForeignOwner { .. }
            | Self::PartialClone { .. }
            | Self::BadPath { .. }
            | Self::TooManyFiles { .. } => Kind::Invalid,
            Self::Git { source: ToolError::TimedOut { .. }, .. } => Kind::TimedOut,
            Self::Git { .. }
            | Self::Unexpected { .. }
            | Self::Read { .. }
            | Self::Shrunk { .. }
            | Self::Scratch { .. }
            | Self::Send { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAFolder { .. } => "name the folder that it lies in",
            Self::NotARepository { .. } => {
                "name a folder inside a git repository, or make one with `git init`"
            }
            Self::Bare { .. } => "clone it first (`git clone`), and name the clone",
            Self::InsideGitFolder { .. } => "name the folder that the `.git` folder lies in",
            Self::MovedWorkingTree { .. } => {
                "`core.worktree` in its configuration points there; name that folder itself, or unset it"
            }
            Self::ForeignOwner { .. } => {
                "if you trust its owner, run the `git config` command that git names"
            }
            Self::PartialClone { .. } => {
                "fetch them with `git fetch --refetch --no-filter`, and try again"
            }
            Self::BadPath { .. } => "do not use this repository unless you know who made its index",
            Self::TooManyFiles { .. } => "a sparse checkout of it has fewer",
            Self::Shrunk { .. } => "something writes to it; try again when it is done",
            Self::Git { source: ToolError::Start { .. }, .. } => "install git",
            Self::NoSuchPath { .. }
            | Self::Git { .. }
            | Self::Unexpected { .. }
            | Self::Read { .. }
            | Self::Scratch { .. }
            | Self::Send { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
