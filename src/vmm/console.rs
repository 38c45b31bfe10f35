//! The ring that a guest's console goes into.
//!
//! A guest can print without end, so what it prints goes into two files of at most [`SEGMENT`] bytes:
//! `console-K` holds the bytes from `K * SEGMENT` on, counted since the VM's first start, and when it is
//! full the next one is begun and the one before the last is removed. The position of every byte is
//! known from names and lengths alone, so the ring goes on where it was after a daemon restart.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of one of the two files: the ring keeps between half a MiB and one MiB.
pub const SEGMENT: u64 = 512 * 1024;

/// The writing end.
#[derive(Debug)]
pub struct Ring {
    folder: PathBuf,
    file: File,
    number: u64,
    length: u64,
}

impl Ring {
    /// Opens the ring in a VM's folder, at its end.
    ///
    /// # Errors
    /// When its files cannot be opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let number = segments(folder)?.last().copied().unwrap_or(0);
        let file = open_segment(folder, number)?;
        let length = file.metadata()?.len();
        Ok(Self { folder: folder.to_owned(), file, number, length })
    }

    /// Bytes written since the VM's first start.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.number * SEGMENT + self.length
    }

    /// Appends what the guest printed, and drops what no longer fits.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = usize::try_from(SEGMENT - self.length).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all(now)?;
            self.length += now.len() as u64;
            bytes = later;
            if self.length == SEGMENT {
                self.turn()?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let next = open_segment(&self.folder, self.number + 1)?;
        for old in segments(&self.folder)? {
            if old < self.number {
                std::fs::remove_file(path(&self.folder, old))?;
            }
        }
        (self.file, self.number, self.length) = (next, self.number + 1, 0);
        Ok(())
    }
}

/// A piece of a console.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, as the guest printed them.
    pub bytes: Vec<u8>,
    /// The position after them.
    pub next: u64,
    /// Bytes between the wanted position and the first of these that the ring no longer has.
    pub lost: u64,
}

/// Reads what the ring has from a position on; everything it has when none is given. A VM that was
/// never started has an empty console.
///
/// # Errors
/// When its files cannot be read.
pub fn read(folder: &Path, from: Option<u64>) -> io::Result<Piece> {
    let numbers = segments(folder)?;
    let Some(first) = numbers.first() else {
        return Ok(Piece { bytes: Vec::new(), next: 0, lost: 0 });
    };
    let oldest = first * SEGMENT;
    let start = from.unwrap_or(oldest).max(oldest);
    let mut bytes = Vec::new();
    let mut end = oldest;
    for number in numbers {
        // The writer may remove the oldest file between listing and opening.
        let file = match File::open(path(folder, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len().min(SEGMENT);
        let skip = start.saturating_sub(number * SEGMENT).min(length);
        let kept = bytes.len();
        bytes.resize(kept + usize::try_from(length - skip).unwrap_or(0), 0);
        file.read_exact_at(&mut bytes[kept..], skip)?;
        end = number * SEGMENT + length;
    }
    let lost = oldest.saturating_sub(from.unwrap_or(oldest));
    Ok(Piece { bytes, next: end, lost })
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("console-{number}"))
}

fn open_segment(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path(folder, number))
}

/// The numbers of the files there are, in order.
fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("console-")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Against a model that keeps everything: what is read is always the end of what was written,
        /// positions are true, and the files never grow beyond the ring.
        #[test]
        fn the_ring_keeps_the_end(pieces in proptest::collection::vec(1_usize..400_000, 1..12)) {
            let folder = tempfile::tempdir().expect("tempdir");
            let mut model = Vec::new();
            for (index, length) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..length).map(|at| (at % 251) as u8 ^ index as u8).collect();
                // A new daemon each time: nothing is remembered but the files.
                let mut ring = Ring::open(folder.path()).expect("opens");
                ring.append(&piece).expect("appends");
                model.extend_from_slice(&piece);
                prop_assert_eq!(ring.position(), model.len() as u64);
                let all = read(folder.path(), None).expect("reads");
                prop_assert_eq!(all.next, model.len() as u64);
                prop_assert!(model.ends_with(&all.bytes));
                prop_assert!(all.bytes.len() as u64 <= 2 * SEGMENT);
                prop_assert!(all.bytes.len() as u64 >= SEGMENT.min(model.len() as u64));
                let from = model.len() as u64 / 2;
                let half = read(folder.path(), Some(from)).expect("reads");
                let start = usize::try_from(from + half.lost).expect("fits");
                prop_assert_eq!(&half.bytes[..], &model[start..]);
            }
        }
    }

    #[test]
    fn a_console_without_output_is_empty() {
        let folder = tempfile::tempdir().expect("tempdir");
        let piece = read(folder.path(), Some(10)).expect("reads");
        assert_eq!(piece, Piece { bytes: Vec::new(), next: 0, lost: 0 });
    }
}
