//! How the connections of the proxy leave.
//!
//! ```text
//!  namespace │ guest ── redirected ── proxy ─┬─ bridge: a socket of the namespace, by the uplink and its rules
//!  ──────────┼───────────────────────────────┼───────────────────────────────────────────────────────────────
//!  host      │       thread ── sockets ──────┴─ user: a socket of the host, connected to what is outside alone
//! ```
//!
//! In mode `user` all that leaves the namespace is ended by pasta, and goes on over a socket of the host. The
//! proxy has ended the guest's connection already; by pasta it would be ended a second time, which made the
//! proxy a fifth slower than connections without it. So it has sockets of the host itself: one thread stays
//! behind when the keeper moves to its namespace, and the sockets that it makes are the host's, whoever uses
//! them. It can do what any program of the user can, and no more: so can pasta.
//!
//! The firewall does not see these connections. What its rules say of the proxy's on a bridge, [`Exit::connect`]
//! says here: nothing of the host's own, nothing in a special range, the port of TLS, and an uplink that is
//! there. The judge goes on saying so while they last.

use std::io;
use std::net::{SocketAddrV4, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::known::Known;
use crate::net::rules::TLS_PORT;

/// Bytes of stack of the thread: it makes one system call at a time.
const STACK: usize = 128 << 10;

/// Questions that wait for the thread, which answers each in microseconds; more of them wait for a place.
const WAITING: usize = 64;

type Answer = oneshot::Sender<io::Result<OwnedFd>>;

/// A thread in the network that this process was in when it started. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Outside {
    questions: mpsc::Sender<Answer>,
}

impl Outside {
    /// Starts it, in the network namespace of the caller.
    ///
    /// # Errors
    /// When there cannot be another thread.
    pub(super) fn stay() -> io::Result<Self> {
        let (questions, mut asked) = mpsc::channel::<Answer>(WAITING);
        let serve = move || {
            while let Some(answer) = asked.blocking_recv() {
                let made = socket(
                    AddressFamily::Inet,
                    SockType::Stream,
                    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                    None,
                );
                // Whoever asked may be gone.
                drop(answer.send(made.map_err(io::Error::from)));
            }
        };
        std::thread::Builder::new().name("outside".into()).stack_size(STACK).spawn(serve)?;
        Ok(Self { questions })
    }

    /// A TCP socket there, not connected.
    async fn socket(&self) -> io::Result<TcpSocket> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread outside has ended");
        self.questions.send(answer).await.map_err(|_| gone())?;
        let made = answered.await.map_err(|_| gone())??;
        Ok(TcpSocket::from_std_stream(StdTcpStream::from(made)))
    }
}

/// By which way the proxy's connections leave.
#[derive(Debug)]
pub(super) enum Exit {
    /// By the namespace's own: the firewall sees them.
    Namespace,
    /// By sockets of the host.
    Outside {
        /// Who makes them.
        sockets: Outside,
        /// What is not outside.
        known: Arc<Known>,
    },
}

impl Exit {
    /// Connects to a server.
    ///
    /// # Errors
    /// When it does not answer, or is nowhere that the proxy may go to.
    pub(super) async fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        match self {
            Self::Namespace => TcpStream::connect(address).await,
            Self::Outside { sockets, known } => {
                let socket = sockets.socket().await?;
                // Last, so that nothing changes between this and the first packet.
                if address.port() != TLS_PORT || !known.leads_out(*address.ip()) {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                socket.connect(address.into()).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::net::ranges::Prefix;

    #[tokio::test]
    async fn what_is_not_outside_is_never_connected_to() {
        let (host, public) = (Ipv4Addr::new(11, 1, 1, 1), Ipv4Addr::new(11, 1, 1, 2));
        let known = Arc::new(Known::default());
        known.set_host(vec![Prefix::around(host, 32)]);
        let sockets = Outside::stay().expect("a thread");
        let exit = Exit::Outside { sockets, known: known.clone() };
        let connect = async |address, port| {
            let connected = exit.connect(SocketAddrV4::new(address, port)).await;
            connected.map(drop).map_err(|error| error.kind())
        };
        let without_an_uplink = connect(public, TLS_PORT).await;
        assert_eq!(without_an_uplink, Err(ErrorKind::PermissionDenied));
        known.set_uplink(true);
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        let private = Ipv4Addr::new(10, 0, 0, 1);
        for address in [host, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, metadata, private] {
            let refused = connect(address, TLS_PORT).await;
            assert_eq!(refused, Err(ErrorKind::PermissionDenied), "{address}");
        }
        assert_eq!(connect(public, 80).await, Err(ErrorKind::PermissionDenied));
        assert!(known.leads_out(public), "or all of this says nothing");
    }

    #[tokio::test]
    async fn everybody_gets_a_socket_however_many_ask_at_once() {
        let outside = Outside::stay().expect("a thread");
        let asked = (0..4 * WAITING).map(|_| outside.socket());
        let made = futures_util::future::join_all(asked).await;
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }
}
