//! Git folders of submodules that are brought up to date, in `.git/modules` of the tree.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::places::{Listing, kind, take_out};
use super::{MAX_PLACE, MAX_SHALLOW, beneath_of, lines};
use crate::wire::guest::UPDATE_DEEPENED;

/// Where they are.
const MODULES: &[u8] = b".git/modules";

/// How the line begins that git writes of the working tree.
const WORKTREE: &[u8] = b"worktree = ";

/// What the user of the guest may have changed in one that is there.
const THEIRS: [&str; 3] = ["config", "info/exclude", "info/attributes"];

/// The git folders that come, each below `.git`, with a slash in front. What lies at other places is none.
pub(in crate::agent) fn of(staged: &OwnedFd) -> io::Result<Vec<String>> {
    if kind(staged, MODULES)? != Some(FileType::Directory) {
        return Ok(Vec::new());
    }
    let Listing { files, folders } = Listing::below(staged, MODULES)?;
    let folders: HashSet<&[u8]> = folders.iter().map(|folder| &folder[..]).collect();
    let found = files.iter().filter_map(|file| {
        let folder = file.strip_suffix(b"/HEAD")?;
        let has_objects = folders.contains(&[folder, b"/objects"].concat()[..]);
        let below = folder.strip_prefix(b".git").filter(|_| has_objects)?;
        String::from_utf8(below.to_vec()).ok()
    });
    Ok(found.collect())
}

/// Leaves in them what the guest has of its own: its configuration and rules, and that its commits have no parents
/// there, but for those whose parents come.
pub(super) fn keep_what_is_theirs(root: &OwnedFd, staged: &OwnedFd) -> io::Result<()> {
    for git in of(staged)? {
        let place = |name: &str| format!(".git{git}/{name}");
        let deepened = beneath_of(staged)?.read(Path::new(&place(UPDATE_DEEPENED)), MAX_SHALLOW)?;
        take_out(staged, place(UPDATE_DEEPENED).as_bytes())?;
        if kind(root, place("HEAD").as_bytes())?.is_none() {
            continue;
        }
        let moved = moved(root, staged, Path::new(&place("config")))?;
        for name in THEIRS {
            take_out(staged, place(name).as_bytes())?;
        }
        if let Some(config) = moved {
            beneath_of(staged)?.replace(Path::new(&place("config")), &config, 0o644)?;
        }
        let shallow = place("shallow");
        if kind(root, shallow.as_bytes())? == Some(FileType::RegularFile) {
            let deepened = deepened.unwrap_or_default();
            keep_shallow(root, staged, Path::new(&shallow), &deepened)?;
        }
    }
    Ok(())
}

/// The guest's configuration at this path with the working tree of the one that comes, where that is another: its
/// submodule lies elsewhere now, and git would go to the old folder.
fn moved(root: &OwnedFd, staged: &OwnedFd, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if kind(root, path.as_os_str().as_bytes())? != Some(FileType::RegularFile) {
        return Ok(None);
    }
    let (root, staged) = (beneath_of(root)?, beneath_of(staged)?);
    let there = root.read(path, MAX_SHALLOW)?.unwrap_or_default();
    let coming = staged.read(path, MAX_SHALLOW)?.unwrap_or_default();
    let worktree = |config: &[u8]| lines(config).find(|line| is_worktree(line)).map(<[u8]>::to_vec);
    let (Some(is), Some(was)) = (worktree(&coming), worktree(&there)) else { return Ok(None) };
    if is == was {
        return Ok(None);
    }
    let mended = lines(&there).map(|line| if line == was { &is[..] } else { line });
    Ok(Some(mended.flat_map(|line| [line, b"\n"].concat()).collect()))
}

/// The working tree that a configuration of one of them names, below that of all; none where it is not written as the
/// host writes it.
pub(in crate::agent) fn working_tree(configuration: &[u8]) -> Option<PathBuf> {
    let line = lines(configuration).find(|line| is_worktree(line))?;
    let mut path = line.trim_ascii_start().strip_prefix(WORKTREE)?;
    while let Some(above) = path.strip_prefix(b"../") {
        path = above;
    }
    // Git puts a path with something special in it between quotes.
    let plain = !path.iter().any(|byte| matches!(byte, b'"' | b'\\'));
    plain.then(|| PathBuf::from(OsStr::from_bytes(path)))
}

/// Whether a line of a configuration is the one that git writes of the working tree.
fn is_worktree(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(WORKTREE)
}

/// Keeps the list at this path of commits without parents beside the one that comes, but for those whose parents come.
pub(super) fn keep_shallow(
    root: &OwnedFd,
    staged: &OwnedFd,
    path: &Path,
    deepened: &[u8],
) -> io::Result<()> {
    let (root, staged) = (beneath_of(root)?, beneath_of(staged)?);
    let there = root.read(path, MAX_SHALLOW)?.unwrap_or_default();
    let coming = staged.read(path, MAX_SHALLOW)?.unwrap_or_default();
    let deepened: HashSet<&[u8]> = lines(deepened).collect();
    let kept = lines(&there).filter(|line| !deepened.contains(line));
    let all: BTreeSet<&[u8]> = kept.chain(lines(&coming)).collect();
    let all: Vec<u8> = all.into_iter().flat_map(|line| [line, b"\n"].concat()).collect();
    staged.replace(path, &all, 0o644)
}

/// The files among these that say where a submodule's git folder is.
pub(super) fn links(files: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    files.iter().filter(|file| file.ends_with(b"/.git")).cloned().collect()
}

/// Whether such a file has its place free, or lies there as it is already.
pub(super) fn is_same(root: &OwnedFd, staged: &OwnedFd, link: &[u8]) -> io::Result<bool> {
    match kind(root, link)? {
        None => Ok(true),
        Some(FileType::RegularFile) => {
            let path = Path::new(OsStr::from_bytes(link));
            let there = beneath_of(root)?.read(path, MAX_PLACE)?;
            Ok(there == beneath_of(staged)?.read(path, MAX_PLACE)?)
        }
        Some(_) => Ok(false),
    }
}
