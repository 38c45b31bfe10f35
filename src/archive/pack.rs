//! Packing a file or a tree.
//!
//! The tree may be changing, and may be made to be awkward: nothing is opened by a path of more than one name,
//! no link is followed, pipes and devices are not opened. What goes away while it is being packed is not in the
//! stream. A file that grows is copied as long as it was once its beginning had been read; one that becomes
//! shorter while it is being read fails the whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::content::{Buffer, LargeFiles, Reader};
use super::entries::{Attributes, Entries};
use super::{ArchiveError, MAX_DEPTH, TOP};
use crate::wire::guest::{CopyKind, Skipped};

/// Files below this are read before they are announced: those of `/proc` and `/sys` have no size that is true.
const SMALL: u64 = 64 * 1024;

/// Something that is to be packed.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    node: Node,
}

/// What is behind a name.
#[derive(Debug)]
enum Node {
    File(File, Stat),
    Folder(OwnedFd, Stat),
    Link(Vec<u8>, Stat),
    Special,
}

impl Node {
    /// Opens what has this name; none where nothing has it.
    fn open(folder: impl AsFd, name: &OsStr) -> io::Result<Option<Self>> {
        match Self::open_there(folder.as_fd(), name) {
            Ok(node) => Ok(Some(node)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open_there(folder: impl AsFd, name: &OsStr) -> rustix::io::Result<Self> {
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        // A pipe that came in the place of a file must not block.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |more| rustix::fs::openat(&folder, name, flags | more, Mode::empty());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file = open(OFlags::NOCTTY)?;
                let stat = rustix::fs::fstat(&file)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => Ok(Self::File(file.into(), stat)),
                    _ => Ok(Self::Special),
                }
            }
            FileType::Directory => {
                let folder = open(OFlags::DIRECTORY)?;
                let stat = rustix::fs::fstat(&folder)?;
                Ok(Self::Folder(folder, stat))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
                Ok(Self::Link(target.into_bytes(), stat))
            }
            _ => Ok(Self::Special),
        }
    }
}

impl Source {
    /// Opens what is to be packed. The folders above it may be links; it itself is not followed.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is neither file, folder nor link.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let node = match Node::open(CWD, path.as_os_str()) {
            Ok(Some(node)) => node,
            Ok(None) => return Err(ArchiveError::Missing { path: path.to_owned() }),
            Err(source) => return Err(ArchiveError::Read { path: path.to_owned(), source }),
        };
        match node {
            Node::Special => Err(ArchiveError::Special { path: path.to_owned() }),
            node => Ok(Self { path: path.to_owned(), node }),
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> CopyKind {
        match &self.node {
            Node::Folder(..) => CopyKind::Folder,
            Node::Link(..) => CopyKind::Link,
            Node::File(..) | Node::Special => CopyKind::File,
        }
    }

    /// Writes it to `sink` as a tar stream in which it has the name [`TOP`], and flushes. Returns what was left
    /// out.
    ///
    /// # Errors
    /// When something of it cannot be read, or nobody takes the stream.
    pub fn pack(self, sink: impl Write, large: LargeFiles) -> Result<Skipped, ArchiveError> {
        let (entries, buffer, skipped) =
            (Entries::new(sink), Buffer::default(), Skipped::default());
        let mut packer = Packer { entries, source: self.path, large, buffer, skipped };
        let mut path = TOP.as_bytes().to_vec();
        packer.node(self.node, &mut path, 0)?;
        packer.entries.finish().map_err(ArchiveError::Stream)?;
        Ok(packer.skipped)
    }
}

struct Packer<Sink> {
    entries: Entries<Sink>,
    /// Where the source is, for messages.
    source: PathBuf,
    large: LargeFiles,
    buffer: Buffer,
    skipped: Skipped,
}

impl<Sink: Write> Packer<Sink> {
    fn node(&mut self, node: Node, path: &mut Vec<u8>, depth: usize) -> Result<(), ArchiveError> {
        match node {
            Node::File(file, stat) => self.file(&file, &stat, path),
            Node::Folder(folder, stat) => {
                let begun = self.entries.folder(path, &attributes(&stat));
                begun.map_err(ArchiveError::Stream)?;
                self.folder(folder, path, depth)
            }
            Node::Link(target, stat) => {
                let link = self.entries.link(path, &attributes(&stat), &target);
                link.map_err(ArchiveError::Stream)
            }
            Node::Special => {
                let first = self.shown(path);
                self.skipped.count += 1;
                self.skipped.first.get_or_insert_with(|| first.to_string_lossy().into_owned());
                Ok(())
            }
        }
    }

    fn folder(
        &mut self,
        folder: OwnedFd,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ArchiveError> {
        let shown = self.shown(path);
        let read = |source| ArchiveError::Read { path: shown.clone(), source };
        if depth == MAX_DEPTH {
            return Err(read(io::Error::other(format!(
                "it is more than {MAX_DEPTH} folders deep"
            ))));
        }
        let mut entries = Dir::new(folder).map_err(|error| read(error.into()))?;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| read(error.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            let folder = entries.fd().map_err(|error| read(error.into()))?;
            let node = Node::open(folder, name);
            let node =
                node.map_err(|source| ArchiveError::Read { path: self.shown(path), source })?;
            // What is not there any more was removed meanwhile.
            if let Some(node) = node {
                self.node(node, path, depth + 1)?;
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn file(&mut self, file: &File, stat: &Stat, path: &[u8]) -> Result<(), ArchiveError> {
        let shown = self.shown(path);
        let failed = |source| ArchiveError::Read { path: shown.clone(), source };
        let mut beginning = Vec::new();
        file.take(SMALL).read_to_end(&mut beginning).map_err(failed)?;
        let size = match beginning.len() as u64 {
            SMALL => size(file, stat).map_err(failed)?,
            whole => whole,
        };
        self.entries.file(path, &attributes(stat), size).map_err(ArchiveError::Stream)?;
        let beginning =
            &beginning[..usize::try_from(size).unwrap_or(usize::MAX).min(beginning.len())];
        self.entries.content(beginning).map_err(ArchiveError::Stream)?;
        let mut left = size - beginning.len() as u64;
        let mut reader = Reader::new(file, left, self.large).map_err(failed)?;
        while left > 0 {
            let piece = reader.next(&mut self.buffer).map_err(failed)?;
            if piece.is_empty() {
                return Err(failed(io::Error::other("it became shorter while it was being read")));
            }
            let piece = &piece[..usize::try_from(left).unwrap_or(usize::MAX).min(piece.len())];
            self.entries.content(piece).map_err(ArchiveError::Stream)?;
            left -= piece.len() as u64;
        }
        self.entries.end_file(size).map_err(ArchiveError::Stream)
    }

    /// A path of the stream as one of the source.
    fn shown(&self, path: &[u8]) -> PathBuf {
        match path[TOP.len()..].strip_prefix(b"/") {
            Some(inside) => self.source.join(OsStr::from_bytes(inside)),
            None => self.source.clone(),
        }
    }
}

fn attributes(stat: &Stat) -> Attributes {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Attributes { mode: stat.st_mode, modified: (stat.st_mtime, nanoseconds) }
}

/// How much is taken of a file that has [`SMALL`] bytes at least: what it had when it was opened; of one that was
/// smaller then and has grown since, what it has now.
fn size(file: &File, opened: &Stat) -> io::Result<u64> {
    let length = |stat: &Stat| u64::try_from(stat.st_size).unwrap_or_default();
    match length(opened) {
        announced @ SMALL.. => Ok(announced),
        _ => match length(&rustix::fs::fstat(file)?) {
            grown @ SMALL.. => Ok(grown),
            _ => Err(io::Error::other("it is longer than it says")),
        },
    }
}
