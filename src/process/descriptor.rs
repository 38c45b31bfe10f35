//! Descriptors: folders with short names, and what a program was started with.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag};

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

/// Takes over a descriptor that this program was started with, by the number it was told. It is closed in all
/// programs that this one starts: who inherited it was meant, and they are not.
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
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    nix::fcntl::fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(descriptor)
}

/// Closes everything but stdin, stdout and stderr. For the first thing that a program does.
///
/// # Errors
/// When the kernel does not know how: it does since Linux 5.9.
#[expect(unsafe_code, reason = "the system call takes numbers, whoever owns them")]
pub fn close_all_but_standard() -> io::Result<()> {
    // SAFETY: nothing has been opened yet that anybody in this process owns.
    let closed = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, 3, u32::MAX, 0) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn what_was_inherited_is_not_passed_on() {
        let open = File::open("/dev/null").expect("there");
        nix::fcntl::fcntl(&open, FcntlArg::F_SETFD(FdFlag::empty())).expect("inheritable");
        let number = open.into_raw_fd();
        let taken = inherited(number).expect("it is open");
        let flags = nix::fcntl::fcntl(&taken, FcntlArg::F_GETFD).expect("asked");
        assert_eq!((taken.as_raw_fd(), flags), (number, FdFlag::FD_CLOEXEC.bits()));
        assert!(inherited(2).is_err() && inherited(100_000).is_err());
    }
}
