//! Removing trees that may be anything.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// How deep a removed tree may be: deeper than any that is unpacked, so that what came half can go.
const MAX_REMOVE_DEPTH: usize = super::MAX_DEPTH + 16;

/// Removes whatever has this name in a folder, with all that is in it; links are not followed.
///
/// # Errors
/// When something cannot be removed, or the tree is absurdly deep.
pub fn remove_tree(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    remove_below(folder.as_fd(), name, MAX_REMOVE_DEPTH)
}

fn remove_below(folder: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let depth = depth.checked_sub(1).ok_or(io::ErrorKind::QuotaExceeded)?;
    let below = open(folder, name)?;
    // A copy may have folders that their owner cannot write. That it fails shows below.
    rustix::fs::fchmod(&below, Mode::RWXU).ok();
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_below(below.as_fd(), name, depth)?;
        }
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// Opens a folder, also one that its owner must not read.
fn open(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // By its own handle: a link that took its place meanwhile is none that opens so.
            let handle = rustix::fs::openat(folder, name, flags | OFlags::PATH, Mode::empty())?;
            let own = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(own, Mode::RWXU)?;
            Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}
