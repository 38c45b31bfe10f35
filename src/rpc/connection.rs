//! One client's connection as the server reads and writes it: counted for as long as it lives, in whatever
//! it has turned into, and looked at once it speaks WebSocket.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::frames::Frames;

/// Bytes read at a time once the connection speaks WebSocket.
const READ: usize = 16 * 1024;

/// A connection that is counted and looked at.
#[derive(Debug)]
pub(super) struct Connection<I> {
    io: I,
    state: Arc<State>,
    frames: Frames,
    /// What may be read, from `start` on.
    ready: Vec<u8>,
    start: usize,
    ended: bool,
    /// Given back when the connection is gone: also one that became a WebSocket or a byte stream.
    _permit: OwnedSemaphorePermit,
}

/// What the server knows and says of a connection that it is not reading right now.
#[derive(Debug, Default)]
pub(super) struct State {
    speaks_websocket: AtomicBool,
    /// The last four bytes read before.
    tail: AtomicU32,
}

impl State {
    /// From here on the client's bytes are frames. Says whether that can be known: a client that has sent
    /// more than the head of its request already has frames that were not looked at.
    pub(super) fn upgraded(&self) -> bool {
        self.speaks_websocket.store(true, Ordering::Release);
        self.tail.load(Ordering::Acquire).to_be_bytes() == *b"\r\n\r\n"
    }

    fn remember(&self, read: &[u8]) {
        let mut tail = self.tail.load(Ordering::Acquire);
        for byte in &read[read.len().saturating_sub(4)..] {
            tail = tail << 8 | u32::from(*byte);
        }
        self.tail.store(tail, Ordering::Release);
    }
}

impl<I> Connection<I> {
    /// A connection whose WebSocket messages have at most so many bytes.
    pub(super) fn new(io: I, permit: OwnedSemaphorePermit, max_message: u32) -> Self {
        Self {
            io,
            state: Arc::default(),
            frames: Frames::new(max_message as usize),
            ready: Vec::new(),
            start: 0,
            ended: false,
            _permit: permit,
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Hands out what may be read. Says whether there was anything.
    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = &self.ready[self.start..];
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.start += length;
        if self.start == self.ready.len() {
            self.ready.clear();
            self.start = 0;
        }
        length > 0
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.state.speaks_websocket.load(Ordering::Acquire) {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
            this.state.remember(&buffer.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        while !this.hand_out(buffer) && !this.ended && buffer.remaining() > 0 {
            let mut bytes = [MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut this.io).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                this.ended = true;
                this.frames.end(&mut this.ready);
                this.hand_out(buffer);
            } else {
                this.frames.take(read.filled(), &mut this.ready);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
