//! A TCP connection that is carried by frames: a forward, after the agent has said
//! [`Reply::Connected`].
//!
//! ```text
//!  socket ── read, no more than fits the window ──▶ Data … DataEnd ──▶ the other end
//!  socket ◀─ write ── at most a window waits ◀───── Data … DataEnd ◀── the other end
//!                          └─ what it has taken ──▶ Taken ───────────▶ the other end
//! ```
//!
//! Both ends run the same code. Each direction pushes back: what a socket does not take is not asked of the
//! other end. What arrives is always read all the same, because vhost-device-vsock does not go on writing what
//! one side has sent while that side does not read (see [`window`](super::window)).
//!
//! The end of one direction is a frame, and the other direction goes on. A connection that ends before both
//! directions have was broken off: whoever has the socket resets it.

use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::codec::Framed;

use super::frame::{Frame, FrameCodec};
use super::guest::{ConnectFailure, Reply};

/// How much of one direction may be on its way or wait for the socket, in bytes: the guest has little memory,
/// and hundreds of connections.
pub const WINDOW: usize = 256 * 1024;

/// How much is read from a socket at once.
const READ_BYTES: usize = 64 * 1024;

/// The other end is told of bytes that were taken when they are so many: often enough that it need not stop.
const WORTH_TELLING: usize = WINDOW / 4;

/// How long the agent may take to say whether it is connected: longer than it tries.
const ANSWER: Duration = Duration::from_secs(20);

/// What one end says to the other besides bytes: so many have been taken by its socket since this was said
/// last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The bytes.
    pub taken: u32,
}

/// Why a forward did not come about.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The agent says so.
    #[error("{message}")]
    Failed {
        /// Why.
        reason: ConnectFailure,
        /// The error, in the guest's words.
        message: String,
    },
    /// The connection broke, or the agent said something that fits nowhere.
    #[error("the connection to the guest's agent failed")]
    Broken(#[source] io::Error),
}

/// Waits for the agent's word that the forward is there.
///
/// # Errors
/// When it is not, or the agent does not say so in time.
pub async fn opened<S>(frames: &mut Framed<S, FrameCodec>) -> Result<(), NotOpened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = tokio::time::timeout(ANSWER, frames.next()).await;
    let frame = frame.map_err(|_| NotOpened::Broken(io::ErrorKind::TimedOut.into()))?;
    let frame = frame.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    match frame.and_then(|frame| frame.message()).map_err(NotOpened::Broken)? {
        Reply::Connected => Ok(()),
        Reply::ConnectFailed { reason, message } => Err(NotOpened::Failed { reason, message }),
        Reply::Failed { step, message } => {
            let message = format!("{step}: {message}");
            Err(NotOpened::Failed { reason: ConnectFailure::Other, message })
        }
        Reply::Health(_)
        | Reply::Stats(_)
        | Reply::Listening(_)
        | Reply::Done
        | Reply::TreeFailed { .. }
        | Reply::Copying { .. }
        | Reply::Copied(_)
        | Reply::CopyFailed { .. }
        | Reply::ExecDetached { .. }
        | Reply::ExecAttached(_)
        | Reply::Detached(_)
        | Reply::ExecStarted { .. }
        | Reply::StdinTaken { .. }
        | Reply::ExecFailed { .. }
        | Reply::ExecEnded(_) => Err(NotOpened::Broken(invalid("a message out of turn"))),
    }
}

/// Carries bytes between the socket and the other end until both directions have ended.
///
/// # Errors
/// When the socket or the other end is gone before that, or the other end sends more than it may.
pub async fn relay<S, T>(frames: &mut Framed<S, FrameCodec>, socket: &mut T) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = frames.split();
    let (mut reader, mut writer) = tokio::io::split(socket);
    let ways = Ways::default();
    // Sending ends when everything has; receiving only when the other end is gone.
    tokio::select! {
        sent = send(&mut reader, &mut sink, &ways) => sent,
        received = receive(&mut source, &mut writer, &ways) => received,
    }
}

/// How far both directions are.
struct Ways {
    now: Mutex<Now>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Now {
    /// How much may be sent.
    room: usize,
    /// How much the socket has taken, and the other end has not been told.
    untold: usize,
    /// The socket has no more to send, and the other end has been told.
    ended: bool,
    /// The other end has no more to send, and the socket has all of it.
    shut: bool,
}

impl Default for Ways {
    fn default() -> Self {
        let now = Now { room: WINDOW, untold: 0, ended: false, shut: false };
        Self { now: Mutex::new(now), changed: Notify::new() }
    }
}

impl Ways {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().expect("no panic under the lock")
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now());
        self.changed.notify_one();
    }

    /// What the other end is to be told now, if anything.
    fn tell(&self) -> Option<Taken> {
        let mut now = self.now();
        let worth = now.untold >= WORTH_TELLING || (now.shut && now.untold > 0);
        // No more than a window is ever untold.
        worth.then(|| Taken { taken: u32::try_from(std::mem::take(&mut now.untold)).unwrap_or(0) })
    }

    /// The other end's socket has taken more.
    fn taken(&self, Taken { taken }: Taken) -> io::Result<()> {
        if taken == 0 {
            return Err(invalid("nothing was taken, which need not be said"));
        }
        let room = usize::try_from(taken).ok().and_then(|taken| self.now().room.checked_add(taken));
        let room = room.filter(|room| *room <= WINDOW);
        let room = room.ok_or_else(|| invalid("more was taken than was sent"))?;
        self.change(|now| now.room = room);
        Ok(())
    }
}

impl Now {
    fn is_over(self) -> bool {
        self.ended && self.shut && self.untold == 0 && self.room == WINDOW
    }
}

/// Sends what the socket has, and what is to be told; returns when everything has ended.
async fn send(
    reader: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl Sink<Frame, Error = io::Error> + Unpin),
    ways: &Ways,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(taken) = ways.tell() {
            sink.send(Frame::control(&taken)?).await?;
            continue;
        }
        let now = *ways.now();
        if now.is_over() {
            return Ok(());
        }
        buffer.reserve(READ_BYTES);
        let mut room = (&mut buffer).limit(now.room.min(READ_BYTES));
        // Both arms are cancel-safe: nothing is read before the read completes, a change is kept.
        let read = tokio::select! {
            read = reader.read_buf(&mut room), if !now.ended && now.room > 0 => read?,
            () = ways.changed.notified() => continue,
        };
        if read == 0 {
            sink.send(Frame::DataEnd).await?;
            ways.change(|now| now.ended = true);
        } else {
            ways.now().room -= read;
            sink.send(Frame::Data(buffer.split().freeze())).await?;
        }
    }
}

/// Takes what the other end sends, until it is gone.
async fn receive(
    source: &mut (impl Stream<Item = io::Result<Frame>> + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    ways: &Ways,
) -> io::Result<()> {
    // Copies: a frame is a slice of a read buffer, which one byte would keep whole.
    let (mut waiting, mut end) = (BytesMut::new(), false);
    loop {
        if end && waiting.is_empty() && !ways.now().shut {
            writer.shutdown().await?;
            ways.change(|now| now.shut = true);
        }
        // Both arms are cancel-safe: `next` and `write` lose nothing.
        tokio::select! {
            frame = source.next() => match frame {
                None => {
                    let now = *ways.now();
                    let whole = now.ended && now.shut;
                    return whole.then_some(()).ok_or(io::ErrorKind::UnexpectedEof.into());
                }
                Some(frame) => match frame? {
                    Frame::Data(bytes) if bytes.is_empty() => return Err(invalid("no bytes were sent")),
                    Frame::Data(bytes) if !end && waiting.len() + bytes.len() <= WINDOW => {
                        waiting.extend_from_slice(&bytes);
                    }
                    Frame::Data(_) => return Err(invalid("more was sent than there is room for")),
                    Frame::DataEnd if !end => end = true,
                    message => ways.taken(message.message()?)?,
                },
            },
            written = writer.write(&waiting), if !waiting.is_empty() => {
                let written = written?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                waiting.advance(written);
                ways.change(|now| now.untold += written);
            }
        }
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests;
