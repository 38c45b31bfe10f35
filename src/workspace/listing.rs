//! What `git ls-files` prints, taken apart; and which paths are fit to be taken.

use super::WorkspaceError;
use crate::report::escape_control;

/// The longest path the kernel takes, without its final zero.
const MAX_PATH: usize = 4095;

/// The mode of a submodule in an index.
const SUBMODULE_MODE: &[u8] = b"160000";

/// One entry of an index, as `ls-files -z -v --stage` prints it: `H 100644 OID 0<tab>PATH<nul>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry<'a> {
    /// `H` cached, `S` not to be in the working tree (sparse), `M` in conflict; in lower case when the
    /// entry is assumed unchanged.
    tag: u8,
    /// `MODE OID STAGE`, as `update-index --index-info` takes it.
    pub(super) info: &'a [u8],
    /// The object.
    pub(super) object: &'a [u8],
    /// The path, relative to the root.
    pub(super) path: &'a [u8],
}

impl IndexEntry<'_> {
    /// Whether it is a submodule.
    pub(super) fn is_submodule(&self) -> bool {
        self.info.starts_with(SUBMODULE_MODE)
    }

    /// Whether it is left out of the working tree on purpose.
    pub(super) fn is_sparse(&self) -> bool {
        self.tag.eq_ignore_ascii_case(&b'S')
    }

    /// Whether git was told not to look at the file.
    pub(super) fn is_assumed_unchanged(&self) -> bool {
        self.tag.is_ascii_lowercase()
    }

    /// Whether it is one of the stages of a conflict.
    pub(super) fn is_conflict(&self) -> bool {
        !self.info.ends_with(b" 0")
    }
}

/// The entries of a listing, in its order (sorted by path, then stage).
pub(super) fn index(
    listing: &[u8],
) -> impl Iterator<Item = Result<IndexEntry<'_>, WorkspaceError>> {
    paths(listing).map(|line| {
        entry(line).ok_or(WorkspaceError::Unexpected { doing: "list the tracked files" })
    })
}

fn entry(line: &[u8]) -> Option<IndexEntry<'_>> {
    let (tag, rest) = (*line.first()?, line.get(1..)?.strip_prefix(b" ")?);
    let tab = rest.iter().position(|byte| *byte == b'\t')?;
    let (info, path) = (&rest[..tab], &rest[tab + 1..]);
    let mut words = info.split(|byte| *byte == b' ');
    let (_mode, object, _stage) = (words.next()?, words.next()?, words.next()?);
    words.next().is_none().then_some(IndexEntry { tag, info, object, path })
}

/// The parts of a listing that ends each of them with a zero byte.
pub(super) fn paths(listing: &[u8]) -> impl Iterator<Item = &[u8]> {
    listing.split(|byte| *byte == 0).filter(|path| !path.is_empty())
}

/// Refuses paths that git itself would never write into a working tree. An index that came from
/// elsewhere as a file can hold any bytes.
pub(super) fn check(path: &[u8]) -> Result<(), WorkspaceError> {
    let bad = |part: &[u8]| {
        part.is_empty() || part == b"." || part == b".." || part.eq_ignore_ascii_case(b".git")
    };
    if path.len() > MAX_PATH || path.split(|byte| *byte == b'/').any(bad) {
        return Err(WorkspaceError::BadPath { path: shown(path) });
    }
    Ok(())
}

/// A path fit for one line of a terminal.
pub(super) fn shown(path: &[u8]) -> String {
    escape_control(&String::from_utf8_lossy(path)).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_taken_apart() {
        let listing =
            b"H 100644 aa 0\ta b\tc\0s 120000 bb 0\tlink\0M 100755 cc 2\tx\0H 160000 dd 0\ts\0";
        let entries: Vec<_> = index(listing).map(|entry| entry.expect("parses")).collect();
        let shown: Vec<_> = entries
            .iter()
            .map(|e| (e.path, e.object, e.is_sparse(), e.is_assumed_unchanged(), e.is_conflict()))
            .collect();
        assert_eq!(
            shown,
            [
                (&b"a b\tc"[..], &b"aa"[..], false, false, false),
                (b"link", b"bb", true, true, false),
                (b"x", b"cc", false, false, true),
                (b"s", b"dd", false, false, false),
            ]
        );
        assert!(entries[3].is_submodule() && !entries[0].is_submodule());
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in
            [&b"H"[..], b"H 100644 aa 0", b"H 100644 aa\tx", b"H 1 2 3 4\tx", b"H100644 a 0\tx"]
        {
            assert!(index(bad).all(|entry| entry.is_err()), "{bad:?}");
        }
    }

    #[test]
    fn only_paths_of_a_working_tree_pass() {
        for good in [&b"a"[..], b"a/b", b"..a/b.", b".gitignore", b"\xff\n", b".github/x"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        let long = [b'a'; MAX_PATH + 1];
        for bad in [
            &b""[..],
            b"/etc",
            b"../x",
            b"a/../b",
            b"a//b",
            b"./a",
            b"a/",
            b".git/config",
            b"x/.GIT",
            &long,
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
