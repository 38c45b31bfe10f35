//! Byte streams: an HTTP upgrade on the daemon's socket, opened by a ticket that an RPC gave out.
//!
//! The daemon splices: frames go from the guest's agent to the client and back without being read here,
//! so it holds a few buffers per stream whatever flows.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::SinkExt as _;
use hyper_util::rt::TokioIo;
use jsonrpsee::server::{HttpBody, HttpResponse};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::front::refuse;
use super::workspaces::ExportStream;
use crate::task::Tasks;
use crate::vm::StreamTarget;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::Reply;
use crate::wire::proof::nonce;
use crate::wire::rpc::{STREAM_PROTOCOL, StreamTicket};

/// A request as it comes from the socket.
pub(super) type Request = http::Request<hyper::body::Incoming>;

/// How long a ticket is good for.
const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Tickets that may wait at once; a client that takes more without using them loses the oldest.
const MAX_TICKETS: usize = 1024;

/// Bytes copied at a time in each direction: a frame of the largest size.
const COPY_BUFFER: usize = 512 * 1024;

/// What is at the other end of a stream.
pub(super) enum Target {
    /// A guest's agent.
    Guest(StreamTarget),
    /// The daemon, with an export of a workspace.
    Export(Box<ExportStream>),
}

impl From<StreamTarget> for Target {
    fn from(target: StreamTarget) -> Self {
        Self::Guest(target)
    }
}

impl From<ExportStream> for Target {
    fn from(export: ExportStream) -> Self {
        Self::Export(Box::new(export))
    }
}

/// Tickets that have been given out and not used yet.
#[derive(Default)]
pub(super) struct Tickets {
    waiting: Mutex<HashMap<String, (Instant, Target)>>,
}

impl Tickets {
    /// Gives out a ticket for one stream.
    pub(super) fn give(&self, target: impl Into<Target>) -> StreamTicket {
        let ticket = nonce();
        let mut waiting = self.waiting.lock().expect("no panic under the lock");
        waiting.retain(|_, (given, _)| given.elapsed() < TICKET_LIFE);
        if waiting.len() >= MAX_TICKETS {
            let oldest = waiting.iter().min_by_key(|(_, (given, _))| *given);
            let oldest = oldest.map(|(ticket, _)| ticket.clone()).unwrap_or_default();
            waiting.remove(&oldest);
        }
        waiting.insert(ticket.clone(), (Instant::now(), target.into()));
        StreamTicket { ticket }
    }

    pub(super) fn take(&self, ticket: &str) -> Option<Target> {
        let mut waiting = self.waiting.lock().expect("no panic under the lock");
        let (given, target) = waiting.remove(ticket)?;
        (given.elapsed() < TICKET_LIFE).then_some(target)
    }
}

/// The ticket in the request's path, when it asks for a byte stream.
pub(super) fn ticket(request: &Request) -> Option<String> {
    request.uri().path().strip_prefix("/stream/").map(str::to_owned)
}

/// Answers a request for a byte stream. What is at its other end is begun when the upgrade is
/// through.
pub(super) fn open(
    tickets: &Tickets,
    ticket: &str,
    request: Request,
    tasks: &Tasks,
) -> HttpResponse<HttpBody> {
    let wanted = request.headers().get(http::header::UPGRADE).map(http::HeaderValue::as_bytes);
    if wanted != Some(STREAM_PROTOCOL.as_bytes()) {
        return refuse(http::StatusCode::UPGRADE_REQUIRED, "ask for an upgrade to cove-stream");
    }
    let Some(target) = tickets.take(ticket) else {
        return refuse(http::StatusCode::NOT_FOUND, "no such ticket: it was used, or is too old");
    };
    tasks.spawn_until_shutdown("stream", async move {
        match hyper::upgrade::on(request).await {
            Ok(client) => match target {
                Target::Guest(target) => splice(target, TokioIo::new(client)).await,
                Target::Export(export) => {
                    if let Err(error) = export.carry(&mut TokioIo::new(client)).await {
                        tracing::debug!(%error, "an export ended early");
                    }
                }
            },
            Err(error) => tracing::debug!(%error, "a byte stream was not upgraded"),
        }
    });
    let response = http::Response::builder()
        .status(http::StatusCode::SWITCHING_PROTOCOLS)
        .header(http::header::CONNECTION, "upgrade")
        .header(http::header::UPGRADE, STREAM_PROTOCOL)
        .body(HttpBody::empty());
    response.expect("the parts are valid")
}

async fn splice(target: StreamTarget, mut client: TokioIo<hyper::upgrade::Upgraded>) {
    let _in_use = target.usage.begin();
    let copied = match target.open().await {
        Ok(mut guest) => {
            let (a, b) = (&mut client, &mut guest);
            tokio::io::copy_bidirectional_with_sizes(a, b, COPY_BUFFER, COPY_BUFFER).await
        }
        Err(report) => tell(&target.refusal(&report), &mut client).await.map(|()| (0, 0)),
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "a byte stream ended early");
    }
}

/// A guest that cannot be reached is told to the client as the answer of the agent would be.
async fn tell(
    reply: &Reply,
    client: &mut TokioIo<hyper::upgrade::Upgraded>,
) -> std::io::Result<()> {
    Framed::new(client, FrameCodec::default()).send(Frame::control(reply)?).await
}
