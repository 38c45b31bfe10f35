//! Files that git in the guest knows and that do not go in: those that a sparse checkout of the source leaves out,
//! and in mode metadata all of them.
//!
//! In the guest's index they have the mark that a sparse checkout gives, so that git there says nothing of them.
//! The host keeps them in the tree that went in, with the contents that git has for them. So a file that is checked
//! out in the guest later is no change, one that is taken out again is no deletion, and work in it comes out as the
//! difference to what git has.

use super::WorkspaceError;
use super::git::{self, Size};
use super::git_files::write;
use super::inspection::Entry;
use super::listing;
use super::metadata::{Metadata, update_index};
use crate::wire::survey::{EntryKind, Known, Token};

const LEAVING_OUT: &str = "make an index without files";

/// Patterns of a sparse checkout without any file, as git reads them.
const NOTHING: &[u8] = b"# `git sparse-checkout disable` checks all files out\n!/*\n";

/// What the source's index names and its sparse checkout leaves out; `entries` are sorted.
pub(super) fn of_index(index: &[u8], entries: &[Entry]) -> Result<Vec<Known>, WorkspaceError> {
    let mut absent = Vec::new();
    for entry in listing::index(index) {
        let entry = entry?;
        let goes_in = || entries.binary_search_by(|other| other.path[..].cmp(entry.path)).is_ok();
        if !entry.is_sparse() || entry.is_submodule() || entry.is_conflict() || goes_in() {
            continue;
        }
        listing::check(entry.path)?;
        let mode = entry.info.split(|byte| *byte == b' ').next().unwrap_or_default();
        absent.extend(known(mode, entry.object, entry.path));
    }
    Ok(absent)
}

/// Makes an index of a commit in which everything is left out, and returns that.
pub(super) async fn all_of(
    metadata: &Metadata,
    commit: &str,
) -> Result<Vec<Known>, WorkspaceError> {
    let read = metadata.git(Size::Work).args(["read-tree", commit]);
    git::run(read, LEAVING_OUT).await?;
    let list = metadata.git(Size::Work).args(["ls-tree", "-r", "-z", "--full-tree", commit]);
    let listing = git::run(list, LEAVING_OUT).await?;
    let (mut absent, mut paths) = (Vec::new(), Vec::new());
    for line in listing::paths(&listing) {
        let entry = of_tree(line).ok_or(WorkspaceError::Unexpected { doing: LEAVING_OUT })?;
        let [mode, object, path] = entry;
        listing::check(path)?;
        absent.extend(known(mode, object, path));
        paths.extend_from_slice(path);
        paths.push(0);
    }
    update_index(metadata, &["--skip-worktree", "--stdin"], paths).await?;
    for (key, value) in [("core.sparseCheckout", "true"), ("core.sparseCheckoutCone", "false")] {
        let set = metadata.git(Size::Question).args(["config", "--local", key, value]);
        git::run(set, LEAVING_OUT).await?;
    }
    let place = metadata.git_folder().join("info/sparse-checkout");
    metadata.folder.blocking(move || write(&place, NOTHING)).await?;
    Ok(absent)
}

/// `MODE TYPE OBJECT<tab>PATH`, as `ls-tree` prints it.
fn of_tree(line: &[u8]) -> Option<[&[u8]; 3]> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut words = line[..tab].split(|byte| *byte == b' ');
    let (mode, _kind, object) = (words.next()?, words.next()?, words.next()?);
    Some([mode, object, &line[tab + 1..]])
}

/// An entry that is a file or a link; submodules are none.
fn known(mode: &[u8], object: &[u8], path: &[u8]) -> Option<Known> {
    let kind = EntryKind::of_mode(std::str::from_utf8(mode).ok()?)?;
    let object = String::from_utf8_lossy(object).into_owned();
    Some(Known { token: Token::unknown(), kind, object, went_in: true, path: path.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_left_out_and_not_there_are_absent() {
        let index = b"H 100644 aa 0\ta\0S 100755 bb 0\tb\0s 120000 cc 0\tc\0S 160000 dd 0\td\0\
            S 100644 ee 0\te\0S 100644 ff 2\tf\0";
        let entries =
            [Entry { path: b"a".to_vec(), size: 1 }, Entry { path: b"e".to_vec(), size: 1 }];
        let absent = of_index(index, &entries).expect("reads");
        let shown: Vec<_> = absent.iter().map(|known| (&known.path[..], known.kind)).collect();
        assert_eq!(shown, [(&b"b"[..], EntryKind::Executable), (b"c", EntryKind::Link)]);
        assert!(of_index(b"S 100644 aa 0\t../x\0", &[]).is_err(), "no path of a working tree");
    }
}
