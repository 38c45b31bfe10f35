//! Unpacking a stream that anybody may have made.
//!
//! Folders are opened one name at a time, below the folder it all goes into, and never through a link: no path
//! of the stream can lead out, whatever else the stream has made before. Every file is new. A folder gets its
//! mode and its time when the stream has left it, since both hold only once nothing more is made in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::before::Before;
use super::content::{BLOCK, Contents, LargeFiles};
use super::limits::{Bits, Limits};
use super::place::is_name;
use super::{ArchiveError, MAX_DEPTH, MAX_TARGET, hostile, time};

/// How much may follow the archive's end, in bytes: padding.
const MAX_PADDING: u64 = 64 * 1024;

/// The permission bits of folders of which the stream says nothing.
const UNSAID_MODE: u32 = 0o755;

/// What is made before its mode is known is for its owner alone.
const PRIVATE_FOLDER: u32 = 0o700;

/// What a file has of its mode from the beginning: what lets a program run as its owner comes last.
const PERMISSIONS: u32 = 0o777;

/// Unpacks a tar stream into a folder, and reads the stream to its end.
///
/// # Errors
/// When the stream breaks off, is no plain tree of files, folders and links or too large, or the disk is full.
/// What has come by then is in the folder.
pub fn unpack(
    folder: BorrowedFd<'_>,
    stream: impl Read,
    bits: Bits,
    limits: Limits,
    large: LargeFiles,
) -> Result<(), ArchiveError> {
    let base = folder.try_clone_to_owned();
    let base = base.map_err(|source| ArchiveError::Write { path: PathBuf::from("."), source })?;
    let mut unpacker = Unpacker {
        base: Level::new(base, Vec::new()),
        levels: Vec::new(),
        bits,
        limits,
        left: limits,
        contents: Contents::new(large),
    };
    let mut archive = Archive::new(stream);
    let mut before = Before::default();
    for entry in archive.entries().map_err(ArchiveError::Stream)?.raw(true) {
        let mut entry = entry.map_err(ArchiveError::Stream)?;
        if !before.take(&mut entry)? {
            unpacker.entry(&mut entry, &std::mem::take(&mut before))?;
        }
    }
    unpacker.leave(0)?;
    unpacker.base.finish(bits).map_err(|source| failed(b"", source))?;
    // What follows the archive's end is padding, but only the end of the stream says that it is whole.
    let rest = io::copy(&mut archive.into_inner().take(MAX_PADDING + 1), &mut io::sink());
    match rest.map_err(ArchiveError::Stream)? {
        0..=MAX_PADDING => Ok(()),
        _ => Err(hostile("the stream goes on after its end".to_owned())),
    }
}

/// A folder that the stream is in.
#[derive(Debug)]
struct Level {
    folder: OwnedFd,
    name: Vec<u8>,
    /// What it gets when the stream has left it.
    mode: Option<u32>,
    modified: Timespec,
}

impl Level {
    fn new(folder: OwnedFd, name: Vec<u8>) -> Self {
        Self { folder, name, mode: None, modified: time::UNTOUCHED }
    }

    fn finish(&self, bits: Bits) -> io::Result<()> {
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&self.folder, bits.of(mode))?;
        }
        Ok(rustix::fs::futimens(&self.folder, &times(self.modified))?)
    }
}

struct Unpacker {
    base: Level,
    /// The folders down to where the stream is.
    levels: Vec<Level>,
    bits: Bits,
    limits: Limits,
    left: Limits,
    contents: Contents,
}

impl Unpacker {
    fn entry(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        before: &Before,
    ) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        let path = before.path.clone().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
            let shown = shown(&path);
            return Err(hostile(format!("`{shown}` is neither file, folder nor link ({kind:?})")));
        }
        if !kind.is_file() && entry.size() > 0 {
            return Err(hostile(format!("`{}` is no file, and has a content", shown(&path))));
        }
        let names = names(&path)?;
        // A folder is counted where it is made.
        if !kind.is_dir() || names.is_empty() {
            self.count(&path)?;
        }
        let wrong = |_| hostile(format!("`{}` has no sound header", shown(&path)));
        let mode = entry.header().mode().map_err(wrong)?;
        let modified = match before.modified {
            Some(modified) => modified,
            None => whole_seconds(entry.header().mtime().map_err(wrong)?),
        };
        let Some((name, parents)) = names.split_last() else {
            if kind != EntryType::Directory {
                return Err(hostile(format!("`{}` is not a path below the tree", shown(&path))));
            }
            self.leave(0)?;
            (self.base.mode, self.base.modified) = (Some(mode), modified);
            return Ok(());
        };
        if kind.is_dir() {
            let before = self.left.entries;
            self.enter(&names)?;
            if self.left.entries == before {
                self.count(&path)?;
            }
            let level = self.levels.last_mut().unwrap_or(&mut self.base);
            (level.mode, level.modified) = (Some(mode), modified);
            return Ok(());
        }
        let parent = self.enter(parents)?.folder.as_fd();
        if kind.is_symlink() {
            let made = link(parent, OsStr::from_bytes(name), &target(entry, before), modified);
            return made.map_err(|source| failed(&path, source));
        }
        self.file(entry, &names, self.bits.of(mode), modified)
    }

    /// Goes to the folder of these names; folders that are missing are made.
    fn enter(&mut self, names: &[&[u8]]) -> Result<&mut Level, ArchiveError> {
        let inside = self.levels.iter().zip(names);
        let common = inside.take_while(|(level, name)| level.name == **name).count();
        self.leave(common)?;
        for name in &names[common..] {
            let above = self.levels.last().unwrap_or(&self.base);
            let level = folder(above.folder.as_fd(), name);
            let level = level.map_err(|source| failed(&names.join(&b'/'), source))?;
            let is_new = level.mode.is_some();
            self.levels.push(level);
            // One that is only on the way of an entry takes as much as one that is an entry itself.
            if is_new {
                self.count(&names.join(&b'/'))?;
            }
        }
        Ok(self.levels.last_mut().unwrap_or(&mut self.base))
    }

    /// Leaves folders until so many are left.
    fn leave(&mut self, left: usize) -> Result<(), ArchiveError> {
        while self.levels.len() > left {
            let Some(level) = self.levels.pop() else { break };
            level.finish(self.bits).map_err(|source| failed(&level.name, source))?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        names: &[&[u8]],
        mode: Mode,
        modified: Timespec,
    ) -> Result<(), ArchiveError> {
        let path = names.join(&b'/');
        let size = entry.size();
        self.left.bytes = self.left.bytes.checked_sub(size).ok_or_else(|| {
            hostile(format!("its files have more than {} bytes", self.limits.bytes))
        })?;
        let parent = self.levels.last().unwrap_or(&self.base);
        let name = OsStr::from_bytes(names.last().copied().unwrap_or_default());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let permissions = mode & Mode::from_raw_mode(PERMISSIONS);
        let made = rustix::fs::openat(&parent.folder, name, flags, permissions);
        let file = File::from(made.map_err(|error| failed(&path, error.into()))?);
        let (left, room) = (&mut self.left, self.limits.room);
        let written = self.contents.write(
            entry,
            size,
            &file,
            |bytes| spend(left, bytes, room),
            |source| failed(&path, source),
        )?;
        // Only what is otherwise is set: each is a change that the file system has to write down.
        let finish = || -> io::Result<()> {
            if written < size {
                file.set_len(size)?;
            }
            if Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != mode {
                rustix::fs::fchmod(&file, mode)?;
            }
            Ok(rustix::fs::futimens(&file, &times(modified))?)
        };
        finish().map_err(|source| failed(&path, source))
    }

    /// Counts one entry, which takes a block at least.
    fn count(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.left.entries = self.left.entries.checked_sub(1).ok_or_else(|| {
            let (most, path) = (self.limits.entries, shown(path));
            hostile(format!("it has more than {most} files, folders and links, as of `{path}`"))
        })?;
        spend(&mut self.left, BLOCK as u64, self.limits.room)
    }
}

/// Takes so much of the room that is left; at the beginning there was `room`.
fn spend(left: &mut Limits, bytes: u64, room: u64) -> Result<(), ArchiveError> {
    left.room = left.room.checked_sub(bytes).ok_or(ArchiveError::NoRoom { room })?;
    Ok(())
}

fn failed(path: &[u8], source: io::Error) -> ArchiveError {
    let source = match source.kind() {
        io::ErrorKind::AlreadyExists => io::Error::other("it is in the stream twice"),
        _ => source,
    };
    ArchiveError::Write { path: PathBuf::from(OsStr::from_bytes(path)), source }
}

/// Opens a folder in a folder, or makes it.
fn folder(above: BorrowedFd<'_>, name: &[u8]) -> io::Result<Level> {
    let name = OsStr::from_bytes(name);
    let made = rustix::fs::mkdirat(above, name, Mode::from_raw_mode(PRIVATE_FOLDER));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(above, name, flags, Mode::empty());
    let name = name.as_bytes().to_vec();
    match made {
        Ok(()) => Ok(Level { mode: Some(UNSAID_MODE), ..Level::new(open()?, name) }),
        Err(Errno::EXIST) => match open() {
            Ok(folder) => Ok(Level::new(folder, name)),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                Err(io::Error::other("something that is no folder is in its place"))
            }
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn target(entry: &Entry<'_, impl Read>, before: &Before) -> Vec<u8> {
    let in_header = || entry.header().link_name_bytes().unwrap_or_default().into_owned();
    before.target.clone().unwrap_or_else(in_header)
}

fn link(parent: BorrowedFd<'_>, name: &OsStr, target: &[u8], modified: Timespec) -> io::Result<()> {
    if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
        return Err(io::Error::other("it is a link that leads nowhere"));
    }
    rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name)?;
    Ok(rustix::fs::utimensat(parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The names in a path, which must lead down.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, ArchiveError> {
    let wrong = || hostile(format!("`{}` is not a path below the tree", shown(path)));
    if path.is_empty() || path[0] == b'/' {
        return Err(wrong());
    }
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let names: Vec<&[u8]> = parts.collect();
    if names.len() > MAX_DEPTH + 1 {
        return Err(hostile(format!("the tree is more than {MAX_DEPTH} folders deep")));
    }
    if names.iter().all(|name| is_name(OsStr::from_bytes(name))) { Ok(names) } else { Err(wrong()) }
}

fn whole_seconds(seconds: u64) -> Timespec {
    Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 }
}

fn times(modified: Timespec) -> Timestamps {
    Timestamps { last_access: modified, last_modification: modified }
}

fn shown(name: &[u8]) -> String {
    super::shown(OsStr::from_bytes(name).as_ref())
}
