//! The last output of a detached program.
//!
//! ```text
//!  dropped │ chunk │ chunk │ … │ chunk ◀── what the program prints
//!          ▲ start      ▲ shown        ▲ end         (positions: bytes since the program began)
//! ```
//!
//! Both streams are kept in the order in which they were read. Chunks go whole, the oldest first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::frame::Frame;

/// How much is kept of one program, in bytes: enough to see how a build failed, little enough to be held
/// as often as there may be detached programs.
pub(super) const KEPT_BYTES: usize = 1 << 20;

/// Smaller pieces of one stream are joined up to this size.
const CHUNK_BYTES: usize = 4096;

/// What a chunk costs besides its bytes, so that a program that prints single bytes to both streams in turn
/// takes no more memory than others.
const CHUNK_COST: usize = 128;

/// A stream of a program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// Standard output, or all that goes to a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Channel {
    fn frame(self, bytes: &[u8]) -> Frame {
        let bytes = Bytes::copy_from_slice(bytes);
        match self {
            Self::Stdout => Frame::Stdout(bytes),
            Self::Stderr => Frame::Stderr(bytes),
        }
    }
}

#[derive(Debug)]
struct Chunk {
    channel: Channel,
    start: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn cost(&self) -> usize {
        self.bytes.len() + CHUNK_COST
    }
}

/// What is kept of a program's output.
#[derive(Debug, Default)]
pub(super) struct Kept {
    chunks: VecDeque<Chunk>,
    cost: usize,
    end: u64,
}

impl Kept {
    /// Where it begins: so many bytes were dropped before.
    pub(super) fn start(&self) -> u64 {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    /// Where it would begin if so many bytes were added.
    pub(super) fn start_after(&self, more: usize) -> u64 {
        let mut cost = self.cost + more + CHUNK_COST;
        for chunk in &self.chunks {
            if cost <= KEPT_BYTES {
                return chunk.start;
            }
            cost -= chunk.cost();
        }
        self.end
    }

    /// Adds what the program printed, and drops the oldest for it.
    pub(super) fn add(&mut self, channel: Channel, bytes: &[u8]) {
        let start = self.start_after(bytes.len());
        while let Some(oldest) = self.chunks.pop_front_if(|chunk| chunk.start < start) {
            self.cost -= oldest.cost();
        }
        let joined = self.chunks.back_mut().filter(|last| {
            last.channel == channel && last.bytes.len() + bytes.len() <= CHUNK_BYTES
        });
        if let Some(last) = joined {
            last.bytes.extend_from_slice(bytes);
            self.cost += bytes.len();
        } else {
            if let Some(last) = self.chunks.back_mut() {
                last.bytes.shrink_to_fit();
            }
            self.chunks.push_back(Chunk { channel, start: self.end, bytes: bytes.to_vec() });
            self.cost += bytes.len() + CHUNK_COST;
        }
        self.end += bytes.len() as u64;
    }

    /// The next piece from a position on, and the position after it; none at the end.
    pub(super) fn after(&self, position: u64) -> Option<(Frame, u64)> {
        let at = self.chunks.partition_point(|chunk| chunk.end() <= position);
        let chunk = self.chunks.get(at)?;
        let skipped = usize::try_from(position.saturating_sub(chunk.start)).unwrap_or(usize::MAX);
        Some((chunk.channel.frame(chunk.bytes.get(skipped..)?), chunk.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is kept: stdout and stderr.
    fn all(kept: &Kept) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut position = kept.start();
        while let Some((frame, next)) = kept.after(position) {
            match frame {
                Frame::Stdout(bytes) => out.extend_from_slice(&bytes),
                Frame::Stderr(bytes) => err.extend_from_slice(&bytes),
                other => panic!("no output: {other:?}"),
            }
            assert!(next > position);
            position = next;
        }
        assert_eq!(position, kept.end);
        (out, err)
    }

    #[test]
    fn what_fits_is_kept_whole_and_apart() {
        let mut kept = Kept::default();
        assert!(kept.after(0).is_none());
        for (channel, text) in
            [(Channel::Stdout, "a"), (Channel::Stdout, "b"), (Channel::Stderr, "c")]
        {
            kept.add(channel, text.as_bytes());
        }
        assert_eq!((kept.start(), kept.chunks.len()), (0, 2));
        assert_eq!(all(&kept), (b"ab".to_vec(), b"c".to_vec()));
        assert_eq!(kept.after(1), Some((Frame::Stdout(Bytes::from_static(b"b")), 2)));
    }

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let mut kept = Kept::default();
        let printed: Vec<u8> =
            (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        for piece in printed.chunks(100_000) {
            let start = kept.start_after(piece.len());
            kept.add(Channel::Stdout, piece);
            assert_eq!(kept.start(), start, "it is known before");
            assert!(kept.cost <= KEPT_BYTES);
        }
        let lost = usize::try_from(kept.start()).expect("few bytes");
        assert!((printed.len() - KEPT_BYTES..printed.len() - 800_000).contains(&lost), "{lost}");
        assert!(all(&kept).0 == printed[lost..], "the end is whole");
    }

    #[test]
    fn single_bytes_in_turn_take_no_more_room() {
        let mut kept = Kept::default();
        for number in 0..100_000 {
            let channel = if number % 2 == 0 { Channel::Stdout } else { Channel::Stderr };
            kept.add(channel, b"x");
        }
        assert!(kept.cost <= KEPT_BYTES && kept.chunks.len() * CHUNK_COST <= KEPT_BYTES);
        let (out, err) = all(&kept);
        assert_eq!((out.len() + err.len()) as u64 + kept.start(), 100_000);
    }
}
