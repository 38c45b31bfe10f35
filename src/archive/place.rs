//! Where a copy goes, and how it gets there: whole, by rename, from a folder on the same file system.
//!
//! | what is at the destination | a file or a link comes | a folder comes |
//! |---|---|---|
//! | nothing | it gets that name | it gets that name |
//! | a folder, or a link to one | it goes into it, under its own name | the same |
//! | a file, or another link | it is replaced (a link itself, not where it leads) | refused |
//! | a device, a pipe, a socket | refused | refused |
//!
//! What has its own name in the folder is looked at in the same way once more; a folder there is refused in
//! any case: trees are never merged. A destination that ends with `/` must be a folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{ArchiveError, MAX_NAME, Staging, TOP};
use crate::wire::guest::CopyKind;

/// Where a copy goes: a name in a folder that is there.
#[derive(Debug)]
pub struct Place {
    parent: OwnedFd,
    pub(super) path: PathBuf,
    name: OsString,
}

impl Place {
    /// The place that a destination means, for something that has this name where it comes from.
    ///
    /// # Errors
    /// When the folder around it is missing, or a name.
    pub fn find(destination: &Path, own_name: Option<&OsStr>) -> Result<Self, ArchiveError> {
        let path = || destination.to_owned();
        let wants_folder = destination.as_os_str().as_bytes().ends_with(b"/");
        let inside = match fs::metadata(destination) {
            Ok(found) if found.is_dir() => true,
            Ok(_) if wants_folder => return Err(ArchiveError::NoFolder { path: path() }),
            Ok(_) => false,
            // A file in the place of a folder above shows, with its name, when that one is opened.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => match wants_folder {
                true => return Err(ArchiveError::NoFolder { path: path() }),
                false => false,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => match wants_folder {
                true => return Err(ArchiveError::Missing { path: path() }),
                false => false,
            },
            Err(source) => return Err(ArchiveError::Read { path: path(), source }),
        };
        if inside {
            let name = own_name.filter(|name| is_name(name));
            let name = name.ok_or_else(|| ArchiveError::Nameless { path: path() })?;
            return Self::of(destination, name);
        }
        let name = destination.file_name();
        let name = name.ok_or_else(|| ArchiveError::Missing { path: path() })?;
        match destination.parent() {
            Some(folder) if folder != Path::new("") => Self::of(folder, name),
            Some(_) | None => Self::of(Path::new("."), name),
        }
    }

    fn of(folder: &Path, name: &OsStr) -> Result<Self, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, folder, flags, Mode::empty());
        let path = || folder.to_owned();
        let parent = opened.map_err(|error| match error {
            Errno::NOENT => ArchiveError::Missing { path: path() },
            Errno::NOTDIR => ArchiveError::NoFolder { path: path() },
            error => ArchiveError::Read { path: path(), source: error.into() },
        })?;
        let path = match folder == Path::new(".") {
            true => PathBuf::from(name),
            false => folder.join(name),
        };
        Ok(Self { parent, path, name: name.to_owned() })
    }

    /// The folder around it.
    #[must_use]
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// That nothing can be made beside it.
    #[must_use]
    pub fn unwritable(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Write { path: self.path.clone(), source }
    }

    /// Whether something of this kind may come here.
    ///
    /// # Errors
    /// When something is in its way.
    pub fn admit(&self, kind: CopyKind) -> Result<(), ArchiveError> {
        let found = match rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => {
                return Err(ArchiveError::Read { path: self.path.clone(), source: error.into() });
            }
        };
        let found = match (found, kind) {
            (FileType::RegularFile | FileType::Symlink, CopyKind::File | CopyKind::Link) => {
                return Ok(());
            }
            (FileType::RegularFile, CopyKind::Folder) => "a file",
            (FileType::Symlink, CopyKind::Folder) => "a link",
            (FileType::Directory, CopyKind::File | CopyKind::Link) => "a folder",
            (FileType::Directory, CopyKind::Folder) => "a folder too; folders are not merged",
            _ => "neither file, folder nor link",
        };
        Err(ArchiveError::InTheWay { path: self.path.clone(), found })
    }

    /// Puts what has come to `staging` here, once it is on the disk.
    ///
    /// # Errors
    /// When nothing came, something is in its way, or the disk fails. Then what was here is as it was.
    pub fn publish(&self, staging: &Staging) -> Result<(), ArchiveError> {
        let write =
            |error: Errno| ArchiveError::Write { path: self.path.clone(), source: error.into() };
        let came = rustix::fs::statat(staging.folder(), TOP, AtFlags::SYMLINK_NOFOLLOW);
        let came = came.map_err(|_| ArchiveError::Hostile {
            why: "the stream ended, and had nothing in it".to_owned(),
        })?;
        self.admit(match FileType::from_raw_mode(came.st_mode) {
            FileType::Directory => CopyKind::Folder,
            FileType::Symlink => CopyKind::Link,
            _ => CopyKind::File,
        })?;
        rustix::fs::syncfs(staging.folder()).map_err(write)?;
        let unlocked = Unlocked::of(staging.folder(), came.st_mode).map_err(write)?;
        // A folder takes the place of no file and of no folder with something in it: the kernel refuses.
        rustix::fs::renameat(staging.folder(), TOP, &self.parent, &self.name).map_err(write)?;
        if let Some(unlocked) = unlocked {
            unlocked.lock().map_err(write)?;
        }
        // It is there. A crash of the machine may undo the rename where this fails, as it does for folders of
        // some file systems; then what was here before is here again.
        rustix::fs::fsync(&self.parent).ok();
        Ok(())
    }
}

/// A folder that has come and that its owner may not write to, until it is in its place: what cannot be written
/// to cannot be renamed into another folder.
struct Unlocked {
    folder: OwnedFd,
    mode: Mode,
}

impl Unlocked {
    /// What has come, with this mode, if it is such a folder.
    fn of(staging: BorrowedFd<'_>, mode: u32) -> Result<Option<Self>, Errno> {
        let mode_bits = Mode::from_raw_mode(mode & 0o7777);
        if FileType::from_raw_mode(mode) != FileType::Directory || mode_bits.contains(Mode::RWXU) {
            return Ok(None);
        }
        rustix::fs::chmodat(staging, TOP, mode_bits | Mode::RWXU, AtFlags::empty())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(staging, TOP, flags, Mode::empty())?;
        Ok(Some(Self { folder, mode: mode_bits }))
    }

    /// Gives it the mode that it came with.
    fn lock(self) -> Result<(), Errno> {
        rustix::fs::fchmod(&self.folder, self.mode)
    }
}

/// Whether this can be the name of something in a folder.
pub(super) fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..")
        && bytes.len() <= MAX_NAME
        && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
}
