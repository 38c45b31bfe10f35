//! How vsock devices pass connections on.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::agent::server::Connection;
use crate::task::Tasks;

impl Connection for UnixStream {
    fn leave(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn enter(socket: OwnedFd) -> io::Result<Self> {
        Self::from_std(socket.into())
    }
}

/// How a vsock device passes a connection of the host on to the agent.
pub(super) type Device = fn(UnixStream, &Tasks) -> UnixStream;

/// As it is.
pub(super) fn straight(host: UnixStream, _: &Tasks) -> UnixStream {
    host
}

/// As vhost-device-vsock does at its worst: what the host has sent comes first, and as long as the agent
/// does not take it, nothing of the agent reaches the host.
pub(super) fn one_way_at_a_time(host: UnixStream, tasks: &Tasks) -> UnixStream {
    let (mut guest, agent) = UnixStream::pair().expect("a pair");
    let mut host = host;
    tasks.spawn("device", async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (from, to) = tokio::select! {
                biased;
                _ = host.readable() => (&mut host, &mut guest),
                _ = guest.readable() => (&mut guest, &mut host),
            };
            match from.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(read) if read > 0 => to.write_all(&buffer[..read]).await.expect("passed on"),
                _ => return,
            }
        }
    });
    agent
}
