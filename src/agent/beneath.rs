//! A folder that no path can leave.
//!
//! What lies in it may be hostile: an earlier boot can have put links where paths lead. Every path is
//! resolved by the kernel with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`, as if the folder
//! were `/`; the last component is then handled by name in its opened parent, and never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::archive::remove_tree;

/// How often a resolution is tried again when the kernel saw the tree change under it.
const RESOLVE_ATTEMPTS: usize = 16;

/// The rules by which a path leads through no link and not out of its folder.
pub(super) const NO_LINKS: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Permission bits of folders that are made on the way.
pub(super) const PARENT_MODE: u32 = 0o755;

/// An opened folder.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
}

impl Beneath {
    /// Opens the folder. Links in `path` itself are followed: it is ours.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens a path in the folder.
    ///
    /// # Errors
    /// When the kernel cannot resolve or open it.
    pub fn open_in(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let rules = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(resolve(&self.root, path, flags, rules)?)
    }

    /// Opens a folder in the folder.
    ///
    /// # Errors
    /// When it is not there or no folder.
    pub fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_in(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a folder, and makes it and its parents where they are missing.
    ///
    /// # Errors
    /// When something else is in the way, or the disk is full.
    pub fn make_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let (parent, name) = split(path)?;
        let above = self.make_folder(parent)?;
        match rustix::fs::mkdirat(&above, &name, Mode::from_raw_mode(PARENT_MODE)) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&above, &name, flags, Mode::empty())?;
                own(&made, PARENT_MODE)?;
                Ok(made)
            }
            Err(Errno::EXIST) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("`{}` is a link that leads to no folder inside", path.display()),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// The opened parent of a path, made where it is missing, and the last component.
    ///
    /// # Errors
    /// As [`Self::make_folder`].
    pub fn make_parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let (parent, name) = split(path)?;
        Ok((self.make_folder(parent)?, name))
    }

    /// The content of a file, or `None` where there is none. Links are followed inside the folder.
    ///
    /// # Errors
    /// When it is no regular file, or longer than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // A pipe must not block the boot: NONBLOCK, then the type is looked at.
        let file = match self.open_in(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        if !file.metadata()?.is_file() {
            return Err(wrong("it is not a regular file".to_owned()));
        }
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(wrong(format!("it is longer than {limit} bytes")));
        }
        Ok(Some(content))
    }

    /// Puts a file in its place, by rename. Whatever link had the name is replaced, not followed.
    ///
    /// # Errors
    /// When a folder has the name, or the disk is full.
    pub fn replace(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name) = self.make_parent(path)?;
        let mut temporary = OsString::from(".cove-");
        temporary.push(&name);
        remove_tree(&parent, &temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let private = Mode::from_raw_mode(0o600);
        let mut file = File::from(rustix::fs::openat(&parent, &temporary, flags, private)?);
        let replaced = file
            .write_all(content)
            .and_then(|()| own(&file, mode))
            .and_then(|()| Ok(rustix::fs::renameat(&parent, &temporary, &parent, &name)?));
        if replaced.is_err() {
            rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty()).ok();
        }
        replaced
    }

    /// Writes everything on this file system to its disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}

impl AsFd for Beneath {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// A path from the host as one below the folder.
///
/// # Errors
/// When it is empty, absolute or has `..` in it.
pub fn relative(path: &str) -> io::Result<&Path> {
    let inside = Path::new(path);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let named = inside.components().any(|part| matches!(part, Component::Normal(_)));
    if named && inside.components().all(plain) && !path.contains('\0') {
        return Ok(inside);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("`{}` is not a path below the home", path.escape_debug()),
    ))
}

fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    Ok((parent, name.to_owned()))
}

/// Opens a path in a folder as the kernel resolves it by these rules. Tried again when that was interrupted, or the
/// tree changed under it.
pub(super) fn resolve(
    folder: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    rules: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(&folder, path, flags, Mode::empty(), rules);
    for _ in 1..RESOLVE_ATTEMPTS {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    open()
}

/// The names in a folder, in no order.
pub(super) fn names(folder: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Gives an open file or folder to the agent's own user, root in a guest, with exactly this mode.
///
/// # Errors
/// When the file system refuses.
pub fn own(file: impl AsFd, mode: u32) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    rustix::fs::fchown(&file, Some(user), Some(group))?;
    Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
}

/// Whether this name in a folder is a folder itself (a link to one is none).
pub fn is_folder(folder: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
