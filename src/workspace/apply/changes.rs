//! What differs between two trees, path by path.

use super::super::WorkspaceError;
use super::super::beside::Beside;
use super::super::git::{self, Size};
use super::super::listing;
use crate::wire::survey::EntryKind;

const COMPARING: &str = "compare the guest's files with those of the source repository";

/// A file in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    /// The id of its blob.
    pub(super) object: String,
}

/// What differs at one path. None: there is no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) from: Option<Entry>,
    pub(super) to: Option<Entry>,
}

/// Everything that differs, sorted by path.
pub(super) async fn between(
    repository: &Beside,
    from: &str,
    to: &str,
) -> Result<Vec<Change>, WorkspaceError> {
    let diff = repository.git(Size::Work).args(["diff-tree", "-r", "-z", "--raw", "--no-renames"]);
    let listing = git::run(diff.args([from, to, "--"]), COMPARING).await?;
    read(&listing).ok_or(WorkspaceError::Unexpected { doing: COMPARING })
}

/// Takes apart `:MODE MODE OBJECT OBJECT STATUS<nul>PATH<nul>`, again and again.
fn read(listing: &[u8]) -> Option<Vec<Change>> {
    let mut parts = listing::paths(listing);
    let mut changes = Vec::new();
    while let Some(info) = parts.next() {
        let info = std::str::from_utf8(info).ok()?.strip_prefix(':')?;
        let words: Vec<&str> = info.split(' ').collect();
        let [from_mode, to_mode, from, to, _status] = words[..] else {
            return None;
        };
        changes.push(Change {
            path: parts.next()?.to_vec(),
            from: entry(from_mode, from)?,
            to: entry(to_mode, to)?,
        });
    }
    Some(changes)
}

/// The outer option is none when git says what cannot be in a tree of ours.
fn entry(mode: &str, object: &str) -> Option<Option<Entry>> {
    if mode == "000000" {
        return Some(None);
    }
    let kind = EntryKind::of_mode(mode)?;
    Some(Some(Entry { kind, object: object.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_taken_apart() {
        let listing = b":100644 120000 aa bb T\0a\nb\0:000000 100755 00 cc A\0c\0:100644 000000 dd 00 D\0d e\0";
        let changes = read(listing).expect("reads");
        let entry = |kind, object: &str| Some(Entry { kind, object: object.to_owned() });
        let change = |path: &str, from, to| Change { path: path.into(), from, to };
        assert_eq!(
            changes,
            [
                change("a\nb", entry(EntryKind::File, "aa"), entry(EntryKind::Link, "bb")),
                change("c", None, entry(EntryKind::Executable, "cc")),
                change("d e", entry(EntryKind::File, "dd"), None),
            ]
        );
        for bad in [&b"x\0"[..], b":100644 100644 aa bb M\0", b":160000 000000 aa 00 D\0s\0"] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }
}
