//! What the host's connections are: sockets, which the runtime has but for the time of a large stream.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, FramedParts};

use super::Frames;
use crate::line::{Line, Patience};
use crate::wire::frame::{Frame, FrameCodec};

/// How long the host may pause in the middle of a copy, whose user may have suspended it for a while, or of a tree:
/// before its end the host waits until git there has written down all that went in.
const PATIENCE: Patience = Patience { pause: Duration::from_secs(600), whom: "host" };

/// A connection of the host: a socket.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// Takes the socket away from the runtime.
    ///
    /// # Errors
    /// When the runtime does not let go of it.
    fn leave(self) -> io::Result<OwnedFd>;

    /// Gives a socket that does not block to the runtime.
    ///
    /// # Errors
    /// When the runtime does not take it.
    fn enter(socket: OwnedFd) -> io::Result<Self>;
}

/// Has a thread do its work on a connection, and brings that back.
///
/// # Errors
/// When the connection was left in the middle of a frame, or is no socket any more: nothing can be said on it then.
pub(in crate::agent) async fn on_thread<S: Connection, T: Send + 'static>(
    frames: Frames<S>,
    work: impl FnOnce(&mut Line) -> T + Send + 'static,
) -> io::Result<(T, Frames<S>)> {
    let parts = frames.into_parts();
    let mut line = Line::new(parts.io.leave()?, &parts.read_buf, PATIENCE)?;
    let worked = tokio::task::spawn_blocking(move || (work(&mut line), line)).await;
    let (done, line) = worked.map_err(io::Error::other)?;
    let (socket, rest) = line.into_parts()?;
    let mut parts = FramedParts::new::<Frame>(S::enter(socket)?, FrameCodec::default());
    parts.read_buf = rest;
    Ok((done, Framed::from_parts(parts)))
}
