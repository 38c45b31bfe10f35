//! A stream in pieces: cut into them, for a task that does not block.

use std::collections::VecDeque;
use std::io::{self, Write};

use bytes::{Bytes, BytesMut};

/// The buffers of the pieces of one stream, which are used again when their pieces are gone. The kernel gives out
/// fresh memory page by page at the first touch, which in an emulated guest takes as long as moving the bytes.
#[derive(Debug, Default)]
struct Buffers {
    /// A handle of each piece that has been made of them; the oldest first.
    lent: VecDeque<Bytes>,
}

impl Buffers {
    /// How many pieces of a stream there are at once: some that wait, and one at each end.
    const AT_ONCE: usize = 6;

    /// An empty buffer for a piece of so many bytes.
    fn take(&mut self, length: usize) -> BytesMut {
        let enough = self.lent.len() == Self::AT_ONCE;
        // One whose piece is still in use is left to it, for good when there are so many.
        let oldest = self.lent.pop_front_if(|piece| enough || piece.is_unique());
        let mut buffer = oldest.and_then(|piece| piece.try_into_mut().ok()).unwrap_or_default();
        buffer.clear();
        buffer.reserve(length);
        buffer
    }

    fn lend(&mut self, buffer: BytesMut) -> Bytes {
        let piece = buffer.freeze();
        self.lent.push_back(piece.clone());
        piece
    }
}

/// Where the pieces of a stream go.
pub trait PieceSink {
    /// Sends a piece. Blocks while it is not taken.
    ///
    /// # Errors
    /// When nobody takes it.
    fn send(&mut self, piece: Bytes) -> io::Result<()>;
}

/// A stream that blocks, cut into pieces on its way into a sink. What was written last leaves with a flush. Behind a
/// piece that was not taken nothing is sent.
#[derive(Debug)]
pub struct PieceWriter<Sink> {
    sink: Sink,
    /// How many bytes are in a piece; in one that leaves with a flush are fewer.
    length: usize,
    buffers: Buffers,
    buffer: BytesMut,
    broken: bool,
}

impl<Sink: PieceSink> PieceWriter<Sink> {
    /// Writes to this sink, in pieces of so many bytes.
    #[must_use]
    pub fn new(sink: Sink, length: usize) -> Self {
        let mut buffers = Buffers::default();
        let buffer = buffers.take(length);
        Self { sink, length, buffers, buffer, broken: false }
    }

    /// The sink. What was not flushed is lost.
    #[must_use]
    pub fn into_sink(self) -> Sink {
        self.sink
    }
}

impl<Sink: PieceSink> Write for PieceWriter<Sink> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.length - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == self.length {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffers.lend(std::mem::take(&mut self.buffer));
        let sent = self.sink.send(piece);
        self.buffer = self.buffers.take(self.length);
        self.broken = sent.is_err();
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bytes::Buf as _;

    use super::*;
    use crate::wire::frame::MAX_PAYLOAD;

    /// A piece with these bytes.
    fn copy(buffers: &mut Buffers, bytes: &[u8]) -> Bytes {
        let mut buffer = buffers.take(MAX_PAYLOAD);
        buffer.extend_from_slice(bytes);
        buffers.lend(buffer)
    }

    #[test]
    fn buffers_are_used_again_once_their_pieces_are_gone() {
        let mut buffers = Buffers::default();
        let lent: Vec<Bytes> = (0..Buffers::AT_ONCE).map(|_| copy(&mut buffers, b"one")).collect();
        let places: Vec<*const u8> = lent.iter().map(|piece| piece.as_ptr()).collect();
        // All are in use, so this one is new, and the first is given up.
        let another = copy(&mut buffers, b"two");
        assert!(!places.contains(&another.as_ptr()));
        assert!(lent.iter().all(|piece| **piece == *b"one"));
        drop(lent);
        for place in &places[1..] {
            let mut again = copy(&mut buffers, b"three");
            assert_eq!((again.as_ptr(), &again[..]), (*place, &b"three"[..]));
            again.advance(2);
        }
        assert_eq!(*another, *b"two");
    }

    #[test]
    fn a_piece_that_is_gone_leaves_its_buffer_to_the_next() {
        let mut buffers = Buffers::default();
        let place = copy(&mut buffers, b"one").as_ptr();
        assert_eq!(copy(&mut buffers, b"two").as_ptr(), place);
    }

    #[test]
    fn what_is_written_in_any_lengths_arrives_in_pieces() {
        let (pieces, received) = mpsc::sync_channel::<Bytes>(4);
        let bytes: Vec<u8> = (0..20 * MAX_PAYLOAD + 1).map(|n| (n % 251) as u8).collect();
        let all = bytes.clone();
        let writer = std::thread::spawn(move || {
            let mut writer = PieceWriter::new(pieces, MAX_PAYLOAD);
            all.chunks(99_999).try_for_each(|chunk| writer.write_all(chunk))?;
            writer.flush()
        });
        let mut arrived = Vec::new();
        while let Ok(piece) = received.recv() {
            assert!(piece.len() <= MAX_PAYLOAD);
            arrived.extend_from_slice(&piece);
        }
        writer.join().expect("no panic").expect("written");
        assert!(arrived == bytes);
    }

    impl PieceSink for mpsc::SyncSender<Bytes> {
        fn send(&mut self, piece: Bytes) -> io::Result<()> {
            mpsc::SyncSender::send(self, piece).map_err(io::Error::other)
        }
    }

    /// Keeps the pieces that it has room for.
    struct Shelf {
        pieces: Vec<Vec<u8>>,
        room: usize,
    }

    impl PieceSink for Shelf {
        fn send(&mut self, piece: Bytes) -> io::Result<()> {
            if self.pieces.len() == self.room {
                return Err(io::Error::other("it is full"));
            }
            self.pieces.push(piece.to_vec());
            Ok(())
        }
    }

    fn shelf(room: usize) -> PieceWriter<Shelf> {
        PieceWriter::new(Shelf { pieces: Vec::new(), room }, 4)
    }

    #[test]
    fn a_piece_is_as_long_as_wanted_but_before_a_flush() {
        let mut writer = shelf(9);
        writer.flush().expect("there is nothing to send");
        writer.write_all(b"one two thr").expect("taken");
        assert_eq!(writer.sink.pieces, [b"one ", b"two "]);
        writer.flush().expect("taken");
        writer.flush().expect("there is nothing to send");
        writer.write_all(b"!").expect("taken");
        assert_eq!(writer.into_sink().pieces, [&b"one "[..], b"two ", b"thr"]);
    }

    #[test]
    fn nothing_is_sent_behind_a_piece_that_was_not_taken() {
        let mut writer = shelf(1);
        let error = writer.write_all(b"one two thr").expect_err("there is no room");
        assert_eq!(error.to_string(), "it is full");
        writer.sink.room = 9;
        // With nothing to send, too: who has overlooked the error must not take the stream for whole.
        let flushed = writer.flush().expect_err("a piece is missing");
        let written = writer.write_all(b"four five").expect_err("a piece is missing");
        assert_eq!([flushed.kind(), written.kind()], [io::ErrorKind::BrokenPipe; 2]);
        assert_eq!(writer.into_sink().pieces, [b"one "]);
    }
}
