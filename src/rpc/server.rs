//! What the daemon listens on: a Unix socket, and a port of the loopback where that is configured.
//!
//! Only the daemon's own user may connect to the socket; its mode says so, and the peer's credentials are
//! checked again on every connection, because a mode can be changed. What is said on a connection is the
//! business of `front`.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jsonrpsee::server::stop_channel;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::front::Front;
pub use super::hook_runs::HookRuns;
pub use super::limits::Limits;
pub use super::loopback::Loopback;
pub use super::methods::{Daemon, Plugins, Services};
pub use super::workspaces::{ExportStream, Exported, WorkspaceRuns};
use crate::process::ShortFolder;
use crate::report::{Explain, Kind};
use crate::task::Tasks;

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
    /// The port of the loopback could not be had.
    #[error("cannot listen on `{address}`")]
    Port {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The token could not be read or made.
    #[error("the token `{}` cannot be used", path.display())]
    Token {
        /// Its file.
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
            Self::Listen { .. } | Self::Port { .. } | Self::Token { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("`cove daemon status` shows it".to_owned()),
            Self::Listen { .. } => None,
            Self::Port { .. } => {
                Some("give `[rpc] listen` an address of the loopback that is free".to_owned())
            }
            Self::Token { .. } => {
                Some("remove it: the daemon makes another at its next start".to_owned())
            }
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
}

/// Serves until the tasks are told to end.
pub async fn serve(
    socket: Socket,
    loopback: Option<Loopback>,
    services: Services,
    limits: Limits,
    tasks: Tasks,
) {
    let (stop, stopper) = stop_channel();
    let mut front = Front::new(services, limits, tasks.clone(), stop);
    let shutdown = tasks.shutdown();
    let listener = loopback.as_ref().map(Loopback::listener);
    loop {
        // All arms are cancel-safe: a connection is accepted or not.
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted.map(|(stream, _)| Caller::Local(stream)),
            accepted = accept(listener) => accepted.map(Caller::Loopback),
            () = shutdown.cancelled() => break,
        };
        match (accepted, &loopback) {
            (Ok(Caller::Local(stream)), _) if is_own_user(&stream) => front.take(stream, None),
            (Ok(Caller::Local(_)), _) => tracing::warn!("refused a process of another user"),
            (Ok(Caller::Loopback(stream)), Some(loopback)) => {
                front.take(stream, Some(loopback.gate()));
            }
            (Ok(Caller::Loopback(_)), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of descriptors: whoever closes one lets the next try succeed.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    stopper.stop().ok();
}

/// A connection as it was accepted.
enum Caller {
    Local(UnixStream),
    Loopback(TcpStream),
}

/// A connection from the loopback; waits for ever where there is no listener. Cancel-safe.
async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn is_own_user(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}
