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
//! The firewall does not see these connections. What its rules say of the proxy's, [`Exit::connect`] says
//! first: nothing of the host's own, nothing in a special range, the port of TLS, and an uplink that is there.

use std::io;
use std::net::{SocketAddrV4, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::known::Known;
use super::links;
use crate::net::rules::TLS_PORT;

/// Bytes of stack of the thread: it makes one system call at a time.
const STACK: usize = 128 << 10;

/// Questions that wait for the thread; it answers each in microseconds.
const WAITING: usize = 64;

type Answer = oneshot::Sender<io::Result<OwnedFd>>;

/// A thread in the network that this process was in when it started. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    questions: mpsc::SyncSender<Answer>,
}

impl Outside {
    /// Starts it, in the network namespace of the caller.
    ///
    /// # Errors
    /// When there cannot be another thread.
    pub(super) fn stay() -> io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel::<Answer>(WAITING);
        let serve = move || {
            for answer in asked {
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
        let busy = |_| io::Error::from(io::ErrorKind::ResourceBusy);
        self.questions.try_send(answer).map_err(busy)?;
        let made = answered.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
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
        /// The namespace's own way out. Without it nothing is reached.
        uplink: String,
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
            Self::Outside { sockets, known, uplink } => {
                if address.port() != TLS_PORT || !known.is_outside(*address.ip()) {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                if !links::is_there(uplink) {
                    return Err(io::ErrorKind::NetworkDown.into());
                }
                sockets.socket().await?.connect(address.into()).await
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
        let exit = |uplink: &str| Exit::Outside {
            sockets: Outside::stay().expect("a thread"),
            known: known.clone(),
            uplink: uplink.to_owned(),
        };
        let connect = async |uplink: &str, address, port| {
            let connected = exit(uplink).connect(SocketAddrV4::new(address, port)).await;
            connected.map(drop).map_err(|error| error.kind())
        };
        let metadata = Ipv4Addr::new(169, 254, 169, 254);
        let private = Ipv4Addr::new(10, 0, 0, 1);
        for address in [host, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, metadata, private] {
            let refused = connect("lo", address, TLS_PORT).await;
            assert_eq!(refused, Err(ErrorKind::PermissionDenied), "{address}");
        }
        assert_eq!(connect("lo", public, 80).await, Err(ErrorKind::PermissionDenied));
        assert_eq!(connect("gone0", public, TLS_PORT).await, Err(ErrorKind::NetworkDown));
    }

    #[tokio::test]
    async fn sockets_are_made_as_long_as_anybody_asks() {
        let outside = Outside::stay().expect("a thread");
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("bound");
        let address = listener.local_addr().expect("bound");
        for _ in 0..2 * WAITING {
            let socket = outside.clone().socket().await.expect("a socket");
            drop(socket.connect(address).await.expect("connected"));
        }
    }
}
