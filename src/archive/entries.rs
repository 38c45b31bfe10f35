//! The entries of a stream, as [`unpack`](super::unpack()) takes them.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::{NAME_IN_HEADER, time};

/// The length of a block of a tar stream in bytes.
const BLOCK: usize = 512;

/// The permission bits that are kept. A program that runs as its owner must not become one that runs as the
/// receiver.
const PERMISSIONS: u32 = 0o777;

/// What is kept of an entry besides name and content.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Its mode.
    pub mode: u32,
    /// When it was changed: seconds, and nanoseconds that count forward from them.
    pub modified: (i64, i64),
}

/// Writes the entries of a stream. Its errors are those of who takes it.
#[derive(Debug)]
pub struct Entries<Sink>(Sink);

impl<Sink: Write> Entries<Sink> {
    /// Into this.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        Self(sink)
    }

    /// A folder. What is in it follows.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn folder(&mut self, path: &[u8], attributes: &Attributes) -> io::Result<()> {
        self.announce(EntryType::Directory, 0, attributes, path, &[])
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn link(&mut self, path: &[u8], attributes: &Attributes, target: &[u8]) -> io::Result<()> {
        self.announce(EntryType::Symlink, 0, attributes, path, target)
    }

    /// A file of this size. Its content follows, then its end.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn file(&mut self, path: &[u8], attributes: &Attributes, size: u64) -> io::Result<()> {
        self.announce(EntryType::Regular, size, attributes, path, &[])
    }

    /// Some of a file's content.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// The end of a content of this size.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn end_file(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        if over == 0 { Ok(()) } else { self.0.write_all(&[0; BLOCK][over..]) }
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        self.0.flush()
    }

    /// Writes what stands in front of a content: a header, and before it what has no room in it.
    fn announce(
        &mut self,
        kind: EntryType,
        size: u64,
        attributes: &Attributes,
        path: &[u8],
        target: &[u8],
    ) -> io::Result<()> {
        let (seconds, nanoseconds) = attributes.modified;
        let record = time::write(seconds, nanoseconds);
        self.extension(EntryType::XHeader, &pax(time::KEY, &record))?;
        for (kind, name) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, target)] {
            if name.len() > NAME_IN_HEADER {
                self.extension(kind, &[name, b"\0"].concat())?;
            }
        }
        let mut header = header(kind, attributes);
        header.set_size(size);
        put(&mut header.as_old_mut().name, path);
        put(&mut header.as_old_mut().linkname, target);
        header.set_cksum();
        self.0.write_all(header.as_bytes())
    }

    fn extension(&mut self, kind: EntryType, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        put(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        self.0.write_all(content)?;
        self.end_file(content.len() as u64)
    }
}

fn header(kind: EntryType, attributes: &Attributes) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(attributes.mode & PERMISSIONS);
    header.set_uid(0);
    header.set_gid(0);
    // Readers of our own take the finer one, in front of it.
    header.set_mtime(u64::try_from(attributes.modified.0).unwrap_or_default());
    header
}

/// One record of an extended header: its length, itself included, then key and value.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}

/// Puts as much of `name` into a header's field as fits.
fn put(field: &mut [u8; NAME_IN_HEADER], name: &[u8]) {
    let length = name.len().min(NAME_IN_HEADER);
    field[..length].copy_from_slice(&name[..length]);
}
