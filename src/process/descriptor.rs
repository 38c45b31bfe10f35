//! Descriptors: folders with short names, and what a program was started with.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A folder by descriptor, under a path short enough for the names of sockets in it, however long the
/// folder's own path is.
#[derive(Debug)]
pub struct ShortFolder(OwnedFd);

impl ShortFolder {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(File::open(folder)?.into()))
    }

    /// The path of `name` in the folder, valid in this process while the value lives.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

/// Takes over a descriptor that this program was started with, by the number it was told.
///
/// # Errors
/// When no such descriptor is open.
#[expect(unsafe_code, reason = "a number from the command line becomes an owned descriptor here")]
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if number <= 2 || unsafe { nix::libc::fcntl(number, nix::libc::F_GETFD) } < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is not open")));
    }
    // SAFETY: it is open, and only the caller, who was told its number at start, owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
