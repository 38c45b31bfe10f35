//! Unpacking a tree: a tar stream becomes a folder below the home, whole or not at all.
//!
//! It is unpacked in the staging folder and renamed at the end. Only files, folders and links come in;
//! links are kept as they are, wherever they point: nothing follows them here.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use rustix::fs::{RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::beneath::{self, Beneath};
use super::failure::{During, Failure};
use super::plan::STAGING;
use super::update;
use crate::id::BootId;
use crate::wire::guest::{ReceiveTree, TreeChange};

/// How many pieces of the stream may wait for the disk.
pub const QUEUE: usize = 4;

/// A piece of the stream.
#[derive(Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// The stream is whole.
    End,
}

/// Takes the pieces of a tree for a folder below the home. Blocks.
///
/// # Errors
/// When the stream is cut off or no plain tree, the disk is full, or there is a folder that is to be made, or
/// none that is to be brought up to date. Then nothing has changed.
pub fn receive(
    home: &Path,
    tree: &ReceiveTree,
    pieces: mpsc::Receiver<Piece>,
) -> Result<(), Failure> {
    match tree.how {
        TreeChange::Make => make(home, &tree.path, pieces),
        TreeChange::Update => update::receive(home, &tree.path, pieces),
    }
}

/// Unpacks the pieces into a new folder at `path` below the home.
fn make(home: &Path, path: &str, pieces: mpsc::Receiver<Piece>) -> Result<(), Failure> {
    let step = || format!("unpack `~/{}`", path.escape_debug());
    let inside = beneath::relative(path).during(step())?;
    let home = Beneath::open(home).during(step())?;
    let (parent, name) = home.make_parent(inside).during(step())?;
    if rustix::fs::statat(&parent, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(Failure::new(step(), "something is there already"));
    }
    let staging = home.make_folder(Path::new(STAGING)).during(step())?;
    beneath::own(&staging, 0o700).during(step())?;
    // Random, because two trees may be on their way at once.
    let temporary = format!("tree-{}", BootId::random());
    let unpack = || -> io::Result<()> {
        let inside = PathBuf::from(STAGING).join(&temporary);
        unpack(&home.make_folder(&inside)?, pieces)?;
        home.sync()?;
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&staging, &temporary, &parent, &name, flags) {
            Err(Errno::EXIST) => Err(io::Error::other("something is there already")),
            renamed => Ok(renamed?),
        }
    };
    let unpacked = unpack().during(step());
    if unpacked.is_err() {
        beneath::remove_tree(&staging, OsStr::new(&temporary)).ok();
    }
    // Fails while another tree is on its way; then that one removes it, or the next boot.
    rustix::fs::unlinkat(&home, STAGING, rustix::fs::AtFlags::REMOVEDIR).ok();
    unpacked
}

/// Unpacks the pieces into an empty folder.
pub(super) fn unpack(folder: &OwnedFd, pieces: mpsc::Receiver<Piece>) -> io::Result<()> {
    let stream = Stream { pieces, rest: Bytes::new(), ended: false };
    let own = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(false);
    // Folders last, deepest first: their times and modes hold only once nothing is made in them.
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let shown = || String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
            let shown = shown();
            return Err(wrong(format!("`{shown}` is neither file, folder nor link ({kind:?})")));
        }
        let shown = shown();
        // The kernel would resolve `..` behind a link of this archive.
        if entry.path()?.components().any(|part| {
            !matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir)
        }) {
            return Err(wrong(format!("`{shown}` is not a path below the tree")));
        }
        if kind.is_dir() {
            folders.push(entry);
        } else if !entry.unpack_in(&own)? {
            return Err(wrong(format!("`{shown}` cannot be in a tree")));
        }
    }
    folders.sort_by(|one, other| other.path_bytes().cmp(&one.path_bytes()));
    let inside = Beneath::open(&own)?;
    for mut entry in folders {
        entry.unpack_in(&own)?;
        let modified = Timespec {
            tv_sec: i64::try_from(entry.header().mtime()?).map_err(io::Error::other)?,
            tv_nsec: 0,
        };
        let times = Timestamps { last_access: modified, last_modification: modified };
        rustix::fs::futimens(inside.folder(&entry.path()?)?, &times)?;
    }
    // What follows the archive's end is padding, but only the end-of-data frame says that it is whole.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

fn wrong(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The pieces as one blocking stream.
struct Stream {
    pieces: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the stream was cut off",
                    ));
                }
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
