//! One end of a pipe or a terminal, without blocking.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An open pipe end or terminal.
#[derive(Debug)]
pub(super) struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Takes over a descriptor and makes it non-blocking. The other end's flags are its own.
    ///
    /// # Errors
    /// When it cannot be polled.
    #[expect(unsafe_code, reason = "registering a descriptor promises that it stays open")]
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the value and open as long as it is registered.
        Ok(Self(unsafe { AsyncFd::register(descriptor) }?))
    }

    /// Reads as soon as there is something; 0 at the end. Cancel-safe.
    ///
    /// # Errors
    /// When reading fails.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.async_io(Interest::READABLE, |descriptor| read(descriptor, buffer)).await
    }

    /// Reads what is there now: `None` when nothing is, 0 at the end.
    ///
    /// # Errors
    /// When reading fails.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // Asks the kernel, not the runtime: readiness that was not polled yet would be missed.
        match read(self.0.get_ref(), buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }

    /// Writes as soon as there is room. Cancel-safe: what was written is in the result.
    ///
    /// # Errors
    /// When the other end is gone.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .async_io(Interest::WRITABLE, |descriptor| Ok(rustix::io::write(descriptor, bytes)?))
            .await
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

fn read(descriptor: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(descriptor, buffer) {
        // How a terminal says that nobody has its other side open any more.
        Err(Errno::IO) => Ok(0),
        read => Ok(read?),
    }
}
