//! A stream between a thread that blocks and a task that does not, in pieces of a frame's size.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::wire::frame::MAX_PAYLOAD;

/// How many pieces of a stream may wait.
pub const QUEUE: usize = 4;

/// A piece of a stream that arrives.
#[derive(Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// The stream is whole.
    End,
}

/// Pieces that arrive, as one stream that blocks. One that ends without [`Piece::End`] was cut off.
#[derive(Debug)]
pub struct PieceReader {
    pieces: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl PieceReader {
    /// Reads these.
    #[must_use]
    pub fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, rest: Bytes::new(), ended: false }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    let why = "the stream was cut off";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The buffers of the pieces of one stream, which are used again when their pieces are gone. The kernel gives out
/// fresh memory page by page at the first touch, which in an emulated guest takes as long as moving the bytes.
#[derive(Debug, Default)]
pub struct Buffers {
    /// A handle of each piece that has been made of them; the oldest first.
    lent: VecDeque<Bytes>,
}

impl Buffers {
    /// How many pieces of a stream there are at once: those that wait, and one at each end.
    const AT_ONCE: usize = QUEUE + 2;

    /// A piece with a copy of these bytes.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        let mut buffer = self.take();
        buffer.extend_from_slice(bytes);
        self.lend(buffer)
    }

    /// An empty buffer for a piece.
    fn take(&mut self) -> BytesMut {
        let oldest = if self.lent.len() < Self::AT_ONCE { None } else { self.lent.pop_front() };
        // One whose piece is still in use is left to it.
        let mut buffer = oldest.and_then(|piece| piece.try_into_mut().ok()).unwrap_or_default();
        buffer.clear();
        buffer.reserve(MAX_PAYLOAD);
        buffer
    }

    fn lend(&mut self, buffer: BytesMut) -> Bytes {
        let piece = buffer.freeze();
        self.lent.push_back(piece.clone());
        piece
    }
}

/// A stream that blocks, on its way into pieces. What was written last leaves with a flush.
#[derive(Debug)]
pub struct PieceWriter {
    pieces: mpsc::Sender<Bytes>,
    buffers: Buffers,
    buffer: BytesMut,
}

impl PieceWriter {
    /// Writes to this queue.
    #[must_use]
    pub fn new(pieces: mpsc::Sender<Bytes>) -> Self {
        let mut buffers = Buffers::default();
        let buffer = buffers.take();
        Self { pieces, buffers, buffer }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MAX_PAYLOAD - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == MAX_PAYLOAD {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let next = self.buffers.take();
        let piece = self.buffers.lend(std::mem::replace(&mut self.buffer, next));
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_once_their_pieces_are_gone() {
        let mut buffers = Buffers::default();
        let lent: Vec<Bytes> = (0..Buffers::AT_ONCE).map(|_| buffers.copy(b"one")).collect();
        let places: Vec<*const u8> = lent.iter().map(|piece| piece.as_ptr()).collect();
        // All are in use, so this one is new, and the first is given up.
        let another = buffers.copy(b"two");
        assert!(!places.contains(&another.as_ptr()));
        assert!(lent.iter().all(|piece| **piece == *b"one"));
        drop(lent);
        for place in &places[1..] {
            let mut again = buffers.copy(b"three");
            assert_eq!((again.as_ptr(), &again[..]), (*place, &b"three"[..]));
            again.advance(2);
        }
        assert_eq!(*another, *b"two");
    }

    #[test]
    fn what_is_written_in_any_lengths_arrives_in_pieces() {
        let (pieces, mut received) = mpsc::channel(QUEUE);
        let bytes: Vec<u8> = (0..20 * MAX_PAYLOAD + 1).map(|n| (n % 251) as u8).collect();
        let all = bytes.clone();
        let writer = std::thread::spawn(move || {
            let mut writer = PieceWriter::new(pieces);
            all.chunks(99_999).try_for_each(|chunk| writer.write_all(chunk))?;
            writer.flush()
        });
        let mut arrived = Vec::new();
        while let Some(piece) = received.blocking_recv() {
            assert!(piece.len() <= MAX_PAYLOAD);
            arrived.extend_from_slice(&piece);
        }
        writer.join().expect("no panic").expect("written");
        assert!(arrived == bytes);
    }
}
