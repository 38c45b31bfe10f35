//! Indexes of git in what has come: what the host promises in them of files that came along is made good.
//!
//! The numbers of a file are final once it is not renamed any more; that a folder around it is renamed changes none of
//! them. So this is done in a new tree while that is in its staging folder, and in an update when its files are in
//! their places, and its `.git` is not.
//!
//! What cannot be done is not needed: git then reads the files. Nothing fails for it, and the console says why.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;

use super::beneath::Beneath;
use super::console;
use super::update::{beneath_of, modules};
use crate::index::Index;

/// The largest index that is looked at: of some 150,000 files. For a larger one, a small guest would have too little
/// memory.
const MAX_INDEX: u64 = 16 << 20;

/// The largest configuration of a submodule.
const MAX_CONFIGURATION: u64 = 1 << 20;

/// The permission bits of an index, as the host has sent it.
const MODE: u32 = 0o644;

/// Completes the indexes in a tree that is new, and that nobody finds yet. Blocks.
pub(super) fn complete_new(tree: &OwnedFd) {
    report(&complete(tree, tree, None));
}

/// Completes the indexes of an update whose files are in the tree already, with what those say that are there. They
/// are on the disk then. Blocks.
pub(super) fn complete_update(staged: &OwnedFd, tree: &OwnedFd) {
    report(&complete(staged, tree, Some(tree)));
}

fn report(completed: &io::Result<()>) {
    if let Err(error) = completed {
        console::line(&format!(
            "cove-agent: cannot complete an index, so git will read files: {error}"
        ));
    }
}

/// Completes the indexes that lie in `.git` of one folder for the files in another. One that cannot be completed is told
/// of, and keeps none of the others from it.
fn complete(staged: &OwnedFd, tree: &OwnedFd, before: Option<&OwnedFd>) -> io::Result<()> {
    let root = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
    let (staged_in, tree_in) = (beneath_of(staged)?, beneath_of(tree)?);
    let before = before.map(beneath_of).transpose()?;
    let complete_one = |git: &str, working_tree: &Path| -> io::Result<()> {
        let place = PathBuf::from(format!(".git{git}/index"));
        let Some((bytes, written)) = read(&staged_in, &place)? else { return Ok(()) };
        let mut index = Index::read(&bytes, written)?;
        // Without the old one, git reads what has not come along once more.
        let was = before.as_ref().and_then(|before| read(before, &place).ok().flatten());
        let was = was.and_then(|(bytes, written)| Index::read_entries(&bytes, written).ok());
        if let Some(was) = was {
            index.keep(&was);
        }
        index.fulfil(working_tree);
        staged_in.replace(&place, &index.write()?, MODE)?;
        // A new tree is written to the disk as a whole.
        match before {
            Some(_) => File::from(staged_in.open_in(&place, OFlags::RDONLY)?).sync_all(),
            None => Ok(()),
        }
    };
    report(&complete_one("", &root));
    for git in modules::of(staged)? {
        let place = PathBuf::from(format!(".git{git}/config"));
        // In an update, it is the guest's own that stays where there is one.
        let configuration = [&staged_in, &tree_in]
            .into_iter()
            .find_map(|folder| folder.read(&place, MAX_CONFIGURATION).ok().flatten());
        if let Some(inside) = configuration.as_deref().and_then(modules::working_tree) {
            report(&complete_one(&git, &root.join(inside)));
        }
    }
    Ok(())
}

/// The index at a path below a folder, if there is one, and when it was written.
fn read(folder: &Beneath, place: &Path) -> io::Result<Option<(Vec<u8>, SystemTime)>> {
    let file = match folder.open_in(place, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => File::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.len() > MAX_INDEX {
        let place = place.display();
        return Err(io::Error::other(format!("`{place}` is no file, or too large")));
    }
    let (mut bytes, written) = (Vec::new(), found.modified()?);
    file.take(MAX_INDEX).read_to_end(&mut bytes)?;
    Ok(Some((bytes, written)))
}
