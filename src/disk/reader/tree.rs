//! What is on a disk as a tar stream: the same as a guest that runs makes of it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::ReadError;
use super::ext4::{Ext4, Inode, Kind};
use crate::archive::{ArchiveError, Attributes, Entries, Limits, MAX_DEPTH, TOP};
use crate::wire::guest::Skipped;

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 128 * 1024;

/// Writes what is at `path` to `sink`. Returns what was left out.
pub(super) fn pack(
    system: &Ext4,
    path: &Path,
    what: &Inode,
    sink: impl Write,
) -> Result<Skipped, ReadError> {
    let (entries, skipped) = (Entries::new(sink), Skipped::default());
    let mut packer = Packer { system, entries, path, skipped, left: Limits::default() };
    packer.node(what, &mut TOP.as_bytes().to_vec(), 0)?;
    packer.entries.finish().map_err(ArchiveError::Stream)?;
    Ok(packer.skipped)
}

struct Packer<'a, Sink> {
    system: &'a Ext4,
    entries: Entries<Sink>,
    /// Where it is in the guest, for messages.
    path: &'a Path,
    skipped: Skipped,
    /// A damaged disk can have one folder in itself, or one file of 16 TiB a thousand times.
    left: Limits,
}

impl<Sink: Write> Packer<'_, Sink> {
    fn node(&mut self, node: &Inode, path: &mut Vec<u8>, depth: usize) -> Result<(), ReadError> {
        let attributes = Attributes { mode: node.mode, modified: node.modified };
        let Some(left) = self.left.entries.checked_sub(1) else {
            return Err(self.failed(path, "it has too many files, folders and links"));
        };
        self.left.entries = left;
        match node.kind {
            Kind::File => self.file(node, &attributes, path),
            Kind::Folder => {
                self.entries.folder(path, &attributes).map_err(ArchiveError::Stream)?;
                self.folder(node, path, depth)
            }
            Kind::Link => {
                let target = self.system.target(node)?;
                let link = self.entries.link(path, &attributes, &target);
                Ok(link.map_err(ArchiveError::Stream)?)
            }
            Kind::Special => {
                let first = self.shown(path).to_string_lossy().into_owned();
                self.skipped.count += 1;
                self.skipped.first.get_or_insert(first);
                Ok(())
            }
        }
    }

    fn folder(
        &mut self,
        folder: &Inode,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ReadError> {
        if depth == MAX_DEPTH {
            return Err(self.failed(path, &format!("it is more than {MAX_DEPTH} folders deep")));
        }
        let system = self.system;
        let none = system.names(folder, |entries| {
            for entry in entries {
                let length = path.len();
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                self.node(&system.inode(entry.inode)?, path, depth + 1)?;
                path.truncate(length);
            }
            Ok::<Option<()>, ReadError>(None)
        });
        none.map(drop)
    }

    fn file(
        &mut self,
        file: &Inode,
        attributes: &Attributes,
        path: &[u8],
    ) -> Result<(), ReadError> {
        let Some(left) = self.left.bytes.checked_sub(file.size) else {
            return Err(self.failed(path, "its files have more bytes than any disk"));
        };
        self.left.bytes = left;
        let content = self.system.content(file)?;
        self.entries.file(path, attributes, file.size).map_err(ArchiveError::Stream)?;
        let (mut at, mut buffer) = (0, vec![0; CHUNK]);
        while at < file.size {
            let length = CHUNK.min(usize::try_from(file.size - at).unwrap_or(CHUNK));
            content.read(at, &mut buffer[..length])?;
            self.entries.content(&buffer[..length]).map_err(ArchiveError::Stream)?;
            at += length as u64;
        }
        Ok(self.entries.end_file(file.size).map_err(ArchiveError::Stream)?)
    }

    fn failed(&self, path: &[u8], why: &str) -> ReadError {
        ArchiveError::Read { path: self.shown(path), source: io::Error::other(why) }.into()
    }

    /// A path of the stream as one in the guest.
    fn shown(&self, path: &[u8]) -> PathBuf {
        match path[TOP.len()..].strip_prefix(b"/") {
            Some(inside) => self.path.join(OsStr::from_bytes(inside)),
            None => self.path.to_owned(),
        }
    }
}
