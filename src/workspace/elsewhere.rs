//! Another commit of the source than the one that is checked out, for a branch that begins there.
//!
//! ```text
//!  source's objects ◄── alternates ── scratch repository ── checkout ──► its files, as an inspection has them
//! ```
//!
//! Nothing of the source's working tree goes in then, and no filter of its configuration runs.

use std::sync::Arc;

use super::export::resolve;
use super::git::{self, Size, in_scratch};
use super::import::alternate;
use super::inspection::{Inspection, look};
use super::lists::Lists;
use super::tree::Root;
use super::{Untracked, WorkspaceError, Workspaces};
use crate::task::blocking;

const CHECKING_OUT: &str = "check out the commit to begin from";

/// What was inspected, as it is at a commit.
pub(super) async fn at(
    workspaces: &Workspaces,
    inspection: Inspection,
    commit: &str,
) -> Result<Inspection, WorkspaceError> {
    let Inspection { repository, mut head, configuration, mode, history, .. } = inspection;
    let commit = resolve(&repository, commit, "commit").await?;
    let folder = workspaces.scratch_folder().await?;
    let scratch = |source| WorkspaceError::Scratch { path: folder.path().to_owned(), source };
    let path = tokio::fs::canonicalize(folder.path()).await.map_err(scratch)?;
    let run = |size: Size, words: &[&str]| in_scratch(&path, size).args(words);
    let format = format!("--object-format={}", repository.object_format);
    let init = ["init", "--quiet", "--template=", "--initial-branch=main", &format];
    git::run(run(Size::Question, &init), CHECKING_OUT).await?;
    let objects = alternate(&repository.common.join("objects"));
    let place = path.join(".git/objects/info/alternates");
    tokio::fs::write(place, objects).await.map_err(scratch)?;
    git::run(run(Size::Work, &["read-tree", &commit]), CHECKING_OUT).await?;
    // With what an index says of the files: it goes along with them.
    let check_out = ["checkout-index", "--all", "--index", "--quiet"];
    git::run(run(Size::Work, &check_out), CHECKING_OUT).await?;
    let root = Arc::new(Root::opened(&path).await.map_err(scratch)?);
    let mut lists = Lists::read(&path, &root, Untracked::Leave).await?;
    let (index, notes) = (std::mem::take(&mut lists.index), lists.notes(Untracked::Leave, 0));
    let (mut contents, found) = blocking(move || look(root, lists)).await?;
    contents.folder = Some(folder);
    head.commit = Some(commit);
    let notes = notes.into_iter().chain(found).collect();
    let contents = Arc::new(contents);
    Ok(Inspection {
        repository,
        head,
        configuration,
        index,
        contents,
        mode,
        history,
        // None is checked out there.
        submodules: Vec::new(),
        untracked_left_out: 0,
        notes,
    })
}
