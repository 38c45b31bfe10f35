//! A proxy for TLS connections that the firewall redirected: it reads the name of the server that the
//! client asks for, has it judged, and then carries bytes to where the client wanted to go.
//!
//! ```text
//!  guest ── TCP to ADDRESS:443 ── redirected ── greeting ── judge ── TCP to ADDRESS:443 ── server
//!                                                  │          └ refused: reset
//!                                                  └ kept, and sent first
//! ```
//!
//! What is proved: the first greeting of the connection names a server that the judge allows at this
//! address, in plain sight, and went on to while the connection lasts: whenever the policy, the host's addresses
//! or the uplink change, the judge is asked again. What is not:
//!
//! - That the server is this one, or serves this name alone. Inside the encrypted connection the client
//!   may ask a shared server for another of its names (domain fronting), and a server may take whatever
//!   name it likes.
//! - With Encrypted Client Hello only the outer name is seen, the one of the server's operator. A client
//!   finds the keys for it in DNS, where the guest's resolver gives none; one that has them from elsewhere
//!   reaches any name of that operator. The extension alone is no reason to refuse: browsers send it
//!   filled with noise to everybody.
//! - Anything about the certificate: nothing is decrypted, and TLS stays between guest and server.
//!
//! Knows no policy and no firewall, only a [`GreetingJudge`].

mod carry;
mod greeting;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::names::Refused;
use crate::egress::DnsName;
use crate::task::Tasks;

/// Connections at one time; further ones wait in the kernel. Each holds two buffers at most.
const MAX_CONNECTIONS: usize = 512;

/// How long connecting to the server may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// How long the server may take to accept the greeting into its buffers.
const GREETING_DEADLINE: Duration = Duration::from_secs(30);

/// After how much silence, in seconds, the kernel asks whether the other end is still there. A connection
/// may be silent for as long as both ends are.
const KEEPALIVE: u32 = 300;

/// After a failure of the listening socket itself, how long to leave it alone.
const PAUSE: Duration = Duration::from_millis(100);

/// Who decides which servers a guest may greet. One per VM.
pub(crate) trait GreetingJudge: Send + Sync + 'static {
    /// Whether a connection to `address` may ask for the server `name`. Records a denial. `None`: it is no
    /// TLS, or names no server, so only the address itself could allow it. Called for each connection, so
    /// it must be quick.
    ///
    /// # Errors
    /// When it may not: the connection is reset.
    fn may_greet(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused>;

    /// Changes whenever [`GreetingJudge::may_go_on`] may answer otherwise than before. The end of the sender
    /// is no change.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Whether a connection that greeted may go on, as things are now. Quick, and records a denial where it is
    /// the policy's.
    ///
    /// # Errors
    /// When it may not: the connection is reset.
    fn may_go_on(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused>;
}

/// Why a connection ended before bytes were carried.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("the connection was not redirected here")]
    NotRedirected(#[source] io::Error),
    #[error("the connection was made to the proxy itself")]
    Itself,
    #[error("the client ended before its greeting did")]
    Greeting(#[source] io::Error),
    #[error("the judge refused `{address}`")]
    Refused { address: SocketAddrV4 },
    #[error("cannot connect to `{address}`")]
    Connect {
        address: SocketAddrV4,
        #[source]
        source: io::Error,
    },
    #[error("the connection broke off")]
    Carry(#[source] io::Error),
}

/// Serves redirected connections until shutdown, in tasks of `tasks`. `connect` makes the connections to
/// servers (and marks them, where the firewall would redirect them again).
pub(crate) fn serve<C, F>(
    listener: TcpListener,
    judge: Arc<dyn GreetingJudge>,
    connect: C,
    tasks: &Tasks,
) where
    C: Fn(SocketAddrV4) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let large_buffers = Semaphore::new(carry::LARGE_BUFFERS);
    let proxy = Proxy { judge, connect, destination: original_destination, large_buffers };
    proxy.serve(listener, tasks);
}

struct Proxy<C> {
    judge: Arc<dyn GreetingJudge>,
    connect: C,
    destination: fn(&TcpStream) -> io::Result<SocketAddrV4>,
    large_buffers: Semaphore,
}

impl<C, F> Proxy<C>
where
    C: Fn(SocketAddrV4) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    fn serve(self, listener: TcpListener, tasks: &Tasks) {
        let (proxy, inner) = (Arc::new(self), tasks.clone());
        drop(tasks.spawn_until_shutdown("sni", async move {
            let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            loop {
                let permit = Arc::clone(&connections).acquire_owned().await;
                let permit = permit.expect("nobody closes it");
                let client = match listener.accept().await {
                    Ok((client, _)) => client,
                    Err(error) => {
                        tracing::warn!(%error, "the proxy cannot accept a connection");
                        sleep(PAUSE).await;
                        continue;
                    }
                };
                let proxy = Arc::clone(&proxy);
                drop(inner.spawn_until_shutdown("sni-connection", async move {
                    if let Err(error) = proxy.connection(client).await {
                        tracing::debug!(%error, "a connection through the proxy ended early");
                    }
                    drop(permit);
                }));
            }
        }));
    }

    /// Whatever goes wrong, the client's connection is reset: an orderly end would be an answer.
    async fn connection(&self, mut client: TcpStream) -> Result<(), ProxyError> {
        let carried = self.carry(&mut client).await;
        if carried.is_err() {
            // Where this fails the connection is gone already.
            drop(client.set_zero_linger());
        }
        carried
    }

    async fn carry(&self, client: &mut TcpStream) -> Result<(), ProxyError> {
        let address = (self.destination)(client).map_err(ProxyError::NotRedirected)?;
        if client.local_addr().is_ok_and(|own| own == SocketAddr::V4(address)) {
            return Err(ProxyError::Itself);
        }
        let greeting = greeting::read(client).await.map_err(ProxyError::Greeting)?;
        let changes = self.judge.changes();
        let judged = self.judge.may_greet(address, greeting.name.as_ref());
        judged.map_err(|Refused| ProxyError::Refused { address })?;
        let mut server = None;
        let carried = tokio::select! {
            // First, so that a change while it connected is seen before the greeting is sent.
            biased;
            () = self.refused(changes, address, greeting.name.as_ref()) => {
                Err(ProxyError::Refused { address })
            }
            carried = self.go_on(client, address, &greeting.bytes, &mut server) => carried,
        };
        if carried.is_err()
            && let Some(server) = server
        {
            drop(server.set_zero_linger());
        }
        carried
    }

    /// Connects to `address`, and carries. The connection comes to be in `server`.
    async fn go_on(
        &self,
        client: &mut TcpStream,
        address: SocketAddrV4,
        first: &[u8],
        server: &mut Option<TcpStream>,
    ) -> Result<(), ProxyError> {
        let connected = timeout(CONNECT_DEADLINE, (self.connect)(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let connected = connected.map_err(|source| ProxyError::Connect { address, source })?;
        self.say_and_carry(client, server.insert(connected), first).await.map_err(ProxyError::Carry)
    }

    /// Sends what the client has said already, and then carries both ways.
    async fn say_and_carry(
        &self,
        client: &mut TcpStream,
        server: &mut TcpStream,
        first: &[u8],
    ) -> io::Result<()> {
        for stream in [&*client, &*server] {
            stream.set_nodelay(true)?;
            setsockopt(stream, sockopt::KeepAlive, &true)?;
            setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE)?;
        }
        timeout(GREETING_DEADLINE, server.write_all(first)).await??;
        carry::both_ways(client, server, &self.large_buffers).await
    }

    /// Comes back when the judge lets the connection go on no longer.
    async fn refused(
        &self,
        mut changes: watch::Receiver<u64>,
        address: SocketAddrV4,
        name: Option<&DnsName>,
    ) {
        while changes.changed().await.is_ok() {
            if self.judge.may_go_on(address, name).is_err() {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Where a redirected connection was to go, as the kernel's connection tracking has it.
fn original_destination(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    let found = getsockopt(stream, sockopt::OriginalDst)?;
    let address = Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
    Ok(SocketAddrV4::new(address, u16::from_be(found.sin_port)))
}
