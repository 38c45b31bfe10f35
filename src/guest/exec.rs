//! Running a program and making a copy, and the connection of these or of a forward, as bytes.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::SinkExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::codec::Framed;

use super::passing::{Heard, Said, Sends};
use super::proven::Proven;
use super::{Agent, Frames, GuestError, HANDSHAKE, Stream, timed_out};
use crate::id::BootId;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{CopyDirection, CopyFiles, Exec, Request};

/// How long the agent may take to begin its answer on a connection that was kept, where no proof has shown that it is
/// there: a program or a file may have to be read from a disk first, in a guest that is emulated and busy.
const STARTED: Duration = Duration::from_secs(60);

impl Agent {
    /// Asks the agent to run a program. What comes back is a stream of frames that begins with the
    /// agent's [`Reply::ExecStarted`](crate::wire::guest::Reply::ExecStarted) or
    /// [`Reply::ExecFailed`](crate::wire::guest::Reply::ExecFailed), and ends behind the program's end.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn exec(&self, exec: &Exec) -> Result<FrameStream, GuestError> {
        let request = Request::Exec(exec.clone());
        let (frames, deadline) = match self.request_again(&request).await? {
            // That the agent was there once is no proof that it is now.
            Some(frames) => (frames, Some(Box::pin(sleep(STARTED)))),
            None => (self.request(&request).await?, None),
        };
        Ok(FrameStream::of(frames, Sends::Input, Some(self.again()), deadline))
    }

    /// Asks the agent to copy a file or a tree. What comes back is a stream of frames that begins with the agent's
    /// reply, and ends behind its word that the copy was made.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn copy(&self, files: &CopyFiles) -> Result<FrameStream, GuestError> {
        let request = Request::Copy(files.clone());
        let (frames, deadline) = match (self.request_again(&request).await?, &files.direction) {
            (Some(frames), CopyDirection::Out) => (frames, Some(Box::pin(sleep(STARTED)))),
            // Of what comes in the agent says nothing before all of it is there: only the client knows how long that is.
            (Some(frames), CopyDirection::In(_)) => (frames, None),
            (None, _) => (self.request(&request).await?, None),
        };
        Ok(FrameStream::of(frames, Sends::Data, Some(self.again()), deadline))
    }

    fn again(&self) -> Again {
        let (proven, boot) = (self.0.proven.clone(), self.0.boot_id.clone());
        Again { heard: Heard::default(), proven, boot }
    }

    /// Sends a request on a connection that has served another one. None when no such connection takes it.
    ///
    /// What was sent is not sent a second time, and nobody is told that it was not done, whatever comes of it.
    async fn request_again(&self, request: &Request) -> Result<Option<Frames>, GuestError> {
        let frame = Frame::request(request).map_err(GuestError::Connection)?;
        while let Some(stream) = self.0.proven.take(&self.0.boot_id) {
            let mut frames = Framed::new(stream, FrameCodec::default());
            let sent = timeout(HANDSHAKE, frames.send(frame.clone())).await;
            // One that broke before it took the last byte has sent nothing that the agent could do.
            if sent.map_err(|_| timed_out("take a request", HANDSHAKE))?.is_ok() {
                return Ok(Some(frames));
            }
        }
        Ok(None)
    }
}

/// The connection of a program, of a forward or of a copy: frames in both directions, beginning with the agent's
/// reply. It can be spliced to a client as it is, or [framed](Self::framed) and read here. It takes nothing from a
/// client but what belongs to that.
///
/// A program gets SIGHUP, and a forwarded connection is reset, when the host's side is shut down or dropped;
/// the end of the input is a frame of its own. Where the program's end has been read, or that a copy was made, the
/// connection is kept for the next one instead, unless something is under way on it.
pub struct FrameStream {
    /// What had been read before the stream was handed out.
    buffered: BytesMut,
    stream: Stream,
    said: Said,
    /// None when the connection serves nothing else.
    again: Option<Again>,
    /// Until when something must come.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What it takes to use a connection again.
struct Again {
    heard: Heard,
    proven: Proven,
    boot: BootId,
}

impl FrameStream {
    /// Of a connection that serves nothing else.
    pub(super) fn once(frames: Frames, sends: Sends) -> Self {
        Self::of(frames, sends, None, None)
    }

    fn of(
        frames: Frames,
        sends: Sends,
        again: Option<Again>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let parts = frames.into_parts();
        let (buffered, said) = (parts.read_buf, Said::by(sends));
        Self { buffered, stream: parts.io, said, again, deadline }
    }

    /// The frames of the connection.
    #[must_use]
    pub fn framed(self) -> Framed<Stream, FrameCodec> {
        let stream: Stream = Box::new(self);
        Framed::new(stream, FrameCodec::default())
    }

    /// Whether the end of what it serves has been read: nothing comes after it.
    fn ended(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.heard.ended())
    }

    /// Lets go of a connection on which the end has been read: it waits for the next request, unless something is under
    /// way on it. What is written from then on goes nowhere.
    fn let_go(&mut self) {
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        if let Some(Again { proven, boot, .. }) = self.again.take()
            && self.buffered.is_empty()
            && self.said.is_whole()
        {
            proven.give(boot, stream);
        }
        self.buffered.clear();
    }

    /// Notes what is read.
    fn hear(&mut self, bytes: &[u8]) {
        if self.again.as_mut().is_some_and(|again| again.heard.hear(bytes).is_err()) {
            self.again = None;
        }
    }

    fn poll_say(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sound = self.said.sound(bytes)?;
        let stream = Pin::new(&mut self.stream);
        let written = ready!(stream.poll_write(context, &bytes[..sound]))?;
        self.said.gone(&bytes[..written])?;
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for FrameStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended() {
            this.let_go();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if this.buffered.is_empty() {
            let read = Pin::new(&mut this.stream).poll_read(context, buffer);
            if let (Poll::Pending, Some(deadline)) = (&read, &mut this.deadline) {
                ready!(deadline.as_mut().poll(context));
                let why = format!("the guest has said nothing for {} s", STARTED.as_secs());
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            ready!(read)?;
            this.deadline = None;
        } else {
            let length = this.buffered.len().min(buffer.remaining());
            buffer.put_slice(&this.buffered[..length]);
            this.buffered.advance(length);
        }
        this.hear(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.poll_say(context, bytes));
        if written.is_err() {
            this.again = None;
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Has nothing to do behind the end, where the host's side is at its end as well.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended() {
            return Poll::Ready(Ok(()));
        }
        self.again = None;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for FrameStream {
    fn drop(&mut self) {
        if self.ended() {
            self.let_go();
        }
    }
}
