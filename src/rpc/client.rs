//! A client of the daemon: JSON-RPC over a WebSocket on its Unix socket, and byte streams beside it.
//!
//! Knows nothing of terminals or of the command line; needs the feature `client` only. One [`Client`]
//! is one connection, and a lease (`vm.create` with `lease`) lives as long as that connection does, so
//! a client keeps it open until its work is done.
//!
//! With `default-features = false, features = ["client"]` this and the wire types are a library for other
//! programs, without the daemon's dependencies; `examples/client.rs` is one.
//!
//! ```no_run
//! # async fn example() -> Result<(), cove::report::Report> {
//! use cove::report::Report;
//! use cove::rpc::client::Client;
//! use cove::wire::rpc::{Page, VmList};
//!
//! let socket = std::path::Path::new("/home/ada/.cove/run/coved.sock");
//! let client = Client::connect(socket).await.map_err(|error| Report::of(&error))?;
//! for vm in client.call::<VmList>(Page::default()).await?.vms {
//!     println!("{} {:?}", vm.name, vm.state);
//! }
//! # Ok(())
//! # }
//! ```

mod command;
mod copy;
mod export;

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use jsonrpsee::client_transport::ws::{Url, WsHandshakeError, WsTransportClientBuilder};
use jsonrpsee::core::client::async_client::PingConfig;
use jsonrpsee::core::client::{
    Client as Connection, ClientBuilder, ClientT, Error, Subscription as Notifications,
    SubscriptionClientT,
};
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::core::{JsonRawValue, to_json_raw_value};
use serde::Serialize;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, FramedParts};

use crate::report::{Explain, Kind, Report};
use crate::wire::frame::FrameCodec;
use crate::wire::rpc::{Method, STREAM_PROTOCOL, StreamTicket, Subscription};

pub use command::CommandOutput;
pub use copy::{CopyIn, CopyOut, Cut, Ending, InStream, OutStream, copy_failed};
pub use export::Export;

/// A byte stream of the daemon, in frames.
pub type ByteStream = Framed<UnixStream, FrameCodec>;

/// How long a handshake may take: the daemon does nothing but answer.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);

/// The bound on one request. `op.wait` lasts as long as its operation, so the bound is no measure of
/// the daemon's health; the pings below are.
const REQUEST_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// A daemon that has answered no ping for three times this long is given up.
const PING_PATIENCE: Duration = Duration::from_secs(40);

/// The longest answer in bytes: a page of 1000 VMs is below 2 MiB, the plan of a large repository names
/// every file.
pub(super) const MAX_ANSWER: u32 = 64 << 20;

/// The longest request in bytes: what the server of jsonrpsee takes when nothing else is said.
pub(super) const MAX_REQUEST: u32 = 10 << 20;

/// How much of a refusal is read when a byte stream cannot be opened.
const MAX_REFUSAL: usize = 64 * 1024;

/// The longest path of a Unix socket in bytes (`sun_path` without its end).
const MAX_SOCKET_PATH: usize = 107;

/// The HTTP status with which a daemon refuses a connection too many.
const TOO_MANY: u16 = 429;

/// Why the daemon could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or it may not be opened.
    #[error("cannot reach the daemon at `{}`", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there, but does not speak the protocol.
    #[error("`{}` does not answer as a daemon of cove", socket.display())]
    Handshake {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: Box<WsHandshakeError>,
    },
    /// The daemon has as many connections as it takes.
    #[error("the daemon at `{}` has too many connections", socket.display())]
    Crowded {
        /// The socket.
        socket: PathBuf,
    },
    /// Somebody listens there, but does not answer.
    #[error("the daemon at `{}` did not answer within {} s", socket.display(), HANDSHAKE_DEADLINE.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
}

impl ClientError {
    /// Whether no daemon runs there, so that starting one helps.
    #[must_use]
    pub fn nobody_listens(&self) -> bool {
        match self {
            Self::Connect { source, .. } => {
                matches!(
                    source.kind(),
                    // A file in the place of a folder: the daemon, once started, says which.
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::NotADirectory
                )
            }
            Self::Handshake { .. } | Self::Crowded { .. } | Self::Silent { .. } => false,
        }
    }

    /// Whether the connection broke off while it was being made, as it does when the daemon ends just then:
    /// trying again tells who listens now.
    #[must_use]
    pub fn broke_off(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = match self {
            Self::Connect { source, .. } => Some(source),
            Self::Handshake { source, .. } => Some(&**source),
            Self::Crowded { .. } | Self::Silent { .. } => None,
        };
        while let Some(error) = next {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(
                kind,
                Some(
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::UnexpectedEof
                )
            ) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl Explain for ClientError {
    fn kind(&self) -> Kind {
        Kind::Unreachable
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Connect { .. } if self.nobody_listens() => {
                "start it with `cove daemon start`".to_owned()
            }
            Self::Connect { .. } => "is it another user's socket?".to_owned(),
            Self::Crowded { .. } => "end some of the commands that use it".to_owned(),
            Self::Handshake { .. } | Self::Silent { .. } => {
                "end that process, then run `cove daemon start`".to_owned()
            }
        })
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    socket: PathBuf,
}

impl Client {
    /// Connects. Paths of any length work.
    ///
    /// # Errors
    /// When nobody listens on the socket, or no daemon does.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = dial(socket)
            .await
            .map_err(|source| ClientError::Connect { socket: socket.to_owned(), source })?;
        // The name only fills the `Host` header.
        let url = Url::parse("ws://localhost/").expect("the address is constant and valid");
        let handshake = WsTransportClientBuilder::default()
            .max_request_size(MAX_REQUEST)
            .max_response_size(MAX_ANSWER)
            .build_with_stream(url, stream);
        let (sender, receiver) = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake)
            .await
            .map_err(|_| ClientError::Silent { socket: socket.to_owned() })?
            .map_err(|source| match source {
                WsHandshakeError::Rejected { status_code: TOO_MANY } => {
                    ClientError::Crowded { socket: socket.to_owned() }
                }
                source => {
                    ClientError::Handshake { socket: socket.to_owned(), source: Box::new(source) }
                }
            })?;
        let pings = PingConfig::new()
            .ping_interval(PING_PATIENCE / 2)
            .inactive_limit(PING_PATIENCE)
            .max_failures(3);
        let connection = ClientBuilder::new()
            .request_timeout(REQUEST_DEADLINE)
            .enable_ws_ping(pings)
            .build_with_tokio(sender, receiver);
        Ok(Self { connection, socket: socket.to_owned() })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// What the daemon reports; of kind `unreachable` when the connection is lost.
    pub async fn call<M: Method>(&self, params: M::Params) -> Result<M::Reply, Report> {
        let answer = self.connection.request(M::NAME, Object(params)).await;
        answer.map_err(|error| report(M::NAME, error))
    }

    /// Subscribes. Dropping the result unsubscribes.
    ///
    /// # Errors
    /// What the daemon reports; of kind `unreachable` when the connection is lost.
    pub async fn subscribe<S: Subscription>(&self, params: S::Params) -> Result<Events<S>, Report> {
        let subscribed =
            self.connection.subscribe(S::SUBSCRIBE, Object(params), S::UNSUBSCRIBE).await;
        subscribed
            .map(|notifications| Events(notifications, PhantomData))
            .map_err(|error| report(S::SUBSCRIBE, error))
    }

    /// Opens the byte stream of a ticket, on a connection of its own.
    ///
    /// # Errors
    /// When the daemon refuses the ticket or cannot be reached.
    pub async fn open_stream(&self, ticket: &StreamTicket) -> Result<ByteStream, Report> {
        let opened = tokio::time::timeout(HANDSHAKE_DEADLINE, upgrade(&self.socket, ticket)).await;
        opened.unwrap_or_else(|_| {
            Err(Report::new(Kind::TimedOut, "the daemon did not open the byte stream in time"))
        })
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) {
        self.connection.on_disconnect().await;
    }
}

/// The events of a subscription.
#[derive(Debug)]
pub struct Events<S: Subscription>(Notifications<S::Event>, PhantomData<S>);

impl<S: Subscription> Events<S> {
    /// The next event; `None` when the daemon ended the subscription, the connection is gone, or
    /// events were not fetched fast enough. Cancel-safe.
    ///
    /// # Errors
    /// When the event is not understood.
    pub async fn next(&mut self) -> Option<Result<S::Event, Report>> {
        let event = self.0.next().await?;
        Some(event.map_err(|error| not_understood(S::EVENT, &error)))
    }
}

/// Parameters as the object they are.
struct Object<P>(P);

impl<P: Serialize> ToRpcParams for Object<P> {
    fn to_rpc_params(self) -> Result<Option<Box<JsonRawValue>>, serde_json::Error> {
        to_json_raw_value(&self.0).map(Some)
    }
}

/// Connects to a Unix socket, whose path may be longer than the kernel takes: then it is named relative
/// to a descriptor of its folder.
pub(super) async fn dial(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(socket).await;
    }
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let folder = File::open(socket.parent().ok_or_else(invalid)?)?;
    let name = Path::new(socket.file_name().ok_or_else(invalid)?);
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    UnixStream::connect(short.join(name)).await
}

async fn upgrade(socket: &Path, ticket: &StreamTicket) -> Result<ByteStream, Report> {
    let lost = |error: &dyn std::error::Error| {
        Report::new(Kind::Unreachable, "cannot open a byte stream of the daemon").with_cause(error)
    };
    let stream = dial(socket).await.map_err(|error| lost(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| lost(&error))?;
    let request = http::Request::get(format!("/stream/{}", ticket.ticket))
        .header(http::header::HOST, "localhost")
        .header(http::header::CONNECTION, "Upgrade")
        .header(http::header::UPGRADE, STREAM_PROTOCOL)
        .body(Empty::<Bytes>::new())
        .map_err(|error| lost(&error))?;
    let talk = async move {
        let response = sender.send_request(request).await.map_err(|e| lost(&e))?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| lost(&e))?;
        let parts = upgraded.downcast::<TokioIo<UnixStream>>();
        let parts =
            parts.map_err(|_| lost(&io::Error::other("the connection changed its type")))?;
        let mut framed = FramedParts::new::<crate::wire::frame::Frame>(
            parts.io.into_inner(),
            FrameCodec::default(),
        );
        // Frames that came together with the answer to the upgrade.
        framed.read_buf.extend_from_slice(&parts.read_buf);
        Ok(Framed::from_parts(framed))
    };
    // The connection has to be driven until the stream is taken out of it; its own errors show up in
    // the request as well.
    let (_, opened) = tokio::join!(connection.with_upgrades(), talk);
    opened
}

/// What the daemon says when it does not open a stream: a report, or plain text.
async fn refusal(response: http::Response<hyper::body::Incoming>) -> Report {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_else(|_| {
        let kind = match status {
            http::StatusCode::NOT_FOUND => Kind::NotFound,
            _ => Kind::Failed,
        };
        let mut report = Report::new(kind, format!("the daemon opened no byte stream ({status})"));
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        report.cause.extend((!text.is_empty()).then_some(text));
        report
    })
}

fn not_understood(name: &str, error: &serde_json::Error) -> Report {
    Report::new(Kind::Failed, format!("the daemon's answer to `{name}` is not understood"))
        .with_cause(error)
        .with_hint(
            "are `cove` and `coved` of one version? `cove daemon stop` lets the new one start",
        )
}

fn report(method: &str, error: Error) -> Report {
    match error {
        Error::Call(object) => {
            let data = object.data().map(|data| serde_json::from_str(data.get()));
            if let Some(Ok(report)) = data {
                return report;
            }
            // Errors of the RPC layer itself have no data.
            Report::new(kind_of_code(object.code()), format!("`{method}`: {}", object.message()))
        }
        Error::ParseError(error) => not_understood(method, &error),
        Error::RequestTimeout => {
            Report::new(Kind::TimedOut, format!("the daemon did not answer `{method}`"))
        }
        lost => Report::new(Kind::Unreachable, "the connection to the daemon was lost")
            .with_cause(&lost)
            .with_hint("see the daemon's log; VMs go on without it"),
    }
}

/// The kind of an error of the RPC layer itself, which says it by its code alone: those of the standard
/// that blame the request, and jsonrpsee's for requests and batches that are too large.
fn kind_of_code(code: i32) -> Kind {
    match code {
        -32700 | -32602..=-32600 | -32007 | -32010 => Kind::Invalid,
        _ => Kind::Failed,
    }
}
