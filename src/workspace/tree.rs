//! The working tree by a descriptor of its root.
//!
//! Paths come from git, files from a tree that somebody may be changing at the same moment. Every open
//! stays below the root and goes through no symlink, so that a folder that was swapped for a symlink
//! leads nowhere.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};

use crate::task::blocking;

/// How often an open is tried: the kernel asks to try again when something was renamed meanwhile
/// anywhere on the host, and somebody could go on renaming for ever.
const MAX_TRIES: usize = 100;

/// The root of a working tree. It stays the same folder, whatever happens to its path.
#[derive(Debug)]
pub(super) struct Root(File);

/// What lies at a path.
#[derive(Debug)]
pub(super) struct Found {
    /// Its type.
    pub(super) kind: Kind,
    /// Permission bits, without set-id and sticky bits.
    pub(super) mode: u32,
    /// When it was last changed, in seconds since 1970, never before it.
    pub(super) mtime: u64,
    /// To know it again.
    pub(super) stamp: Stamp,
    /// When anything of it last changed, its mode and name included: no program can set that.
    pub(super) changed: (i64, i64),
    /// Itself, to look at it and, if it is a link, to read that.
    pub(super) handle: File,
}

/// How a file is known again: another file in its place has another stamp, and so has the same one once it was
/// written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) written: (i64, i64),
}

/// A type of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link.
    Link,
    /// A folder.
    Folder,
    /// A pipe, a socket or a device.
    Special,
}

impl Root {
    /// Opens the root.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// The same, beside the async threads.
    pub(super) async fn opened(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        blocking(move || Self::open(&path)).await
    }

    /// Whether something lies at a path, found out beside the async threads.
    pub(super) async fn has(self: &Arc<Self>, path: Vec<u8>) -> io::Result<bool> {
        let root = self.clone();
        blocking(move || Ok(root.look(&path)?.is_some())).await
    }

    /// Looks at a path without opening what is there. `None` when nothing is there, also when one of
    /// its folders is a symlink: to git that file is deleted then.
    pub(super) fn look(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let handle = match self.resolve(path, OFlag::O_PATH) {
            Ok(handle) => handle,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let file = File::from(handle);
        let metadata = file.metadata()?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File(metadata.len()),
            kind if kind.is_symlink() => Kind::Link,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::Special,
        };
        Ok(Some(Found {
            kind,
            mode: metadata.permissions().mode() & 0o777,
            mtime: u64::try_from(metadata.mtime()).unwrap_or(0),
            stamp: Stamp::of(&metadata),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            handle: file,
        }))
    }

    /// Opens a regular file for reading, and gives its size at that moment. What has become something
    /// else since it was looked at is an error.
    pub(super) fn read(&self, path: &[u8]) -> io::Result<(File, u64)> {
        // Non-blocking, because the file may have become a pipe by now.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::from(self.resolve(path, flags)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file any more"));
        }
        Ok((file, metadata.len()))
    }

    /// Opens the folder that a path lies in, to change what is there, and gives its name in it.
    pub(super) fn folder_of<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        Ok((self.resolve(folder, OFlag::O_PATH | OFlag::O_DIRECTORY)?, name))
    }

    /// Waits until everything on its file system is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::syncfs(&self.0)?)
    }

    fn resolve(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        for _ in 0..MAX_TRIES {
            match openat2(&self.0, path, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Found {
    /// Where a symlink leads.
    pub(super) fn target(&self) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.handle, "")?.into_vec())
    }
}
