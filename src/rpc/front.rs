//! What stands between a connection and jsonrpsee: HTTP, WebSocket and byte streams on the same socket.
//!
//! ```text
//!  connection ─▶ too many: 429 ─▶ gate (loopback only) ─┬─▶ GET /stream/TICKET: streams
//!                                                       ├─▶ WebSocket: frames ─▶ jsonrpsee
//!                                                       └─▶ POST: ids ─────────▶ jsonrpsee
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::body::Body as _;
use jsonrpsee::core::http_helpers::{HttpError, read_body};
use jsonrpsee::server::http::{content_type_is_json, response as answers};
use jsonrpsee::server::middleware::rpc::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, HttpBody, HttpRequest, HttpResponse, Methods, Server, ServerConfig,
    StopHandle, TowerServiceBuilder, serve_with_graceful_shutdown, ws,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::Service as _;
use tower::layer::util::{Identity, Stack};

use super::connection::{Connection, State};
use super::limits::Limits;
use super::loopback::Gate;
use super::methods::{self, Services};
use super::notifications::CarryOut;
use super::streams::{self, Request, Tickets};
use crate::task::Tasks;
use crate::vm::ConnectionId;

/// Connections beyond the bound that are told so at once; more are closed without a word.
const REFUSED_AT_ONCE: usize = 32;

/// How long such a connection may take to hear it.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(5);

/// The length of the body with which jsonrpsee answers notifications: `null`. No response is that short.
const ANSWER_TO_NOTIFICATION: u64 = 4;

type Rpc = TowerServiceBuilder<Stack<CarryOut, Identity>, Identity>;
type Answer = Result<HttpResponse<HttpBody>, io::Error>;

/// Takes connections and answers what is asked on them.
pub(super) struct Front {
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    loopback: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    count: u64,
}

struct Shared {
    services: Services,
    limits: Limits,
    methods: Methods,
    rpc: Rpc,
    tickets: Arc<Tickets>,
    tasks: Tasks,
    stop: StopHandle,
}

impl Front {
    pub(super) fn new(services: Services, limits: Limits, tasks: Tasks, stop: StopHandle) -> Self {
        let tickets = Arc::new(Tickets::default());
        let methods = methods::module(services.clone(), tickets.clone()).into();
        let rpc = Server::builder()
            .set_config(configuration(limits))
            .set_rpc_middleware(RpcServiceBuilder::new().layer(CarryOut))
            .to_service_builder();
        Self {
            shared: Arc::new(Shared { services, limits, methods, rpc, tickets, tasks, stop }),
            connections: Arc::new(Semaphore::new(limits.connections as usize)),
            loopback: Arc::new(Semaphore::new(limits.loopback as usize)),
            refusals: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
            count: 0,
        }
    }

    /// Serves a connection, or says that there are too many.
    pub(super) fn take<I>(&mut self, io: I, gate: Option<Arc<Gate>>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = self.shared.clone();
        let tasks = &self.shared.tasks;
        let (connections, most) = match gate {
            None => (&self.connections, shared.limits.connections),
            Some(_) => (&self.loopback, shared.limits.loopback),
        };
        if let Ok(permit) = connections.clone().try_acquire_owned() {
            let id = ConnectionId(self.count);
            self.count += 1;
            let io = Connection::new(io, permit, shared.limits.request);
            tasks.spawn("connection", shared.connection(io, id, gate));
            return;
        }
        tracing::warn!(most, "refused a connection too many");
        if let Ok(permit) = self.refusals.clone().try_acquire_owned() {
            let refusal = shared.refusal(Connection::new(io, permit, 0));
            tasks.spawn_until_shutdown("refusal", refusal);
        }
    }
}

impl Shared {
    async fn connection<I>(
        self: Arc<Self>,
        io: Connection<I>,
        id: ConnectionId,
        gate: Option<Arc<Gate>>,
    ) where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stop = self.stop.clone().shutdown();
        let state = io.state();
        let service = tower::service_fn(move |request: Request| {
            let (shared, gate, state) = (self.clone(), gate.clone(), state.clone());
            async move {
                match gate.and_then(|gate| gate.refusal(&request)) {
                    Some(refusal) => Ok(refusal),
                    None => shared.answer(request, id, &state).await,
                }
            }
            .boxed()
        });
        // A client that breaks off is no failure of the daemon.
        if let Err(error) = serve_with_graceful_shutdown(io, service, stop).await {
            tracing::debug!(error, "a connection ended early");
        }
    }

    async fn answer(&self, request: Request, id: ConnectionId, state: &State) -> Answer {
        if let Some(ticket) = streams::ticket(&request) {
            return Ok(streams::open(&self.tickets, &ticket, request, &self.tasks));
        }
        match ws::is_upgrade_request(&request) {
            true => self.session(request, id, state).await,
            false => self.post(request).await,
        }
    }

    /// Requests on a WebSocket: a connection that leases can be held on.
    async fn session(&self, mut request: Request, id: ConnectionId, state: &State) -> Answer {
        if !state.upgraded() {
            let why = "wait for the answer to the upgrade before you send frames";
            return Ok(refuse(http::StatusCode::BAD_REQUEST, why));
        }
        request.extensions_mut().insert(LastingConnection(id));
        let mut rpc = self.rpc.clone().build(self.methods.clone(), self.stop.clone());
        let vms = self.services.vms.clone();
        vms.connection_opened(id);
        let closed = rpc.on_session_closed();
        self.tasks.spawn_until_shutdown("session", async move {
            closed.await;
            vms.connection_closed(id);
        });
        rpc.call(request).await.map_err(io::Error::other)
    }

    /// Requests by HTTP. Whatever is no JSON in a POST is jsonrpsee's to refuse.
    async fn post(&self, request: Request) -> Answer {
        let mut rpc = self.rpc.clone().build(self.methods.clone(), self.stop.clone());
        if request.method() != http::Method::POST || !content_type_is_json(&request) {
            return rpc.call(request).await.map_err(io::Error::other);
        }
        let (parts, body) = request.into_parts();
        let read = read_body(&parts.headers, body, self.limits.request).await;
        let mut body = match read {
            Ok((body, _)) => body,
            Err(HttpError::TooLarge) => return Ok(answers::too_large(self.limits.request)),
            Err(HttpError::Malformed) => return Ok(answers::malformed()),
            Err(HttpError::Stream(error)) => return Err(io::Error::other(error)),
        };
        super::ids::blank_unknown(&mut body);
        let request = HttpRequest::from_parts(parts, HttpBody::from(body));
        let mut answer = rpc.call(request).await.map_err(io::Error::other)?;
        if answer.body().size_hint().exact() == Some(ANSWER_TO_NOTIFICATION) {
            answer.headers_mut().remove(http::header::CONTENT_TYPE);
            *answer.status_mut() = http::StatusCode::NO_CONTENT;
            *answer.body_mut() = HttpBody::empty();
        }
        Ok(answer)
    }

    /// Says to a client that there are too many connections.
    async fn refusal<I>(self: Arc<Self>, io: Connection<I>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = tower::service_fn(|_: Request| {
            let why = "the daemon has as many connections as it takes: close one";
            let refusal = refuse(http::StatusCode::TOO_MANY_REQUESTS, why);
            std::future::ready(Ok::<_, io::Error>(refusal))
        });
        let stop = self.stop.clone().shutdown();
        let told = serve_with_graceful_shutdown(io, service, stop);
        if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_DEADLINE, told).await {
            tracing::debug!(error, "a refused connection ended early");
        }
    }
}

/// An answer of plain text, after which the connection is closed.
pub(super) fn refuse(status: http::StatusCode, why: &'static str) -> HttpResponse<HttpBody> {
    let response = http::Response::builder().status(status);
    let response = response.header(http::header::CONNECTION, "close").body(HttpBody::from(why));
    response.expect("the parts are valid")
}

/// In the extensions of requests on a WebSocket: a connection that a lease can be held on.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastingConnection(pub(super) ConnectionId);

fn configuration(limits: Limits) -> ServerConfig {
    ServerConfig::builder()
        .max_connections(limits.connections)
        .max_subscriptions_per_connection(limits.subscriptions)
        .max_request_body_size(limits.request)
        .max_response_body_size(limits.response)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch))
        .build()
}
