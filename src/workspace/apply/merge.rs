//! What was done in two places, merged: in a repository of our own, so that no index, configuration, attribute or
//! merge driver of the source has a part in it.

use super::super::WorkspaceError;
use super::super::beside::Beside;
use super::super::git::{self, Size};

const MERGING: &str =
    "merge what was done in the guest with what was done in the source repository";

/// A merge.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) tree: String,
    /// What does not fit together. In a text file both sides are there between markers; of two binary files the
    /// source's is, and of a file that was changed and deleted the changed one.
    pub(super) conflicts: Vec<Vec<u8>>,
}

/// Merges two trees that both began as `base`.
pub(super) async fn merge(
    repository: &Beside,
    base: &str,
    source: &str,
    guest: &str,
) -> Result<Merged, WorkspaceError> {
    let base = commit(repository, base, None).await?;
    // The names stand at the markers in files.
    for (name, tree) in [("source", source), ("guest", guest)] {
        let commit = commit(repository, tree, Some(&base)).await?;
        let branch = format!("refs/heads/{name}");
        let update = repository.git(Size::Question).args(["update-ref", &branch, &commit]);
        git::run(update, MERGING).await?;
    }
    // By stdin, because a conflict is a failure to it otherwise. A file that was moved takes along what was done to it
    // on the other side; a folder that was moved takes no new files along.
    let merge = repository
        .git(Size::Work)
        .args(["-c", "merge.directoryRenames=false", "-c", "core.attributesFile=/dev/null"])
        .args(["merge-tree", "--stdin", "-z", "--name-only", "--no-messages"])
        .input(b"source guest\n".to_vec());
    let answer = git::run(merge, MERGING).await?;
    read(&answer).ok_or(WorkspaceError::Unexpected { doing: MERGING })
}

async fn commit(
    repository: &Beside,
    tree: &str,
    parent: Option<&str>,
) -> Result<String, WorkspaceError> {
    let mut commit = repository.git(Size::Question).args(["commit-tree", tree, "-m", "cove"]);
    for who in ["AUTHOR", "COMMITTER"] {
        commit = commit.env(&format!("GIT_{who}_NAME"), "cove");
        commit = commit.env(&format!("GIT_{who}_EMAIL"), "cove@localhost");
    }
    let commit = commit.args(parent.iter().flat_map(|parent| ["-p", parent]));
    let id = git::line(git::run(commit, MERGING).await?);
    Ok(String::from_utf8_lossy(&id).into_owned())
}

/// Takes apart `CLEAN<nul>TREE<nul>`, the paths in conflict, and an empty one.
fn read(answer: &[u8]) -> Option<Merged> {
    let mut parts = answer.split(|byte| *byte == 0);
    let (clean, tree) = (parts.next()?, parts.next()?);
    let conflicts: Vec<_> = parts.take_while(|path| !path.is_empty()).map(<[u8]>::to_vec).collect();
    if conflicts.is_empty() != (clean == b"1") || tree.is_empty() {
        return None;
    }
    Some(Merged { tree: String::from_utf8(tree.to_vec()).ok()?, conflicts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let clean = read(b"1\0abcd\0\0").expect("reads");
        assert_eq!((&clean.tree[..], clean.conflicts.len()), ("abcd", 0));
        let both = read(b"0\0abcd\0a b\0c\nd\0\0").expect("reads");
        assert_eq!(both.conflicts, [b"a b".to_vec(), b"c\nd".to_vec()]);
        for bad in [&b""[..], b"0\0", b"0\0abcd\0\0", b"1\0abcd\0x\0\0", b"1\0\0"] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }
}
