//! The contents of files: written without their runs of zeros, and where that is wanted, written and read past the
//! page cache.
//!
//! A kernel goes through its page cache page by page. Emulated, that takes four times as long as to hand a large
//! piece to the disk as it is: in the same guest 120 MB/s were written through it, and 500 past it. Small files are
//! gathered by the cache, and are quicker with it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::ArchiveError;

/// What the smallest file takes on a disk, in bytes; holes are whole blocks of it. What goes past the page cache
/// is aligned to it, in memory and on the disk.
pub(super) const BLOCK: usize = 4096;

/// How much of a file is written at once, in bytes.
const CHUNK: usize = 32 * BLOCK;

/// The same past the page cache, where each write waits for the disk.
const DIRECT_CHUNK: usize = 256 * BLOCK;

/// How the contents of large files come to the disk and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargeFiles {
    /// By the page cache, as those of small ones do.
    Cached,
    /// Past it, where the file system can do that.
    Direct,
}

impl LargeFiles {
    /// Whether a file with so much is to go past the page cache, and can.
    fn is_direct(self, size: u64, file: &File) -> bool {
        match self {
            Self::Cached => false,
            Self::Direct => size >= DIRECT_CHUNK as u64 && set_direct(file, true).is_ok(),
        }
    }
}

/// Aligned memory. One for all files of a stream: to make it takes as long as to write a small file.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// So much of it.
    fn take(&mut self, length: usize) -> &mut [u8] {
        let Self(memory) = self;
        if memory.len() < length + BLOCK {
            *memory = vec![0; length + BLOCK];
        }
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        &mut memory[start..start + length]
    }
}

/// What writes contents.
#[derive(Debug)]
pub(super) struct Contents {
    large: LargeFiles,
    buffer: Buffer,
}

impl Contents {
    pub(super) fn new(large: LargeFiles) -> Self {
        Self { large, buffer: Buffer::default() }
    }

    /// Writes so many bytes of a stream to a new file, and returns where the last that was written ends. What is
    /// about to be written is spent first.
    ///
    /// # Errors
    /// When the stream ends before, there is nothing left to spend, or the disk fails: then what `failed` makes of it.
    pub(super) fn write(
        &mut self,
        stream: &mut impl Read,
        size: u64,
        file: &File,
        mut spend: impl FnMut(u64) -> Result<(), ArchiveError>,
        failed: impl Fn(io::Error) -> ArchiveError,
    ) -> Result<u64, ArchiveError> {
        let mut writer = Writer { file, is_direct: self.large.is_direct(size, file) };
        let chunk = if writer.is_direct { DIRECT_CHUNK } else { CHUNK };
        let buffer = self.buffer.take(chunk);
        let (mut at, mut end) = (0, 0);
        while at < size {
            let length = chunk.min(usize::try_from(size - at).unwrap_or(chunk));
            stream.read_exact(&mut buffer[..length]).map_err(ArchiveError::Stream)?;
            let mut start = 0;
            while let Some((from, to)) = run(&buffer[..length], start) {
                spend((to - from) as u64)?;
                writer.write(&buffer[from..to], at + from as u64).map_err(&failed)?;
                start = to;
                end = at + to as u64;
            }
            at += length as u64;
        }
        Ok(end)
    }
}

/// A file that is being written.
struct Writer<'a> {
    file: &'a File,
    is_direct: bool,
}

impl Writer<'_> {
    /// Writes what is aligned but for the end of the file.
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is_direct && !bytes.len().is_multiple_of(BLOCK) {
            self.go_by_cache()?;
        }
        match self.file.write_all_at(bytes, at) {
            // A file system may say so only now.
            Err(error) if self.is_direct && error.kind() == io::ErrorKind::InvalidInput => {
                self.go_by_cache()?;
                self.file.write_all_at(bytes, at)
            }
            written => written,
        }
    }

    fn go_by_cache(&mut self) -> io::Result<()> {
        self.is_direct = false;
        Ok(set_direct(self.file, false)?)
    }
}

/// A file that is being read, from where it is aligned.
pub(super) struct Reader<'a> {
    file: &'a File,
    is_direct: bool,
}

impl<'a> Reader<'a> {
    /// Reads a file that has so much more.
    pub(super) fn new(file: &'a File, left: u64, large: LargeFiles) -> Self {
        Self { file, is_direct: large.is_direct(left, file) }
    }

    /// The next piece, which is empty at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next<'b>(&mut self, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
        let buffer = buffer.take(if self.is_direct { DIRECT_CHUNK } else { CHUNK });
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A file system may say so only now; and so it does where the last piece ended with the file then,
                // which has grown since.
                Err(error) if self.is_direct && error.kind() == io::ErrorKind::InvalidInput => {
                    self.is_direct = false;
                    set_direct(self.file, false)?;
                }
                read => return Ok(&buffer[..read?]),
            }
        }
    }
}

fn set_direct(file: &File, direct: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(file, flags)
}

/// The next bytes from `start` on that are not zero, as whole blocks.
fn run(buffer: &[u8], start: usize) -> Option<(usize, usize)> {
    let is_hole = |at: usize| {
        let block = &buffer[at..buffer.len().min(at + BLOCK)];
        let (words, rest) = block.as_chunks::<16>();
        words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|b| *b == 0)
    };
    let mut blocks = (start..buffer.len()).step_by(BLOCK);
    let from = blocks.find(|at| !is_hole(*at))?;
    let to = blocks.find(|at| is_hole(*at)).unwrap_or(buffer.len());
    Some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A content with holes at the beginning, across chunks and at the end.
    fn content(size: usize) -> Vec<u8> {
        let hole = |at: usize| at / BLOCK % 400 < 5 || at > size - size / 10;
        (0..size).map(|at| if hole(at) { 0 } else { (at % 251) as u8 | 1 }).collect()
    }

    #[test]
    fn contents_are_the_same_by_the_cache_and_past_it() {
        // Where temporary files lie on a disk; file systems in memory may go by the cache both times.
        let folder = tempfile::tempdir().expect("a folder");
        let sizes = [0, 1, CHUNK, DIRECT_CHUNK - 1, DIRECT_CHUNK, 5 * DIRECT_CHUNK + 12_345];
        for large in [LargeFiles::Cached, LargeFiles::Direct] {
            let mut contents = Contents::new(large);
            for size in sizes {
                let (path, expected) = (folder.path().join("file"), content(size));
                let file = File::create(&path).expect("made");
                let mut spent = 0;
                let end = contents.write(
                    &mut &expected[..],
                    size as u64,
                    &file,
                    |bytes| {
                        spent += bytes;
                        Ok(())
                    },
                    ArchiveError::Stream,
                );
                let end = end.expect("written");
                file.set_len(size as u64).expect("set");
                assert!(std::fs::read(&path).expect("read") == expected, "{large:?} {size}");
                assert!(end <= size as u64 && spent <= end, "{large:?} {size}: {spent} to {end}");
                let file = File::open(&path).expect("opened");
                let mut reader = Reader::new(&file, size as u64, large);
                let (mut buffer, mut read) = (Buffer::default(), Vec::new());
                while let piece = reader.next(&mut buffer).expect("read")
                    && !piece.is_empty()
                {
                    read.extend_from_slice(piece);
                }
                assert!(read == expected, "{large:?} {size}");
            }
        }
    }

    #[test]
    fn what_is_not_to_be_spent_is_not_written() {
        let file = tempfile::tempfile().expect("made");
        let mut contents = Contents::new(LargeFiles::Direct);
        let content = vec![1; 3 * DIRECT_CHUNK];
        let mut left = 2 * DIRECT_CHUNK as u64;
        let written = contents.write(
            &mut &content[..],
            content.len() as u64,
            &file,
            |bytes| {
                left = left.checked_sub(bytes).ok_or(ArchiveError::NoRoom { room: 0 })?;
                Ok(())
            },
            ArchiveError::Stream,
        );
        assert!(matches!(written, Err(ArchiveError::NoRoom { .. })), "{written:?}");
        assert_eq!(file.metadata().expect("read").len(), 2 * DIRECT_CHUNK as u64);
    }
}
