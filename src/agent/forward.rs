//! Connections of the host to ports of the guest.
//!
//! Only the guest's own loopback is reached: a forward is a way to the programs in the guest, not through
//! it to its network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{ConnectFailure, Reply};
use crate::wire::relay::relay;

/// How many connections are forwarded at once. Each holds at most two windows of bytes.
pub const MAX_FORWARDS: usize = 256;

/// How long a program may take to be connected to: only one whose queue is full lets one wait.
const CONNECT: Duration = Duration::from_secs(10);

/// Where programs listen. A program on `::1` alone is rare, so it comes last.
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The places for forwarded connections.
#[derive(Debug)]
pub struct Forwards(Semaphore);

impl Default for Forwards {
    fn default() -> Self {
        Self(Semaphore::new(MAX_FORWARDS))
    }
}

/// Connects to the port and carries the connection to its end.
///
/// # Errors
/// When either side is gone before that; the program's connection has then been reset.
pub async fn run<S>(
    forwards: &Forwards,
    port: u16,
    frames: &mut Framed<S, FrameCodec>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(_place) = forwards.0.try_acquire() else {
        let message = format!("{MAX_FORWARDS} connections are forwarded already");
        return refuse(ConnectFailure::TooMany, message, frames).await;
    };
    let mut socket = match connect(port).await {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let message = format!("nothing listens on port {port} of the guest");
            return refuse(ConnectFailure::Refused, message, frames).await;
        }
        Err(error) => {
            let message = format!("cannot connect to port {port} of the guest: {error}");
            return refuse(ConnectFailure::Other, message, frames).await;
        }
    };
    frames.send(Frame::control(&Reply::Connected)?).await?;
    let relayed = relay(frames, &mut socket).await;
    if relayed.is_err() {
        // The program must not take what was broken off for a whole.
        socket.set_zero_linger().ok();
    }
    relayed
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let mut refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    for loopback in LOOPBACKS {
        match timeout(CONNECT, TcpStream::connect(SocketAddr::new(loopback, port))).await? {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = error,
            // A guest without IPv6 has no such address: that nothing listens is the better reason.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            connected => {
                let socket = connected?;
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
        }
    }
    Err(refused)
}

async fn refuse<S>(
    reason: ConnectFailure,
    message: String,
    frames: &mut Framed<S, FrameCodec>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    frames.send(Frame::control(&Reply::ConnectFailed { reason, message })?).await
}
