//! jsonrpsee over a Unix socket: HTTP and WebSocket on the same socket, and byte streams beside it.
//!
//! Our service stands in front of jsonrpsee's: it takes `GET /stream/TICKET` for itself and hands on
//! everything else. Only the daemon's own user may connect; the socket's mode says so, and the peer's
//! credentials are checked again on every connection, because a mode can be changed.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use jsonrpsee::server::{
    HttpBody, HttpResponse, Methods, Server, ServerConfig, StopHandle,
    serve_with_graceful_shutdown, stop_channel, ws,
};
use tokio::net::{UnixListener, UnixStream};
use tower::Service as _;

use super::methods;
pub use super::methods::{Daemon, Services};
use super::streams::{self, Request, Tickets};
use crate::process::ShortFolder;
use crate::report::{Explain, Kind};
use crate::task::Tasks;
use crate::vm::ConnectionId;

/// Connections at once: hundreds of `exec` on one machine, little enough to be held in memory.
const MAX_CONNECTIONS: u32 = 512;
/// Subscriptions of one connection.
const MAX_SUBSCRIPTIONS: u32 = 64;
/// Bytes of a request: an environment of the largest size allowed fits.
const MAX_REQUEST: u32 = 10 << 20;
/// Bytes of a response: a page of VMs, or a console's ring, escaped.
const MAX_RESPONSE: u32 = 32 << 20;

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another daemon answers on it.
    #[error("a daemon is listening on `{}` already", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("cannot listen on `{}`", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Explain for ServeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Taken { .. } => Kind::Conflict,
            Self::Listen { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("`cove daemon status` shows it".to_owned()),
            Self::Listen { .. } => None,
        }
    }
}

/// The socket's owner: the file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing can be done about a socket that somebody else has removed.
        std::fs::remove_file(&self.path).ok();
    }
}

impl Socket {
    /// Listens on a socket of mode 0600 in a folder of mode 0700, however long its path is. A socket
    /// that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When another daemon listens on it, or it cannot be made.
    pub fn listen(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let short = ShortFolder::open(folder).map_err(failed)?;
        match std::os::unix::net::UnixStream::connect(short.path_of(name)) {
            Ok(_) => {
                return Err(ServeError::Taken { path: path.to_owned() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(short.path_of(name)).map_err(failed)?;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until the tasks are told to end.
    pub async fn serve(self, services: Services, tasks: Tasks) {
        let tickets = Arc::new(Tickets::default());
        let methods: Methods = methods::module(services.clone(), tickets.clone()).into();
        let (stop, stopper) = stop_channel();
        let front = Front { services, methods, tickets, tasks: tasks.clone(), stop };
        let connections = AtomicU64::new(0);
        let shutdown = tasks.shutdown();
        loop {
            // Both arms are cancel-safe: a connection is accepted or not.
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) if is_own_user(&stream) => {
                    let id = ConnectionId(connections.fetch_add(1, Ordering::Relaxed));
                    tasks.spawn("connection", front.clone().connection(stream, id));
                }
                Ok(_) => tracing::warn!("refused a process of another user"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of descriptors: whoever closes one lets the next try succeed.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
        stopper.stop().ok();
    }
}

fn is_own_user(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}

/// What stands in front of jsonrpsee.
#[derive(Clone)]
struct Front {
    services: Services,
    methods: Methods,
    tickets: Arc<Tickets>,
    tasks: Tasks,
    stop: StopHandle,
}

impl Front {
    async fn connection(self, stream: UnixStream, id: ConnectionId) {
        let builder = Server::builder().set_config(configuration()).to_service_builder();
        let stop = self.stop.clone().shutdown();
        let service = tower::service_fn(move |mut request: Request| {
            let front = self.clone();
            let mut rpc = builder.clone().build(front.methods.clone(), front.stop.clone());
            if let Some(ticket) = streams::ticket(&request) {
                let response = front.stream(&ticket, request);
                return std::future::ready(Ok(response)).boxed();
            }
            if ws::is_upgrade_request(&request) {
                request.extensions_mut().insert(LastingConnection(id));
                front.services.vms.connection_opened(id);
                let closed = rpc.on_session_closed();
                let vms = front.services.vms.clone();
                front.tasks.spawn_until_shutdown("session", async move {
                    closed.await;
                    vms.connection_closed(id);
                });
            }
            let answer = async move { rpc.call(request).await.map_err(io::Error::other) };
            answer.boxed()
        });
        // A client that breaks off is no failure of the daemon.
        if let Err(error) = serve_with_graceful_shutdown(stream, service, stop).await {
            tracing::debug!(error, "a connection ended early");
        }
    }

    fn stream(&self, ticket: &str, request: Request) -> HttpResponse<HttpBody> {
        streams::open(&self.tickets, ticket, request, &self.tasks)
    }
}

/// In the extensions of requests on a WebSocket: a connection that a lease can be held on.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastingConnection(pub(super) ConnectionId);

fn configuration() -> ServerConfig {
    ServerConfig::builder()
        .max_connections(MAX_CONNECTIONS)
        .max_subscriptions_per_connection(MAX_SUBSCRIPTIONS)
        .max_request_body_size(MAX_REQUEST)
        .max_response_body_size(MAX_RESPONSE)
        .build()
}
