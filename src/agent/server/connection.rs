//! What the host's connections are: sockets, which the runtime has but for the time of a large stream.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncRead, AsyncWrite};

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
