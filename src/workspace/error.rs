//! What can go wrong between a path and a tar stream.

use std::io;
use std::path::PathBuf;

use crate::process::ToolError;
use crate::report::{Explain, FULL_DISK, Kind};

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
    /// A branch cannot have this name.
    #[error("git takes no branch named `{name}`")]
    BadBranch {
        /// The name, fit for a terminal.
        name: String,
    },
    /// The repository has another hash than the one that went in.
    #[error("the repository's objects are named by {is}, and those in the guest by {was}")]
    OtherHash {
        /// The repository's.
        is: String,
        /// The guest's.
        was: String,
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
    /// The host has nothing of what went in.
    #[error("cove kept nothing of what went into this workspace")]
    NothingKept,
    /// The source repository has no such commit.
    #[error("there is no commit `{commit}` in `{}`", path.display())]
    NoSuchCommit {
        /// What was asked for, fit for a terminal.
        commit: String,
        /// The repository.
        path: PathBuf,
    },
    /// The guest's agent says something that cannot be.
    #[error("the guest's agent says what cannot be: {why}")]
    Nonsense {
        /// What.
        why: String,
    },
    /// The guest shows more than its disk has.
    #[error("the guest says that {bytes} bytes have changed, and its disk has {limit}")]
    TooLarge {
        /// Bytes of all files that have changed.
        bytes: u64,
        /// Bytes of the work disk.
        limit: u64,
    },
    /// What has changed could not be read to its end.
    #[error("cannot receive what has changed in the guest")]
    Receive {
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
            Self::NoSuchPath { .. } | Self::NoSuchCommit { .. } => Kind::NotFound,
            Self::NothingKept | Self::OtherHash { .. } => Kind::Conflict,
            Self::NotAFolder { .. }
            | Self::NotARepository { .. }
            | Self::Bare { .. }
            | Self::InsideGitFolder { .. }
            | Self::MovedWorkingTree { .. }
            | Self::ForeignOwner { .. }
            | Self::PartialClone { .. }
            | Self::BadPath { .. }
            | Self::BadBranch { .. }
            | Self::TooManyFiles { .. } => Kind::Invalid,
            Self::Git { source: ToolError::TimedOut { .. }, .. } => Kind::TimedOut,
            Self::Git { .. }
            | Self::Unexpected { .. }
            | Self::Read { .. }
            | Self::Shrunk { .. }
            | Self::Scratch { .. }
            | Self::Nonsense { .. }
            | Self::TooLarge { .. }
            | Self::Receive { .. }
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
                "`core.worktree` in its configuration points there: unset it if the files lie beside `.git`"
            }
            Self::ForeignOwner { .. } => {
                "if you trust its owner, run the `git config` command that git names"
            }
            Self::PartialClone { .. } => {
                "fetch them with `git fetch --refetch --no-filter`, and try again"
            }
            Self::BadPath { .. } => "do not use this repository unless you know who made its index",
            Self::BadBranch { .. } => "`git help check-ref-format` says which names it takes",
            Self::OtherHash { .. } => "put it into another VM: `cove run PATH`",
            Self::TooManyFiles { .. } => "a sparse checkout of it has fewer",
            Self::Shrunk { .. } => "something writes to it; try again when it is done",
            Self::Git { source: ToolError::Start { source, .. }, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                "install git"
            }
            // Git says by words alone that it has no room.
            Self::Git { source: ToolError::Failed { stderr, .. }, .. }
                if stderr.contains("No space left on device") =>
            {
                FULL_DISK
            }
            Self::NothingKept => {
                "an older cove put it in; take the work out with `cove exec VM -- git diff BASE_COMMIT`"
            }
            Self::NoSuchCommit { .. } => "name one that `git log` shows there",
            Self::Nonsense { .. } | Self::TooLarge { .. } => {
                "programs in the guest may have tampered with it; look with `cove exec`"
            }
            Self::NoSuchPath { .. }
            | Self::Receive { .. }
            | Self::Git { .. }
            | Self::Unexpected { .. }
            | Self::Read { .. }
            | Self::Scratch { .. }
            | Self::Send { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::report::Report;

    fn said(stderr: &str) -> ToolError {
        ToolError::Failed {
            program: "git rev-parse".to_owned(),
            status: ExitStatus::from_raw(128 << 8),
            stderr: stderr.to_owned(),
        }
    }

    fn no_space() -> io::Error {
        io::Error::other("no space")
    }

    fn refusals() -> Vec<WorkspaceError> {
        let path = || PathBuf::from("/src/web");
        let not_found = io::ErrorKind::NotFound;
        vec![
            WorkspaceError::NoSuchPath { path: path(), source: not_found.into() },
            WorkspaceError::NotAFolder { path: path() },
            WorkspaceError::NotARepository { path: path(), source: said("not a git repository") },
            WorkspaceError::Bare { path: path() },
            WorkspaceError::InsideGitFolder { path: path() },
            WorkspaceError::MovedWorkingTree { path: path(), root: "/src".into() },
            WorkspaceError::ForeignOwner { path: path(), source: said("dubious ownership") },
            WorkspaceError::PartialClone { source: said("missing blob") },
            WorkspaceError::BadPath { path: "../x".to_owned() },
            WorkspaceError::BadBranch { name: "a..b".to_owned() },
            WorkspaceError::OtherHash { is: "sha256".to_owned(), was: "sha1".to_owned() },
            WorkspaceError::TooManyFiles { limit: 1_000_000 },
        ]
    }

    fn failures() -> Vec<WorkspaceError> {
        let doing = "list the tracked files";
        let file = || "src/main.rs".to_owned();
        let git = || "git".to_owned();
        let absent = io::ErrorKind::NotFound.into();
        let deadline = std::time::Duration::from_secs(30);
        vec![
            WorkspaceError::Git { doing, source: said("bad index") },
            WorkspaceError::Git { doing, source: said("fatal: x: No space left on device") },
            WorkspaceError::Git {
                doing,
                source: ToolError::Start { program: git(), source: absent },
            },
            WorkspaceError::Git { doing, source: ToolError::TimedOut { program: git(), deadline } },
            WorkspaceError::Unexpected { doing },
            WorkspaceError::Read { path: file(), source: no_space() },
            WorkspaceError::Shrunk { path: file() },
            WorkspaceError::Scratch { path: "/scratch".into(), source: no_space() },
            WorkspaceError::Send { source: no_space() },
            WorkspaceError::NothingKept,
            WorkspaceError::NoSuchCommit { commit: "v9".to_owned(), path: "/src/web".into() },
            WorkspaceError::Nonsense { why: "it names `../x`".to_owned() },
            WorkspaceError::TooLarge { bytes: 2048, limit: 1024 },
            WorkspaceError::Receive { source: no_space() },
        ]
    }

    #[test]
    fn every_error_as_it_is_read() {
        let lines = refusals().into_iter().chain(failures()).map(|error| {
            let report = Report::of(&error);
            let line = format!("{} ({})", report.one_line(), report.kind.as_str());
            match report.hint {
                Some(hint) => format!("{line}\n  hint: {hint}"),
                None => line,
            }
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }
}
