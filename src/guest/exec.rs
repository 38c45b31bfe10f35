//! The connection of a running program or of a forward, as bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::{Framed, FramedParts};

use super::{Frames, Stream};
use crate::wire::frame::FrameCodec;

/// The connection of a program or of a forward: frames in both directions, beginning with the agent's
/// reply. It can be spliced to a client as it is, or [framed](Self::framed) and read here.
///
/// A program gets SIGHUP, and a forwarded connection is reset, when the host's side is shut down or dropped;
/// the end of the input is a frame of its own.
pub struct FrameStream {
    /// What had been read before the stream was handed out.
    buffered: BytesMut,
    stream: Stream,
}

impl FrameStream {
    pub(super) fn of(frames: Frames) -> Self {
        let parts = frames.into_parts();
        Self { buffered: parts.read_buf, stream: parts.io }
    }

    /// The frames of the connection.
    #[must_use]
    pub fn framed(self) -> Framed<Stream, FrameCodec> {
        let mut parts =
            FramedParts::new::<crate::wire::frame::Frame>(self.stream, FrameCodec::default());
        parts.read_buf = self.buffered;
        Framed::from_parts(parts)
    }
}

impl AsyncRead for FrameStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffered.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.buffered.len().min(buffer.remaining());
        buffer.put_slice(&self.buffered[..length]);
        self.buffered.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
