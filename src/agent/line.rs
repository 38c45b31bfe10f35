//! A connection of the host that a thread has for itself, for the time of a large stream: what comes is read from the
//! socket to where it is wanted, and what goes is written from where it lies.
//!
//! ```text
//!  runtime: Frames ── on_thread ──▶ thread: Line ── incoming, outgoing ──▶ runtime: Frames
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
use serde::Serialize;
use tokio_util::codec::{Framed, FramedParts};

use super::server::{Connection, Frames};
use crate::wire::frame::{Frame, FrameCodec, FrameHeader, FrameKind, MAX_PAYLOAD};

/// How much of what is read and written in small parts is gathered; a larger part is not copied. In bytes.
const BUFFER: usize = 64 * 1024;

/// How much is waited for at once, in bytes: the kernel wants that to be less than it keeps of a connection, which is
/// 256 KiB for vsock.
const AT_ONCE: usize = 128 * 1024;

/// How long the host may pause in the middle of a copy, whose user may have suspended it for a while, or of a tree:
/// before its end the host waits until git there has written down all that went in.
const PAUSE: Duration = Duration::from_secs(600);

/// Has a thread do its work on a connection, and brings that back.
///
/// # Errors
/// When the connection was left in the middle of a frame, or is no socket any more: nothing can be said on it then.
pub(super) async fn on_thread<S: Connection, T: Send + 'static>(
    frames: Frames<S>,
    work: impl FnOnce(&mut Line) -> T + Send + 'static,
) -> io::Result<(T, Frames<S>)> {
    let parts = frames.into_parts();
    let mut line = Line::new(parts.io.leave()?, &parts.read_buf)?;
    let worked = tokio::task::spawn_blocking(move || (work(&mut line), line)).await;
    let (done, line) = worked.map_err(io::Error::other)?;
    let (socket, rest) = line.into_parts()?;
    let mut parts = FramedParts::new::<Frame>(S::enter(socket)?, FrameCodec::default());
    parts.read_buf = rest;
    Ok((done, Framed::from_parts(parts)))
}

/// The connection. Every wait on it ends.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    /// What has been read and is not taken yet is between `start` and `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last frame that was sent is not whole.
    broken: bool,
}

impl Line {
    fn new(socket: OwnedFd, rest: &[u8]) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        for wait in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, wait, Some(PAUSE))?;
        }
        let mut buffer = rest.to_vec();
        buffer.resize(BUFFER.max(rest.len()), 0);
        Ok(Self { socket, buffer, start: 0, end: rest.len(), broken: false })
    }

    fn into_parts(self) -> io::Result<(OwnedFd, BytesMut)> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        Ok((self.socket, BytesMut::from(&self.buffer[self.start..self.end])))
    }

    /// The stream of data frames that comes now. It ends with its frame; one that ends otherwise was cut off.
    pub(super) fn incoming(&mut self) -> Incoming<'_> {
        Incoming { line: self, left: 0, ended: false }
    }

    /// A stream of data frames that goes now. What was written last leaves with a flush; its end is a frame of its
    /// own.
    pub(super) fn outgoing(&mut self) -> Outgoing<'_> {
        Outgoing { line: self, gathered: Vec::with_capacity(BUFFER) }
    }

    /// Says something.
    ///
    /// # Errors
    /// When the host is gone, or takes nothing for too long.
    pub(super) fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.send(FrameKind::Control, &serde_json::to_vec(message)?)
    }

    /// Ends a stream that goes.
    ///
    /// # Errors
    /// As [`Self::say`].
    pub(super) fn end_data(&mut self) -> io::Result<()> {
        self.send(FrameKind::DataEnd, &[])
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        // Behind a frame that is not whole, nothing is one.
        if std::mem::replace(&mut self.broken, true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let header = FrameHeader { kind, payload: payload.len() }.bytes()?;
        let mut parts = [IoSlice::new(&header), IoSlice::new(payload)];
        let mut parts = &mut parts[..];
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let mut nothing = SendAncillaryBuffer::default();
            match sendmsg(&self.socket, parts, &mut nothing, SendFlags::NOSIGNAL) {
                Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(paused("takes nothing")),
                Err(error) => return Err(error.into()),
            }
        }
        self.broken = false;
        Ok(())
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
        self.end += receive(&self.socket, room, RecvFlags::empty())?;
        Ok(())
    }
}

/// Reads something at least, and with [`RecvFlags::WAITALL`] as much as there is room for.
fn receive(socket: &OwnedFd, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match recv(socket, &mut *into, flags) {
            Ok((_, 0)) => {
                let why = "the stream was cut off";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            Ok((_, length)) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(paused("sends nothing")),
            Err(error) => return Err(error.into()),
        }
    }
}

fn paused(what: &str) -> io::Error {
    let why = format!("the host {what} for {} s", PAUSE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// A stream that comes.
#[derive(Debug)]
pub struct Incoming<'a> {
    line: &'a mut Line,
    /// How much of the current frame has not been taken.
    left: usize,
    ended: bool,
}

impl Incoming<'_> {
    fn begin_frame(&mut self) -> io::Result<()> {
        let line = &mut *self.line;
        while line.end - line.start < FrameHeader::BYTES {
            line.fill()?;
        }
        let (header, _) = line.buffer[line.start..].split_first_chunk().expect("it is there");
        let header = FrameHeader::read(*header)?;
        line.start += FrameHeader::BYTES;
        match header.kind {
            FrameKind::Data => self.left = header.payload,
            FrameKind::DataEnd => self.ended = true,
            other => {
                let why = format!("a {} frame was not due", other.name());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
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
            receive(&line.socket, &mut into[..most], RecvFlags::WAITALL)?
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
pub struct Outgoing<'a> {
    line: &'a mut Line,
    gathered: Vec<u8>,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() >= BUFFER {
            self.flush()?;
            let piece = &bytes[..bytes.len().min(MAX_PAYLOAD)];
            self.line.send(FrameKind::Data, piece)?;
            return Ok(piece.len());
        }
        let taken = bytes.len().min(BUFFER - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == BUFFER {
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
    use crate::wire::guest::Reply;

    fn line() -> (Line, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Line::new(ours.into(), b"").expect("a line"), theirs)
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
            let mut line = Line::new(ours.into(), &whole[..100]).expect("a line");
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
            let mut far = Line::new(theirs.into(), b"").expect("a line");
            let receiver = thread::spawn(move || {
                let mut read = Vec::new();
                far.incoming().read_to_end(&mut read).map(|_| read)
            });
            let mut outgoing = line.outgoing();
            content.chunks(length).for_each(|chunk| outgoing.write_all(chunk).expect("written"));
            outgoing.flush().expect("written");
            line.end_data().expect("written");
            let read = receiver.join().expect("no panic").expect("read");
            assert!(read == content, "{length}");
        }
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
        let said = line.say(&Reply::Done).expect_err("it would be taken for content");
        assert_eq!(said.kind(), io::ErrorKind::BrokenPipe);
        assert!(line.into_parts().is_err());
        drop(theirs);
    }
}
