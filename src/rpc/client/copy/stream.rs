//! The tar streams of copies, for threads that have the connection for themselves.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::codec::{Framed, FramedParts};

use super::{ByteStream, CopyIn, PATIENCE, STALL, broken, cut, out_of_turn, said, silent};
use crate::line::{Incoming, Line, Outgoing};
use crate::report::Report;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{Reply, Skipped};

/// The tar stream of a copy out of a guest, as it is read by a thread. The copy ends when this and its [`Ending`] are
/// dropped.
#[derive(Debug)]
pub struct OutStream {
    line: Line,
    tell: Option<oneshot::Sender<Result<Skipped, Report>>>,
    is_cut: Arc<AtomicBool>,
}

impl OutStream {
    pub(super) fn of(stream: ByteStream) -> Result<(Self, Ending), Report> {
        let (line, cut) = into_line(stream)?;
        let ((tell, told), is_cut) = (oneshot::channel(), Arc::clone(&cut.is_cut));
        Ok((Self { line, tell: Some(tell), is_cut }, Ending { told, cut }))
    }

    /// Reads it. It ends when the guest has said that it was all; why it ends otherwise is said to the [`Ending`].
    pub fn reader(&mut self) -> impl Read {
        let Self { line, tell, is_cut } = self;
        OutReader { data: line.incoming(), tell, is_cut, failed: false }
    }
}

struct OutReader<'a> {
    data: Incoming<'a>,
    tell: &'a mut Option<oneshot::Sender<Result<Skipped, Report>>>,
    is_cut: &'a AtomicBool,
    failed: bool,
}

impl OutReader<'_> {
    /// What is said behind the last byte.
    fn end(&mut self) -> Result<Skipped, Report> {
        let line = self.data.line();
        let message = line.hear().map_err(|error| failed(line, error))?;
        let Reply::Copied(Skipped { count, first }) = said(&Frame::Control(message.into()))? else {
            return Err(out_of_turn());
        };
        // The end may have come before the cut did: who has cut it must not get it whole.
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(broken(&io::ErrorKind::Interrupted.into()));
        }
        Ok(Skipped { count, first: first.map(cut) })
    }
}

impl Read for OutReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let outcome = match self.data.read(into) {
            Ok(0) if self.tell.is_some() && !into.is_empty() => self.end(),
            Ok(length) => return Ok(length),
            Err(error) => Err(failed(self.data.line(), error)),
        };
        self.failed = outcome.is_err();
        if let Some(tell) = self.tell.take() {
            tell.send(outcome).ok();
        }
        if self.failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(0) }
    }
}

/// How a copy out of a guest ends.
#[derive(Debug)]
pub struct Ending {
    told: oneshot::Receiver<Result<Skipped, Report>>,
    cut: Cut,
}

impl Ending {
    /// Waits for the end of the stream, and returns what was left out of it. None when its reader did not read to
    /// there. Cancel-safe.
    ///
    /// # Errors
    /// When the guest fails, or the connection breaks off.
    pub async fn told(&mut self) -> Result<Option<Skipped>, Report> {
        (&mut self.told).await.ok().transpose()
    }

    /// Ends the stream early.
    pub fn cut(&self) {
        self.cut.cut();
    }
}

/// The way to end the stream of a copy early: the thread that has it gets an error.
#[derive(Debug)]
pub struct Cut {
    socket: OwnedFd,
    is_cut: Arc<AtomicBool>,
}

impl Cut {
    /// Ends it.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        // One that has ended needs no end.
        shutdown(&self.socket, Shutdown::Both).ok();
    }
}

/// The tar stream of a copy into a guest, as it is written by a thread. The copy ends when this and its [`Cut`] are
/// dropped.
#[derive(Debug)]
pub struct InStream {
    line: Line,
    failed: Option<Report>,
}

impl InStream {
    pub(super) fn of(stream: ByteStream) -> Result<(Self, Cut), Report> {
        let (line, cut) = into_line(stream)?;
        Ok((Self { line, failed: None }, cut))
    }

    /// Writes it. What was written last leaves with a flush.
    pub fn writer(&mut self) -> impl Write {
        InWriter { data: self.line.outgoing(), failed: &mut self.failed }
    }

    /// The copy, of which all has been written. To be called in a runtime.
    ///
    /// # Errors
    /// When the guest has given up (with its reason), or took nothing for two minutes.
    pub fn into_copy(self) -> Result<CopyIn, Report> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let (socket, rest) = self.line.into_parts().map_err(|error| broken(&error))?;
        let stream = UnixStream::from_std(socket.into()).map_err(|error| broken(&error))?;
        let mut parts = FramedParts::new::<Frame>(stream, FrameCodec::default());
        parts.read_buf = rest;
        Ok(CopyIn(Framed::from_parts(parts)))
    }
}

struct InWriter<'a> {
    data: Outgoing<'a>,
    failed: &'a mut Option<Report>,
}

impl InWriter<'_> {
    /// Nothing is said before the end but that the copy failed; then the rest is not sent.
    fn unless_said(&mut self) -> io::Result<()> {
        if self.failed.is_none() && self.data.line().has_more() {
            *self.failed = Some(heard_early(self.data.line()));
        }
        match self.failed {
            Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        let report = match error.kind() {
            // It may have said why before it took nothing any more, or closed the connection.
            _ if self.data.line().has_more() => heard_early(self.data.line()),
            io::ErrorKind::TimedOut => silent(STALL),
            _ => broken(&error),
        };
        self.failed.get_or_insert(report);
        error
    }
}

impl Write for InWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_said()?;
        self.data.write(bytes).map_err(|error| self.fail(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_said()?;
        self.data.flush().map_err(|error| self.fail(error))
    }
}

/// Takes a stream away from the runtime.
fn into_line(stream: ByteStream) -> Result<(Line, Cut), Report> {
    let parts = stream.into_parts();
    let taken = || {
        let socket = OwnedFd::from(parts.io.into_std()?);
        let cut = Cut { socket: socket.try_clone()?, is_cut: Arc::default() };
        Ok((Line::new(socket, &parts.read_buf, PATIENCE)?, cut))
    };
    taken().map_err(|error: io::Error| broken(&error))
}

/// Why a stream that comes has ended early.
fn failed(line: &mut Line, error: io::Error) -> Report {
    match error.kind() {
        io::ErrorKind::TimedOut => silent(STALL),
        // Something else than data has come.
        io::ErrorKind::InvalidData => heard_early(line),
        _ => broken(&error),
    }
}

/// What the guest says before it is due.
fn heard_early(line: &mut Line) -> Report {
    match line.hear().map(|message| said(&Frame::Control(message.into()))) {
        Ok(Err(report)) => report,
        Ok(Ok(_)) => out_of_turn(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            out_of_turn().with_cause(&error)
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => silent(STALL),
        Err(error) => broken(&error),
    }
}
