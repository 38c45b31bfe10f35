//! Files and folders at paths below an opened folder. No path leads through a link.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::agent::beneath::{self, names};

/// How deep what comes may be: deeper folders are no doing of people.
const MAX_DEPTH: usize = 120;

/// How folders are opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// What lies in a folder, but for what is in `.git` at its root.
pub(super) struct Listing {
    /// Everything that is no folder.
    pub(super) files: BTreeSet<Vec<u8>>,
    /// The folders.
    pub(super) folders: Vec<Vec<u8>>,
}

impl Listing {
    /// Reads all of it.
    pub(super) fn of(root: &OwnedFd) -> io::Result<Self> {
        Self::below(root, b"")
    }

    /// The same of a folder in it, with paths from the root.
    pub(super) fn below(root: &OwnedFd, folder: &[u8]) -> io::Result<Self> {
        let mut list = Self { files: BTreeSet::new(), folders: Vec::new() };
        let mut to_read = vec![folder.to_vec()];
        while let Some(folder) = to_read.pop() {
            if folder.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
                let why = format!("`{}` is more than {MAX_DEPTH} folders deep", shown(&folder));
                return Err(io::Error::other(why));
            }
            let opened = open(root, if folder.is_empty() { b"." } else { &folder }, DIRECTORY)?;
            for name in names(&opened)? {
                let path = match folder.is_empty() {
                    true => name.as_bytes().to_vec(),
                    false => [&folder[..], b"/", name.as_bytes()].concat(),
                };
                match beneath::is_folder(&opened, &name) {
                    true if path == b".git" => {}
                    true => {
                        to_read.push(path.clone());
                        list.folders.push(path);
                    }
                    false => {
                        list.files.insert(path);
                    }
                }
            }
        }
        Ok(list)
    }
}

/// Opens a path below a folder, through no link and on the same file system.
fn open(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let rules = beneath::NO_LINKS | ResolveFlags::NO_XDEV;
    beneath::resolve(root, path, flags | OFlags::NOFOLLOW, rules)
}

/// What lies at a path; nothing where it leads through a link.
pub(super) fn kind(root: &OwnedFd, path: &[u8]) -> io::Result<Option<FileType>> {
    // `O_PATH` opens a link itself, and the flag against links on the way would refuse it.
    let (above, name) = split(path);
    let above = match open(root, above, DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(Errno::XDEV) => return Err(elsewhere(path)),
        above => above?,
    };
    match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => Ok(Some(FileType::from_raw_mode(stat?.st_mode))),
    }
}

/// That something is where nothing can be renamed to.
pub(super) fn elsewhere(path: &[u8]) -> io::Error {
    let why = "lies on a file system of its own, into which nothing can be put as a whole";
    io::Error::other(format!("`{}` {why}", shown(path)))
}

/// A path's folder and its last part.
fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], OsStr::from_bytes(&path[at + 1..])),
        None => (b".", OsStr::from_bytes(path)),
    }
}

/// Takes a file or a link out, and the folders that are empty then.
pub(super) fn take_out(root: &OwnedFd, path: &[u8]) -> io::Result<()> {
    let (mut above, mut name) = split(path);
    let mut flags = AtFlags::empty();
    loop {
        let folder = match open(root, above, DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            folder => folder?,
        };
        match rustix::fs::unlinkat(&folder, name, flags) {
            // It is gone already.
            Ok(()) | Err(Errno::NOENT) => {}
            // There is more in it, or it is a folder by now.
            Err(_) if flags == AtFlags::REMOVEDIR || beneath::is_folder(&folder, name) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        if above == b"." {
            return Ok(());
        }
        (above, name) = split(above);
        flags = AtFlags::REMOVEDIR;
    }
}

/// Moves everything in a folder into another. Of `.git`, which comes last, the objects come first.
pub(super) fn put_in(from: &OwnedFd, to: &OwnedFd, path: &Path) -> io::Result<()> {
    let mut names = names(from)?;
    names.sort_by_key(|name| (name == ".git", name != "objects", name.clone()));
    names.iter().try_for_each(|name| put_in_one(from, to, path, name))
}

/// Moves everything but `.git` in a folder into another.
pub(super) fn put_in_files(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let names = names(from)?;
    let mut files = names.iter().filter(|name| *name != ".git");
    files.try_for_each(|name| put_in_one(from, to, Path::new(""), name))
}

/// Moves what has this name in a folder, which lies at `path`, into another.
fn put_in_one(from: &OwnedFd, to: &OwnedFd, path: &Path, name: &OsStr) -> io::Result<()> {
    let path = path.join(name);
    let cannot = |error: io::Error| {
        let shown = shown(path.as_os_str().as_bytes());
        io::Error::new(error.kind(), format!("cannot put in `{shown}`: {error}"))
    };
    if !beneath::is_folder(from, name) {
        return replace(from, to, name).map_err(cannot);
    }
    let below = make(to, name).map_err(cannot)?;
    put_in(&open(from, name.as_bytes(), DIRECTORY)?, &below, &path)?;
    // So that removing what is left need not go deep.
    rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR).ok();
    Ok(())
}

/// A folder in a folder, made where it is missing.
fn make(above: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            let made = open(above, name.as_bytes(), DIRECTORY)?;
            beneath::own(&made, 0o755)?;
            Ok(made)
        }
        Err(Errno::EXIST) => Ok(open(above, name.as_bytes(), DIRECTORY)?),
        Err(error) => Err(error.into()),
    }
}

/// Puts a file in its place, also in that of folders with nothing in them.
fn replace(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let rename = || rustix::fs::renameat(from, name, to, name);
    match rename() {
        Err(Errno::ISDIR) => {
            remove_empty(to, name)?;
            Ok(rename()?)
        }
        renamed => Ok(renamed?),
    }
}

/// Removes a folder in which there is nothing but folders.
fn remove_empty(above: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let folder = open(above, name.as_bytes(), DIRECTORY)?;
    for name in names(&folder)? {
        if beneath::is_folder(&folder, &name) {
            remove_empty(&folder, &name)?;
        }
    }
    Ok(rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR)?)
}

/// A path as messages have it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}
