//! The contents of files: written without their runs of zeros, and where that is wanted, written and read past the
//! page cache.
//!
//! A kernel goes through its page cache page by page. Emulated, that takes four times as long as to hand a large
//! piece to the disk as it is: in the same guest 120 MB/s were written through it, and 500 past it. Small files are
//! gathered by the cache, and are quicker with it.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;

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

/// How many such pieces of a file that is read are in memory at once: one on its way from the disk, and one with
/// whoever takes them.
const AHEAD: usize = 2;

/// The same of a file that is written: two more, with which whoever brings them need not wait for a busy disk. That takes
/// one in a millisecond, and the next one in ten.
const BEHIND: usize = 4;

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

/// Aligned memory. The same for all files of a stream: to make it takes as long as to write a small file.
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
    buffers: Vec<Buffer>,
}

impl Contents {
    pub(super) fn new(large: LargeFiles) -> Self {
        Self { large, buffers: Vec::new() }
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
        spend: impl FnMut(u64) -> Result<(), ArchiveError>,
        failed: impl Fn(io::Error) -> ArchiveError,
    ) -> Result<u64, ArchiveError> {
        let mut writer = Writer { file, is_direct: self.large.is_direct(size, file) };
        let chunk = if writer.is_direct { DIRECT_CHUNK } else { CHUNK };
        let mut cutter = Cutter { stream, size, chunk, at: 0, end: 0, spend };
        if writer.is_direct {
            return self.write_beside(writer, cutter, failed);
        }
        while let Some(buffer) = cutter.buffer(|| Some(self.buffers.pop().unwrap_or_default())) {
            let mut piece = cutter.next(buffer)?;
            writer.write(&mut piece).map_err(&failed)?;
            self.buffers.push(piece.buffer);
        }
        Ok(cutter.end)
    }

    /// The same, with a thread by which the disk takes one piece while the next one comes.
    fn write_beside(
        &mut self,
        mut writer: Writer<'_>,
        mut cutter: Cutter<impl Read, impl FnMut(u64) -> Result<(), ArchiveError>>,
        failed: impl Fn(io::Error) -> ArchiveError,
    ) -> Result<u64, ArchiveError> {
        let (full, pieces) = mpsc::sync_channel::<Piece>(BEHIND);
        let (back, empty) = mpsc::sync_channel(BEHIND);
        let buffers = &mut self.buffers;
        buffers.resize_with(BEHIND, Buffer::default);
        thread::scope(|scope| {
            let disk = move || -> io::Result<()> {
                for mut piece in pieces {
                    writer.write(&mut piece)?;
                    back.send(piece.buffer).ok();
                }
                Ok(())
            };
            let disk = thread::Builder::new().name("disk".to_owned()).spawn_scoped(scope, disk);
            let disk = disk.map_err(&failed)?;
            // Where no buffer comes back, and where a piece is not taken, the disk has failed.
            while let Some(buffer) = cutter.buffer(|| buffers.pop().or_else(|| empty.recv().ok()))
                && full.send(cutter.next(buffer)?).is_ok()
            {}
            drop(full);
            disk.join().expect("writing to a disk does not panic").map_err(&failed)?;
            buffers.extend(empty.try_iter());
            Ok(cutter.end)
        })
    }
}

/// Cuts a stream into the pieces of a content.
struct Cutter<Stream, Spend> {
    stream: Stream,
    size: u64,
    /// How long a piece is; the last one may be shorter.
    chunk: usize,
    at: u64,
    /// Where what is written ends.
    end: u64,
    spend: Spend,
}

impl<Stream: Read, Spend: FnMut(u64) -> Result<(), ArchiveError>> Cutter<Stream, Spend> {
    /// A buffer for the next piece, if there is one.
    fn buffer(&self, take: impl FnOnce() -> Option<Buffer>) -> Option<Buffer> {
        if self.at < self.size { take() } else { None }
    }

    fn next(&mut self, mut buffer: Buffer) -> Result<Piece, ArchiveError> {
        let (at, chunk) = (self.at, self.chunk);
        let length = chunk.min(usize::try_from(self.size - at).unwrap_or(chunk));
        let bytes = &mut buffer.take(chunk)[..length];
        self.stream.read_exact(bytes).map_err(ArchiveError::Stream)?;
        let runs: Vec<Range<usize>> = runs(bytes).collect();
        runs.iter().try_for_each(|run| (self.spend)(run.len() as u64))?;
        self.at += length as u64;
        self.end = runs.last().map_or(self.end, |run| at + run.end as u64);
        Ok(Piece { at, buffer, length, runs })
    }
}

/// A piece of a content, with what is to be written of it.
struct Piece {
    at: u64,
    buffer: Buffer,
    length: usize,
    runs: Vec<Range<usize>>,
}

/// A file that is being written.
struct Writer<'a> {
    file: &'a File,
    is_direct: bool,
}

impl Writer<'_> {
    fn write(&mut self, piece: &mut Piece) -> io::Result<()> {
        let Piece { at, buffer, length, runs } = piece;
        let bytes = buffer.take(*length);
        runs.iter().try_for_each(|run| self.write_run(&bytes[run.clone()], *at + run.start as u64))
    }

    /// Writes what is aligned but for the end of the file.
    fn write_run(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
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
pub(super) enum Reader<'a> {
    /// By the page cache, which reads ahead itself.
    Cached(&'a File),
    /// Past it, by a thread that reads ahead.
    Ahead(Ahead),
}

impl<'a> Reader<'a> {
    /// Reads a file that has so much more.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn new(file: &'a File, left: u64, large: LargeFiles) -> io::Result<Self> {
        match large.is_direct(left, file) {
            true => Ahead::start(file.try_clone()?, left).map(Self::Ahead),
            false => Ok(Self::Cached(file)),
        }
    }

    /// The next piece, which is empty at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next<'b>(&mut self, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
        let (length, chunk) = match self {
            Self::Cached(file) => (read(file, buffer.take(CHUNK))?, CHUNK),
            Self::Ahead(ahead) => (ahead.next(buffer)?, DIRECT_CHUNK),
        };
        Ok(&buffer.take(chunk)[..length])
    }
}

/// A thread that reads a file, past the page cache.
pub(super) struct Ahead {
    pieces: mpsc::Receiver<io::Result<(Buffer, usize)>>,
    back: mpsc::SyncSender<Buffer>,
}

impl Ahead {
    fn start(file: File, left: u64) -> io::Result<Self> {
        let (full, pieces) = mpsc::sync_channel(1);
        let (back, empty) = mpsc::sync_channel::<Buffer>(AHEAD);
        let mut left = left;
        let ahead = move || {
            while left > 0 {
                let Ok(mut buffer) = empty.recv() else { return };
                let read = read_directly(&file, buffer.take(DIRECT_CHUNK));
                left = left.saturating_sub(*read.as_ref().unwrap_or(&0) as u64);
                let is_last = !matches!(read, Ok(1..));
                // Whoever takes the pieces may have enough.
                if full.send(read.map(|length| (buffer, length))).is_err() || is_last {
                    return;
                }
            }
        };
        thread::Builder::new().name("disk".to_owned()).spawn(ahead)?;
        for _ in 1..AHEAD {
            back.send(Buffer::default()).ok();
        }
        Ok(Self { pieces, back })
    }

    /// Puts the next piece into a buffer, in place of what is there.
    fn next(&mut self, buffer: &mut Buffer) -> io::Result<usize> {
        let Ok(piece) = self.pieces.recv() else { return Ok(0) };
        let (piece, length) = piece?;
        let used = std::mem::replace(buffer, piece);
        // It has read enough, perhaps.
        self.back.send(used).ok();
        Ok(length)
    }
}

fn read_directly(file: &File, into: &mut [u8]) -> io::Result<usize> {
    match read(file, into) {
        // A file system may say so only now; and so it does where the last piece ended with the file then, which has
        // grown since.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            set_direct(file, false)?;
            read(file, into)
        }
        read => read,
    }
}

fn read(mut file: &File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn set_direct(file: &File, direct: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(file, flags)
}

/// What is not zero, as whole blocks.
fn runs(buffer: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let is_hole = |at: usize| {
        let block = &buffer[at..buffer.len().min(at + BLOCK)];
        let (words, rest) = block.as_chunks::<16>();
        words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|b| *b == 0)
    };
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut blocks = (start..buffer.len()).step_by(BLOCK);
        let from = blocks.find(|at| !is_hole(*at))?;
        start = blocks.find(|at| is_hole(*at)).unwrap_or(buffer.len());
        Some(from..start)
    })
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
                let mut reader = Reader::new(&file, size as u64, large).expect("a thread");
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
