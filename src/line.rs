//! A connection of frames that a thread has for itself, for the time of a large stream: what comes is read from the
//! socket to where it is wanted, and what goes is written from where it lies. At both ends of a copy.
//!
//! ```text
//!  runtime: frames ── new ──▶ thread: Line ── incoming, outgoing ── into_parts ──▶ runtime: frames
//! ```
//!
//! An emulated guest copies a MiB in some 0.6 ms, and moves it over vsock in 4 to 9: through the runtime each byte was
//! copied twice more, and the runtime and the thread woke each other for every piece.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use crate::wire::frame::{FrameHeader, FrameKind};

/// How much of what is read and written in small parts is gathered; a larger part is not copied. In bytes.
const BUFFER: usize = 64 * 1024;

/// How long a frame is of which all was gathered, and another one, in bytes. With its header a frame is a whole number
/// of the largest packets of vsock, 64 KiB each, and no packet goes for the few bytes that are left.
const GATHERED: usize = BUFFER - FrameHeader::BYTES;
const PIECE: usize = 8 * BUFFER - FrameHeader::BYTES;

/// How many data frames without data may follow each other: a stream of nothing else would never end.
const MAX_EMPTY: usize = 16;

/// How much is waited for at once, in bytes: the kernel wants that to be less than it keeps of a connection, which is
/// 256 KiB for vsock.
const AT_ONCE: usize = 128 * 1024;

/// How long a line waits for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long the other end may pause.
    pub(crate) pause: Duration,
    /// What the other end is called when it paused longer.
    pub(crate) whom: &'static str,
}

/// The connection. Every wait on it ends.
#[derive(Debug)]
pub(crate) struct Line {
    socket: OwnedFd,
    patience: Patience,
    /// What has been read and is not taken yet is between `start` and `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last frame that was sent is not whole.
    broken: bool,
}

impl Line {
    /// Takes a socket away from a runtime that has read this of it already.
    ///
    /// # Errors
    /// When it is no socket any more.
    pub(crate) fn new(socket: OwnedFd, rest: &[u8], patience: Patience) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        for wait in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, wait, Some(patience.pause))?;
        }
        let mut buffer = rest.to_vec();
        buffer.resize(BUFFER.max(rest.len()), 0);
        Ok(Self { socket, patience, buffer, start: 0, end: rest.len(), broken: false })
    }

    /// The socket, which does not block any more, and what has been read of it.
    ///
    /// # Errors
    /// When a frame was left in the middle, or it is no socket any more: nothing can be said on it then.
    pub(crate) fn into_parts(self) -> io::Result<(OwnedFd, BytesMut)> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        Ok((self.socket, BytesMut::from(&self.buffer[self.start..self.end])))
    }

    /// The stream of data frames that comes now. It ends with its frame; one that ends otherwise was cut off.
    pub(crate) fn incoming(&mut self) -> Incoming<'_> {
        Incoming { line: self, left: 0, empty: 0, ended: false }
    }

    /// A stream of data frames that goes now. What was written last leaves with a flush; its end is a frame of its
    /// own.
    pub(crate) fn outgoing(&mut self) -> Outgoing<'_> {
        Outgoing { line: self, gathered: Vec::with_capacity(GATHERED) }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the other end is gone, or takes nothing for too long.
    pub(crate) fn send(&mut self, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        self.send_both(kind, [payload, b""])
    }

    /// The same of a payload that lies in two places.
    fn send_both(&mut self, kind: FrameKind, [first, second]: [&[u8]; 2]) -> io::Result<()> {
        // Behind a frame that is not whole, nothing is one.
        if std::mem::replace(&mut self.broken, true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let header = FrameHeader { kind, payload: first.len() + second.len() }.bytes()?;
        let mut parts = [&header[..], first, second].map(IoSlice::new);
        let mut parts = &mut parts[..];
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let mut nothing = SendAncillaryBuffer::default();
            match sendmsg(&self.socket, parts, &mut nothing, SendFlags::NOSIGNAL) {
                Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(self.patience.ended("takes nothing")),
                Err(error) => return Err(error.into()),
            }
        }
        self.broken = false;
        Ok(())
    }

    /// The message that the other end sends now.
    ///
    /// # Errors
    /// When it sends nothing for too long, or something else.
    #[cfg(feature = "client")]
    pub(crate) fn hear(&mut self) -> io::Result<Vec<u8>> {
        let header = self.next_header()?;
        if header.kind != FrameKind::Control {
            let why = format!("a {} frame was not due", header.kind.name());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.start += FrameHeader::BYTES;
        let mut message = vec![0; header.payload];
        let buffered = header.payload.min(self.end - self.start);
        message[..buffered].copy_from_slice(&self.buffer[self.start..][..buffered]);
        self.start += buffered;
        let mut rest = &mut message[buffered..];
        while !rest.is_empty() {
            let length = self.patience.receive(&self.socket, rest, RecvFlags::empty())?;
            rest = &mut rest[length..];
        }
        Ok(message)
    }

    /// Whether the other end has sent something, or is gone.
    #[cfg(feature = "client")]
    pub(crate) fn has_more(&self) -> bool {
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        self.start < self.end || recv(&self.socket, &mut [0], peek) != Err(Errno::AGAIN)
    }

    /// The header of the next frame, which stays where it is.
    fn next_header(&mut self) -> io::Result<FrameHeader> {
        while self.end - self.start < FrameHeader::BYTES {
            self.fill()?;
        }
        let (header, _) = self.buffer[self.start..].split_first_chunk().expect("it is there");
        FrameHeader::read(*header)
    }

    /// Reads something to the end of what has been read. There is room for it.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = &mut self.buffer[self.end..];
        self.end += self.patience.receive(&self.socket, room, RecvFlags::empty())?;
        Ok(())
    }
}

impl Patience {
    /// Reads something at least, and with [`RecvFlags::WAITALL`] as much as there is room for.
    fn receive(self, socket: &OwnedFd, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        loop {
            match recv(socket, &mut *into, flags) {
                Ok((_, 0)) => {
                    let why = "the stream was cut off";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                Ok((_, length)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(self.ended("sends nothing")),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(self, what: &str) -> io::Error {
        let why = format!("the {} {what} for {} s", self.whom, self.pause.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

/// A stream that comes.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    line: &'a mut Line,
    /// How much of the current frame has not been taken.
    left: usize,
    /// How many frames without data have come behind the last one with some.
    empty: usize,
    ended: bool,
}

impl Incoming<'_> {
    /// The connection it comes on.
    #[cfg(feature = "client")]
    pub(crate) fn line(&mut self) -> &mut Line {
        self.line
    }

    /// Leaves a frame that does not belong to the stream where it is, for [`Line::hear`].
    fn begin_frame(&mut self) -> io::Result<()> {
        let header = self.line.next_header()?;
        match header.kind {
            FrameKind::Data if header.payload == 0 && self.empty == MAX_EMPTY => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "data frames without data"));
            }
            FrameKind::Data => {
                self.left = header.payload;
                self.empty = if header.payload == 0 { self.empty + 1 } else { 0 };
            }
            FrameKind::DataEnd => self.ended = true,
            other => {
                let why = format!("a {} frame was not due", other.name());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        self.line.start += FrameHeader::BYTES;
        Ok(())
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 && !self.ended {
            self.begin_frame()?;
        }
        let most = into.len().min(self.left);
        if most == 0 {
            return Ok(0);
        }
        let line = &mut *self.line;
        let taken = if line.start == line.end && most >= BUFFER {
            let most = most.min(AT_ONCE);
            line.patience.receive(&line.socket, &mut into[..most], RecvFlags::WAITALL)?
        } else {
            if line.start == line.end {
                line.fill()?;
            }
            let taken = most.min(line.end - line.start);
            into[..taken].copy_from_slice(&line.buffer[line.start..][..taken]);
            line.start += taken;
            taken
        };
        self.left -= taken;
        Ok(taken)
    }
}

/// A stream that goes.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    line: &'a mut Line,
    gathered: Vec<u8>,
}

#[cfg(feature = "client")]
impl Outgoing<'_> {
    /// The connection it goes on.
    pub(crate) fn line(&mut self) -> &mut Line {
        self.line
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() >= GATHERED {
            let piece = &bytes[..bytes.len().min(PIECE - self.gathered.len())];
            self.line.send_both(FrameKind::Data, [&self.gathered, piece])?;
            self.gathered.clear();
            return Ok(piece.len());
        }
        let taken = bytes.len().min(GATHERED - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == GATHERED {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.line.send(FrameKind::Data, &self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::wire::frame::MAX_PAYLOAD;

    const PATIENCE: Patience = Patience { pause: Duration::from_secs(600), whom: "host" };

    fn line() -> (Line, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Line::new(ours.into(), b"", PATIENCE).expect("a line"), theirs)
    }

    /// As many bytes, no two pieces of which are alike.
    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { kind, payload: payload.len() }.bytes().expect("short enough");
        [&header, payload].concat()
    }

    /// Frames of all lengths with a content, and the frame that ends it.
    fn stream(content: &[u8]) -> Vec<u8> {
        let mut stream = Vec::new();
        let (mut rest, mut length) = (content, 1);
        while !rest.is_empty() {
            let piece;
            (piece, rest) = rest.split_at(length.min(rest.len()));
            stream.extend(frame(FrameKind::Data, piece));
            stream.extend(frame(FrameKind::Data, b""));
            length = (length * 3).min(MAX_PAYLOAD);
        }
        stream.extend(frame(FrameKind::DataEnd, b""));
        stream
    }

    #[test]
    fn a_stream_is_read_in_any_lengths_and_nothing_behind_it() {
        let content = content(4 * MAX_PAYLOAD + 12_345);
        for length in [1000, BUFFER - 1, BUFFER, 3 * BUFFER, 2 * MAX_PAYLOAD] {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            let whole = stream(&content);
            // Some of it had been read before.
            let mut line = Line::new(ours.into(), &whole[..100], PATIENCE).expect("a line");
            let sender = thread::spawn(move || {
                theirs.write_all(&whole[100..]).expect("sent");
                theirs.write_all(&frame(FrameKind::Control, b"{}")).expect("sent");
                theirs
            });
            let (mut incoming, mut read) = (line.incoming(), Vec::new());
            let mut buffer = vec![0; length];
            loop {
                match incoming.read(&mut buffer).expect("read") {
                    0 => break,
                    taken => read.extend_from_slice(&buffer[..taken]),
                }
            }
            assert!(read == content, "{length}");
            assert_eq!(incoming.read(&mut buffer).expect("it stays so"), 0);
            drop(sender.join().expect("no panic"));
            while line.fill().is_ok() {}
            let (_, rest) = line.into_parts().expect("it is whole");
            assert_eq!(&rest[..], frame(FrameKind::Control, b"{}"), "{length}");
        }
    }

    #[test]
    fn a_stream_that_is_none_is_an_error() {
        let data = frame(FrameKind::Data, b"song");
        for (bytes, expected) in [
            (Vec::new(), "the stream was cut off"),
            (data[..7].to_vec(), "the stream was cut off"),
            (data.clone(), "the stream was cut off"),
            ([&data[..], &frame(FrameKind::Stdin, b"no")].concat(), "a stdin frame was not due"),
            ([&data[..], &[0xff; 5]].concat(), "a frame of 4294967295 bytes is too long"),
            (frame(FrameKind::Data, b"").repeat(MAX_EMPTY + 1), "data frames without data"),
        ] {
            let (mut line, mut theirs) = line();
            theirs.write_all(&bytes).expect("sent");
            drop(theirs);
            let mut read = Vec::new();
            let error = line.incoming().read_to_end(&mut read).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_is_written_in_any_lengths_leaves_as_frames() {
        let content = content(3 * MAX_PAYLOAD + 99);
        for length in [1000, BUFFER, MAX_PAYLOAD + 1] {
            let (mut line, theirs) = line();
            let mut far = Line::new(theirs.into(), b"", PATIENCE).expect("a line");
            let receiver = thread::spawn(move || {
                let mut read = Vec::new();
                far.incoming().read_to_end(&mut read).map(|_| read)
            });
            let mut outgoing = line.outgoing();
            content.chunks(length).for_each(|chunk| outgoing.write_all(chunk).expect("written"));
            outgoing.flush().expect("written");
            line.send(FrameKind::DataEnd, b"").expect("written");
            let read = receiver.join().expect("no panic").expect("read");
            assert!(read == content, "{length}");
        }
    }

    #[test]
    fn a_rest_leaves_with_what_follows_it() {
        let (mut line, mut theirs) = line();
        let reader = thread::spawn(move || {
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).map(|_| sent)
        });
        let mut outgoing = line.outgoing();
        for _ in 0..3 {
            outgoing.write_all(&vec![7; 16 * BUFFER]).expect("written");
        }
        outgoing.flush().expect("written");
        drop(line);
        let sent = reader.join().expect("no panic").expect("read");
        let (mut rest, mut payloads) = (&sent[..], Vec::new());
        while let Some((header, after)) = rest.split_first_chunk() {
            let payload = FrameHeader::read(*header).expect("a header").payload;
            payloads.push(payload);
            rest = &after[payload..];
        }
        let left = 3 * 16 * BUFFER - 6 * PIECE;
        assert_eq!(payloads, [PIECE, PIECE, PIECE, PIECE, PIECE, PIECE, left]);
    }

    #[cfg(feature = "client")]
    #[test]
    fn what_is_said_in_the_middle_of_a_stream_is_heard() {
        let (mut line, mut theirs) = line();
        assert!(!line.has_more());
        let long = vec![b'x'; MAX_PAYLOAD];
        let said = [frame(FrameKind::Data, b"so"), frame(FrameKind::Control, &long)].concat();
        let sender = thread::spawn(move || {
            theirs.write_all(&said).expect("sent");
            theirs
        });
        let mut read = [0; 10];
        assert_eq!(line.incoming().read(&mut read).expect("read"), 2);
        let error = line.incoming().read(&mut read).expect_err("no data");
        assert_eq!(error.to_string(), "a control frame was not due");
        assert!(line.has_more());
        assert_eq!(line.hear().expect("said"), long);
        let theirs = sender.join().expect("no panic");
        assert!(!line.has_more());
        drop(theirs);
        assert!(line.has_more(), "that it is gone is to be heard");
        line.hear().expect_err("it is gone");
    }

    #[test]
    fn nothing_is_said_behind_half_a_frame() {
        let (mut line, theirs) = line();
        set_socket_timeout(&line.socket, Timeout::Send, Some(Duration::from_millis(1)))
            .expect("set");
        let mut outgoing = line.outgoing();
        // Nobody reads it.
        let error = loop {
            if let Err(error) = outgoing.write_all(&[1; MAX_PAYLOAD]) {
                break error;
            }
        };
        assert_eq!(error.to_string(), "the host takes nothing for 600 s");
        let said = line.send(FrameKind::Control, b"{}").expect_err("it would be taken for content");
        assert_eq!(said.kind(), io::ErrorKind::BrokenPipe);
        assert!(line.into_parts().is_err());
        drop(theirs);
    }
}
