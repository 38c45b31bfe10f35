//! The real server on a real socket, over VMs in memory.
//!
//! - `requests`: what JSON-RPC says, by HTTP and on a WebSocket, in raw bytes
//! - `listing`: long lists in pages
//! - `bounds`: how much clients may ask for
//! - `socket`: who may connect; `loopback`: the same on a port
//! - `streams`, `subscriptions`: what goes on after the answer; `exec`: programs without a stream of their own
//! - `plugins`: a registry of one plugin
//! - `discover`: the document that describes all of it

mod bounds;
mod discover;
mod exec;
mod listing;
mod loopback;
mod net;
mod plugins;
mod requests;
mod socket;
mod streams;
mod subscriptions;
mod workspaces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jsonrpsee::client_transport::ws::{Url, WsTransportClientBuilder};
use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

mod stats;

use super::client::Client;
use super::server::{Daemon, HookRuns, Limits, Loopback, Services, Socket, serve};
use crate::report::Report;
use crate::task::Tasks;
use crate::vm::tests::daemon;
use crate::vm::tests::world::World;
use crate::wire::rpc;

struct Face;

impl Daemon for Face {
    fn images(&self) -> Result<Vec<rpc::Image>, Report> {
        Ok(Vec::new())
    }
    fn kernels(&self) -> Result<Vec<rpc::Kernel>, Report> {
        Ok(Vec::new())
    }
    fn doctor(&self) -> BoxFuture<'_, Vec<rpc::Check>> {
        Box::pin(std::future::ready(Vec::new()))
    }
    fn config(&self) -> Value {
        json!({})
    }
    fn status(&self) -> rpc::DaemonStatusReply {
        rpc::DaemonStatusReply {
            pid: 1,
            version: "0".to_owned(),
            socket: String::new(),
            database: String::new(),
            started_at: String::new(),
            vms: 0,
            resident_kib: 0,
            log: String::new(),
        }
    }
    fn shut_down(&self) {}
}

/// Nothing has run.
struct NoRuns;

#[async_trait::async_trait]
impl HookRuns for NoRuns {
    async fn plan(&self, _: rpc::HookPlanQuery) -> Result<rpc::HookPlans, Report> {
        Ok(rpc::HookPlans { name: "web".parse().expect("a name"), plugins: Vec::new() })
    }
    async fn page(&self, _: rpc::HookRunQuery) -> Result<rpc::HookRunPage, Report> {
        Ok(rpc::HookRunPage { records: Vec::new(), next: None })
    }
    async fn verify(&self) -> Result<rpc::HookChain, Report> {
        Ok(rpc::HookChain { records: 0, first: 0, last: 0, cuts: 0, broken: None })
    }
}

struct Served {
    world: World,
    socket: PathBuf,
    tasks: Tasks,
    services: Services,
    folder: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        Self::within(Limits::default(), None)
    }

    fn within(limits: Limits, loopback: Option<Loopback>) -> Self {
        let world = World::default();
        let daemon = daemon(&world, None);
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("run/coved.sock");
        let listening = Socket::listen(&socket).expect("listens");
        let services = Services {
            vms: daemon.vms,
            daemon: Arc::new(Face),
            plugins: Arc::new(plugins::Fake),
            hook_runs: Arc::new(NoRuns),
            workspaces: Arc::new(workspaces::Fake::default()),
        };
        let tasks = daemon.tasks;
        let served = serve(listening, loopback, services.clone(), limits, tasks.clone());
        tasks.spawn("server", served);
        Self { world, socket, tasks, services, folder }
    }

    /// A WebSocket on which texts go back and forth as they are.
    async fn raw(&self) -> Raw<impl TransportSenderT, impl TransportReceiverT> {
        let stream = UnixStream::connect(&self.socket).await.expect("connects");
        let url = Url::parse("ws://localhost/").expect("valid");
        let handshake = WsTransportClientBuilder::default().build_with_stream(url, stream);
        let (sender, receiver) = handshake.await.expect("shakes hands");
        Raw { sender, receiver }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket).await.expect("connects")
    }

    /// What is answered to these bytes, by HTTP on a connection of its own.
    async fn exchange(&self, request: &str) -> (u16, String) {
        let stream = UnixStream::connect(&self.socket).await.expect("connects");
        exchange(stream, request).await
    }

    async fn post(&self, body: &Value) -> Value {
        let (status, text) = self.exchange(&request(&body.to_string())).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("an answer")
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await
    }
}

fn request(body: &str) -> String {
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// One request on a connection: status and body of the answer. A refusal may come before all is sent.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// A WebSocket of texts.
struct Raw<S, R> {
    sender: S,
    receiver: R,
}

impl<S: TransportSenderT, R: TransportReceiverT> Raw<S, R> {
    async fn send(&mut self, text: impl Into<String>) {
        self.sender.send(text.into()).await.expect("sent");
    }

    async fn next(&mut self) -> Value {
        let received = tokio::time::timeout(Duration::from_secs(20), self.receiver.receive()).await;
        match received.expect("in time").expect("received") {
            ReceivedMessage::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no text: {other:?}"),
        }
    }

    async fn ask(&mut self, text: impl Into<String>) -> Value {
        self.send(text).await;
        self.next().await
    }
}

fn code(answer: &Value) -> Option<i64> {
    answer["error"]["code"].as_i64()
}
