//! What `cove bench rpc` measures with: a server of jsonrpsee with nothing of cove's around it, on the same
//! kind of socket, and a client that does not read what it is answered.
//!
//! No daemon and no command but that one uses these.

use std::io;
use std::path::{Path, PathBuf};

use jsonrpsee::client_transport::ws::{Receiver, Sender, Url, WsTransportClientBuilder};
use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use jsonrpsee::server::{
    Methods, RpcModule, Server, StopHandle, serve_with_graceful_shutdown, stop_channel,
};
use jsonrpsee::types::ErrorObjectOwned;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_util::compat::Compat;

use super::client::{MAX_ANSWER, MAX_REQUEST, dial};
use crate::process::ShortFolder;
use crate::report::{Kind, Report};
use crate::task::Tasks;
use crate::wire::rpc::Method;

/// Threads of the server: as many as the daemon's runtime has.
const THREADS: usize = 2;

/// A server that gives the same answers to every call. It ends when it is dropped.
#[derive(Debug)]
pub struct BareServer {
    /// None only while it is being dropped.
    runtime: Option<Runtime>,
    socket: PathBuf,
}

/// The name of a method, and its result in JSON.
pub type FixedAnswer = (&'static str, Box<RawValue>);

impl BareServer {
    /// Serves on a socket that is not there yet, with threads of its own.
    ///
    /// # Errors
    /// When the socket or the threads cannot be made.
    pub fn start(socket: &Path, answers: Vec<FixedAnswer>) -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(THREADS).enable_all().build()?;
        let inside = runtime.enter();
        let folder = ShortFolder::open(socket.parent().unwrap_or(Path::new("/")))?;
        let name = socket.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidFilename)?;
        let listener = UnixListener::bind(folder.path_of(name))?;
        let tasks = Tasks::default();
        drop(tasks.spawn("bare server", serve(listener, module(answers), tasks.clone())));
        drop(inside);
        Ok(Self { runtime: Some(runtime), socket: socket.to_owned() })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn module(answers: Vec<FixedAnswer>) -> Methods {
    let mut module = RpcModule::new(());
    for (name, answer) in answers {
        let register =
            module.register_method(name, move |_, (), _| Ok::<_, ErrorObjectOwned>(answer.clone()));
        register.expect("the names are different");
    }
    module.into()
}

async fn serve(listener: UnixListener, methods: Methods, tasks: Tasks) {
    let (stop, _stopper): (StopHandle, _) = stop_channel();
    let rpc = Server::builder().to_service_builder();
    while let Ok((stream, _)) = listener.accept().await {
        let service = rpc.clone().build(methods.clone(), stop.clone());
        let shutdown = stop.clone().shutdown();
        let connection = serve_with_graceful_shutdown(stream, service, shutdown);
        drop(tasks.spawn("bare connection", connection));
    }
}

/// A client that makes one call after the other, and hands out answers as they came.
#[derive(Debug)]
pub struct RawClient {
    sender: Sender<Compat<UnixStream>>,
    receiver: Receiver<Compat<UnixStream>>,
}

/// What is asked.
#[derive(Debug)]
pub struct RawCall {
    method: &'static str,
    request: String,
}

impl RawCall {
    /// A call of a method.
    ///
    /// # Panics
    /// When the parameters are no JSON, which those of methods are.
    #[must_use]
    pub fn of<M: Method>(params: &M::Params) -> Self {
        let request = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": M::NAME, "params": params,
        });
        Self { method: M::NAME, request: request.to_string() }
    }
}

impl RawClient {
    /// Connects to a daemon or a bare server.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self, Report> {
        let failed = |error: &dyn std::error::Error| {
            let message = format!("cannot connect to `{}`", socket.display());
            Report::new(Kind::Unreachable, message).with_cause(error)
        };
        let stream = dial(socket).await.map_err(|error| failed(&error))?;
        // The name only fills the `Host` header.
        let url = Url::parse("ws://localhost/").expect("the address is constant and valid");
        let handshake = WsTransportClientBuilder::default()
            .max_request_size(MAX_REQUEST)
            .max_response_size(MAX_ANSWER)
            .build_with_stream(url, stream);
        let (sender, receiver) = handshake.await.map_err(|error| failed(&error))?;
        Ok(Self { sender, receiver })
    }

    /// The answer to a call, whole and unread.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn answer(&mut self, call: &RawCall) -> Result<String, Report> {
        let lost = |error: &dyn std::error::Error| {
            Report::new(Kind::Unreachable, "the connection was lost").with_cause(error)
        };
        self.sender.send(call.request.clone()).await.map_err(|error| lost(&error))?;
        loop {
            match self.receiver.receive().await.map_err(|error| lost(&error))? {
                ReceivedMessage::Text(text) => return Ok(text),
                ReceivedMessage::Bytes(_) | ReceivedMessage::Pong => {}
            }
        }
    }

    /// The result in the answer to a call.
    ///
    /// # Errors
    /// When the connection is lost, or an error is answered.
    pub async fn result(&mut self, call: &RawCall) -> Result<Box<RawValue>, Report> {
        #[derive(Deserialize)]
        struct Answer {
            result: Box<RawValue>,
        }
        let answer = self.answer(call).await?;
        let result = serde_json::from_str::<Answer>(&answer).map(|answer| answer.result);
        result.map_err(|error| {
            let message = format!("`{}` was answered without a result", call.method);
            Report::new(Kind::Failed, message).with_cause(&error)
        })
    }
}
