//! Where a repository is: its working tree, its git folders, its head.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::git::{self, Size, in_source};
use crate::process::ToolError;

/// A repository with a working tree.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    /// The root of the working tree, absolute and without symlinks.
    pub(super) root: PathBuf,
    /// The git folder of this working tree: another one than `common` in a linked worktree.
    pub(super) git_folder: PathBuf,
    /// The git folder that linked worktrees share: objects, refs, configuration.
    pub(super) common: PathBuf,
    /// The hash: `sha1` or `sha256`.
    pub(super) object_format: String,
}

/// What is checked out.
#[derive(Debug)]
pub(super) struct Head {
    /// The commit; none before the first one.
    pub(super) commit: Option<String>,
    /// The branch as a full ref name; none when HEAD is detached. Ref names are bytes.
    pub(super) branch: Option<OsString>,
}

impl Head {
    /// The branch without `refs/heads/`, where it is one.
    pub(super) fn branch_name(&self) -> Option<&[u8]> {
        self.branch.as_ref()?.as_bytes().strip_prefix(b"refs/heads/")
    }
}

/// Finds the repository that contains `path`.
pub(super) async fn find(path: &Path) -> Result<Repository, WorkspaceError> {
    let metadata = tokio::fs::metadata(path).await.map_err(|source| no_such(path, source))?;
    if !metadata.is_dir() {
        return Err(WorkspaceError::NotAFolder { path: path.to_owned() });
    }
    let (flags, git_folder) = discover(path).await?;
    let [bare, inside, object_format] = flags;
    match (inside == "true", bare == "true") {
        (true, _) => {}
        (false, true) => {
            return Err(WorkspaceError::Bare { path: path.to_owned() });
        }
        (false, false) => {
            return Err(WorkspaceError::InsideGitFolder { path: path.to_owned() });
        }
    }
    let root = path_answer(path, &["--show-toplevel"]).await?;
    // `core.worktree` can name any folder above. A repository that somebody sent could make all of the
    // user's home its working tree in this way; only one that is found from its own root is taken.
    let moved = || WorkspaceError::MovedWorkingTree { path: path.to_owned(), root: root.clone() };
    let (_, again) = discover(&root).await.map_err(|error| match error {
        WorkspaceError::NotARepository { .. } => moved(),
        other => other,
    })?;
    if again != git_folder {
        return Err(moved());
    }
    let common = path_answer(&root, &["--path-format=absolute", "--git-common-dir"]).await?;
    Ok(Repository { root, git_folder, common, object_format })
}

/// Reads what is checked out.
pub(super) async fn head(repository: &Repository) -> Result<Head, WorkspaceError> {
    let doing = "find out what is checked out";
    let source = || in_source(&repository.root, Size::Question);
    let (commit, branch) = tokio::try_join!(
        git::ask(source().args(["rev-parse", "--verify", "--quiet", "HEAD"]), doing),
        git::ask(source().args(["symbolic-ref", "--quiet", "HEAD"]), doing),
    )?;
    let commit = commit
        .map(String::from_utf8)
        .transpose()
        .map_err(|_| WorkspaceError::Unexpected { doing })?;
    if commit.is_none() && branch.is_none() {
        return Err(WorkspaceError::Unexpected { doing });
    }
    Ok(Head { commit, branch: branch.map(OsString::from_vec) })
}

/// Bare or not, inside a working tree or not, the hash; and the git folder.
async fn discover(path: &Path) -> Result<([String; 3], PathBuf), WorkspaceError> {
    let doing = "find the git repository";
    let question = in_source(path, Size::Question).args([
        "rev-parse",
        "--is-bare-repository",
        "--is-inside-work-tree",
        "--show-object-format",
        "--absolute-git-dir", // last, because a path may contain newlines
    ]);
    let answer = question.run().await.map_err(|source| refused(path, source))?;
    let answer = git::line(answer);
    let mut parts = answer.splitn(4, |byte| *byte == b'\n');
    let mut next = || parts.next().ok_or(WorkspaceError::Unexpected { doing });
    let mut flag = || next().map(|flag| String::from_utf8_lossy(flag).into_owned());
    let flags = [flag()?, flag()?, flag()?];
    let folder = PathBuf::from(OsString::from_vec(next()?.to_vec()));
    Ok((flags, folder))
}

async fn path_answer(folder: &Path, question: &[&str]) -> Result<PathBuf, WorkspaceError> {
    let tool = in_source(folder, Size::Question).arg("rev-parse").args(question);
    let answer = git::run(tool, "find the git repository").await?;
    Ok(PathBuf::from(OsString::from_vec(git::line(answer))))
}

fn no_such(path: &Path, source: io::Error) -> WorkspaceError {
    WorkspaceError::NoSuchPath { path: path.to_owned(), source }
}

fn refused(path: &Path, source: ToolError) -> WorkspaceError {
    let path = path.to_owned();
    match &source {
        ToolError::Failed { stderr, .. } if stderr.contains("dubious ownership") => {
            WorkspaceError::ForeignOwner { path, source }
        }
        ToolError::Failed { stderr, .. } if stderr.contains("not a git repository") => {
            WorkspaceError::NotARepository { path, source }
        }
        _ => WorkspaceError::Git { doing: "find the git repository", source },
    }
}
