//! A scripted daemon: jsonrpsee and byte streams on a Unix socket, as the real one has them, in front
//! of a guest that knows a few commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cove::egress::Mode;
use cove::id::{BootId, Digest, OperationId, VmId};
use cove::process::ShortFolder;
use cove::report::{Kind, Report};
use cove::wire::frame::{Frame, FrameCodec};
use cove::wire::guest::{
    Attached, CopyFailure, CopyKind, ExecFailure, ExecInput, ExecStatus, Reply,
};
use cove::wire::rpc::{
    ExecVm, Happening, METHODS, NetMode, Operation, OperationEnd, STREAM_PROTOCOL, Stage, Vm,
    VmNet, VmState,
};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use jsonrpsee::server::{HttpBody, RpcModule, Server, serve_with_graceful_shutdown, stop_channel};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::codec::Framed;

type Stream = Framed<TokioIo<hyper::upgrade::Upgraded>, FrameCodec>;
type Answer = Box<dyn Fn(&Value) -> Result<Value, Report> + Send + Sync>;

/// Answers of a test's own, by method.
pub(crate) type Answers = BTreeMap<&'static str, Answer>;

/// How long a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What the daemon's answers are made of.
pub(crate) struct Script {
    answers: Answers,
    operation: watch::Sender<Operation>,
    calls: watch::Sender<Vec<(String, Value)>>,
    exec: Mutex<Option<ExecVm>>,
    /// What happens now.
    pub(crate) events: watch::Sender<Option<Happening>>,
}

/// A running fake daemon; its folder is the `COVE_HOME` of its clients.
pub(crate) struct Fake {
    pub(crate) home: PathBuf,
    pub(crate) script: Arc<Script>,
    /// Removed with the daemon.
    _folder: Option<tempfile::TempDir>,
}

impl Fake {
    /// A daemon with the VMs `a` and `b`, that ends every operation well at once.
    pub(crate) fn start() -> Self {
        Self::with(operation(Some(done())), Answers::new(), "")
    }

    /// A daemon whose operation stands like this, with some answers of its own, in a folder whose name
    /// ends like this.
    pub(crate) fn with(operation: Operation, answers: Answers, below: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Without the slash that joining nothing leaves at the end.
        let home = folder.path().join(below).components().collect();
        Self { _folder: Some(folder), ..Self::listening(home, operation, answers) }
    }

    /// A daemon as [`Fake::start`] makes it, in a folder of the caller's.
    pub(crate) fn at(home: &Path) -> Self {
        Self::listening(home.to_owned(), operation(Some(done())), Answers::new())
    }

    /// The same, but the first connection is broken off.
    pub(crate) fn after_a_broken_call() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_owned();
        let script = Script::new(operation(Some(done())), Answers::new());
        let (listener, serving) = (listen(&home), Arc::clone(&script));
        spawn(async move {
            drop(listener.accept().await.expect("somebody calls"));
            serve(listener, serving).await;
        });
        Self { home, script, _folder: Some(folder) }
    }

    fn listening(home: PathBuf, operation: Operation, answers: Answers) -> Self {
        let script = Script::new(operation, answers);
        let listener = listen(&home);
        // Ends with the test's runtime.
        spawn(serve(listener, Arc::clone(&script)));
        Self { home, script, _folder: None }
    }

    /// The parameters of all calls of a method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let calls = self.script.calls.borrow();
        let of_method = calls.iter().filter(|(name, _)| name == method);
        of_method.map(|(_, params)| params.clone()).collect()
    }

    /// Whether no method has been called.
    pub(crate) fn script_was_not_asked(&self) -> bool {
        self.script.calls.borrow().is_empty()
    }

    /// Waits until a method has been called.
    pub(crate) async fn called(&self, method: &str) {
        let mut calls = self.script.calls.subscribe();
        let called = calls.wait_for(|calls| calls.iter().any(|(name, _)| name == method));
        tokio::time::timeout(DEADLINE, called)
            .await
            .unwrap_or_else(|_| panic!("`{method}` was not called in time"))
            .expect("the daemon runs");
    }
}

/// Listens in this `COVE_HOME`.
pub(crate) fn listen(home: &Path) -> UnixListener {
    let run = home.join("run");
    std::fs::create_dir_all(&run).expect("made");
    let short = ShortFolder::open(&run).expect("opens");
    UnixListener::bind(short.path_of("coved.sock")).expect("binds")
}

#[expect(clippy::disallowed_methods, reason = "a test's own daemon")]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

/// A VM.
pub(crate) fn vm(name: &str, id: &str) -> Vm {
    Vm {
        id: id.parse().expect("an id"),
        name: name.parse().expect("a name"),
        state: VmState::Running,
        cause: None,
        stalled: None,
        image: "debian".parse().expect("a name"),
        kernel: Digest::of(b"kernel"),
        vmm: "qemu".to_owned(),
        accel: Some("tcg".to_owned()),
        vcpu: 1,
        memory_mib: 512,
        disk_bytes: 8 << 30,
        root_disk_bytes: 8 << 30,
        net: VmNet { mode: NetMode::User, address: None, address6: None, egress: Some(Mode::Open) },
        workspace: None,
        labels: BTreeMap::new(),
        publish: Vec::new(),
        publish_failed: Vec::new(),
        auto_stop_after_s: None,
        restart_needed: Vec::new(),
        created_at: "2026-11-23T12:00:00Z".to_owned(),
        started_at: None,
        last_touched_at: "2026-11-23T12:00:00Z".to_owned(),
        boot_id: Some(BootId::random()),
        pid: Some(1),
        leased: false,
        ssh_host_key: Some("ssh-ed25519 AAAA web".to_owned()),
    }
}

/// An operation on the VM `a`.
pub(crate) fn operation(end: Option<OperationEnd>) -> Operation {
    Operation {
        id: "0123456789ab".parse::<OperationId>().expect("an id"),
        action: "create".to_owned(),
        vm: "aaaaaaaaaaaa".parse::<VmId>().expect("an id"),
        vm_name: "a".parse().expect("a name"),
        stages: vec![Stage {
            name: "boot".to_owned(),
            began_us: 100_000,
            took_us: end.is_some().then_some(1_900_000),
        }],
        notes: vec!["booted \u{1b}[2Jonce more".to_owned()],
        started_at: "2026-11-23T12:00:00Z".to_owned(),
        end,
    }
}

/// A good end.
pub(crate) fn done() -> OperationEnd {
    OperationEnd::Done { vm: Box::new(vm("a", "aaaaaaaaaaaa")) }
}

async fn serve(listener: UnixListener, script: Arc<Script>) {
    let (stop, _server) = stop_channel();
    let builder = Server::builder().to_service_builder();
    let methods = methods(Arc::clone(&script));
    while let Ok((stream, _)) = listener.accept().await {
        let rpc = builder.clone().build(methods.clone(), stop.clone());
        let script = Arc::clone(&script);
        let service = tower::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (mut rpc, script) = (rpc.clone(), Arc::clone(&script));
            async move {
                if request.uri().path().starts_with("/stream/") {
                    return Ok(open_stream(request, script));
                }
                tower::Service::call(&mut rpc, request).await
            }
        });
        spawn(serve_with_graceful_shutdown(stream, service, stop.clone().shutdown()));
    }
}

fn open_stream(
    request: http::Request<hyper::body::Incoming>,
    script: Arc<Script>,
) -> http::Response<HttpBody> {
    if let Some(port) = request.uri().path().strip_prefix("/stream/port-") {
        let port = port.parse().expect("a port");
        return crate::forward::open_stream(request, port);
    }
    let wanted = script.exec.lock().expect("not poisoned").take();
    let upgrade = request.headers().get(http::header::UPGRADE);
    let right = upgrade.is_some_and(|name| name == STREAM_PROTOCOL);
    let response = http::Response::builder();
    let (Some(exec), true) = (wanted, right) else {
        let report = Report::new(Kind::NotFound, "there is no such ticket");
        let body = serde_json::to_string(&report).expect("JSON");
        return response.status(404).body(HttpBody::from(body)).expect("valid");
    };
    spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.expect("upgraded");
        let mut stream = Framed::new(TokioIo::new(upgraded), FrameCodec::default());
        match exec.argv.as_slice() {
            [word, path] if word == "copy" => copy(path, &mut stream).await,
            _ => guest(exec, stream).await,
        }
    });
    let response = response.status(101).header("upgrade", STREAM_PROTOCOL);
    response.header("connection", "upgrade").body(HttpBody::empty()).expect("valid")
}

fn methods(script: Arc<Script>) -> RpcModule<Arc<Script>> {
    let mut module = RpcModule::new(script);
    for name in METHODS {
        module
            .register_async_method(name, async move |params, script, _| {
                let params: Value = params.parse()?;
                assert!(params.is_object(), "parameters are objects: {params}");
                let answer = script.answer(name, params).await;
                answer.map_err(|report| {
                    let code = report.kind.rpc_code();
                    ErrorObjectOwned::owned(code, report.message.clone(), Some(report))
                })
            })
            .expect("one name each");
    }
    module
        .register_subscription(
            "op.subscribe",
            "op.event",
            "op.unsubscribe",
            async |_, pending, script, _| {
                let mut operation = script.operation.subscribe();
                let sink = pending.accept().await?;
                loop {
                    let now = operation.borrow_and_update().clone();
                    let over = now.end.is_some();
                    let event = jsonrpsee::core::to_json_raw_value(&now)?;
                    sink.send(event).await?;
                    if over {
                        return Ok(());
                    }
                    operation.changed().await?;
                }
            },
        )
        .expect("one name each");
    crate::forward::add_events(&mut module);
    module
}

impl Script {
    fn new(operation: Operation, answers: Answers) -> Arc<Self> {
        Arc::new(Self {
            answers,
            operation: watch::Sender::new(operation),
            calls: watch::Sender::new(Vec::new()),
            exec: Mutex::new(None),
            events: watch::Sender::new(None),
        })
    }

    async fn answer(&self, method: &'static str, params: Value) -> Result<Value, Report> {
        self.calls.send_modify(|calls| calls.push((method.to_owned(), params.clone())));
        if let Some(answer) = self.answers.get(method) {
            return answer(&params);
        }
        let json = |operation: &Operation| serde_json::to_value(operation).expect("JSON");
        let vms = [vm("a", "aaaaaaaaaaaa"), vm("b", "abbbbbbbbbbb")];
        let wanted = vms
            .iter()
            .find(|vm| params["vm"] == vm.id.as_str() || params["vm"] == vm.name.as_str());
        match method {
            "vm.list" => Ok(json!({ "vms": vms })),
            "vm.create" | "vm.start" | "op.show" => Ok(json(&self.operation.borrow())),
            "op.cancel" => {
                let error = Report::new(Kind::Cancelled, "cancelled");
                self.operation.send_modify(|operation| {
                    operation.end =
                        Some(OperationEnd::Failed { error, vm_kept: false, console_saved: None });
                });
                Ok(json(&self.operation.borrow()))
            }
            "vm.show" | "vm.stop" | "vm.kill" => wanted.map(|vm| json!(vm)).ok_or_else(|| {
                let shown = params["vm"].as_str().unwrap_or_default();
                Report::new(Kind::NotFound, format!("there is no VM `{shown}`"))
                    .with_hint("`cove list` shows the VMs there are")
            }),
            "vm.delete" => Ok(json!({ "id": params["vm"], "name": wanted.map(|vm| &vm.name) })),
            "vm.forward" => Ok(json!({ "ticket": format!("port-{}", params["port"]) })),
            // `a` has a server that says what it hears, `b` has none.
            "vm.ssh" => {
                let found = params["vm"] == "a" || params["vm"] == "aaaaaaaaaaaa";
                let program = if found { "cat" } else { "no-sshd" };
                let argv = vec![program.to_owned()];
                let exec = json!({ "vm": params["vm"], "argv": argv });
                let exec = serde_json::from_value(exec).expect("an exec");
                *self.exec.lock().expect("not poisoned") = Some(exec);
                Ok(json!({ "ticket": "00ff", "env_left_out": ["LONG\u{1b}"] }))
            }
            "vm.copy" => {
                let argv = [json!("copy"), params["path"].clone()];
                let exec = json!({ "vm": params["vm"], "argv": argv });
                let exec = serde_json::from_value(exec).expect("an exec");
                *self.exec.lock().expect("not poisoned") = Some(exec);
                Ok(json!({ "ticket": "00ff" }))
            }
            "vm.exec.detach" => Ok(detached(&params)),
            "vm.exec.attach" => {
                *self.exec.lock().expect("not poisoned") = Some(attached(&params));
                Ok(json!({ "ticket": "00ff" }))
            }
            "vm.exec" => {
                let exec = serde_json::from_value(params).expect("an exec");
                *self.exec.lock().expect("not poisoned") = Some(exec);
                Ok(json!({ "ticket": "00ff" }))
            }
            other => Err(Report::new(Kind::Failed, format!("`{other}` is not scripted"))),
        }
    }
}

/// What became of a command that is left running.
fn detached(params: &Value) -> Value {
    if params["argv"] == json!(["missing"]) {
        let message = "no \u{1b}[31mluck";
        return json!({ "outcome": "not_started", "reason": "not_found", "message": message });
    }
    json!({ "outcome": "started", "id": "0123ab", "pid": 7 })
}

/// What runs detached under an id.
fn attached(params: &Value) -> ExecVm {
    let words: &[&str] = match params["id"].as_str() {
        Some("000042") => &["attached", "exit", "42"],
        Some("00deaf") => &["attached", "deaf"],
        Some("ffffff") => &["attached on a terminal", "wait"],
        Some(_) | None => &["attached", "wait"],
    };
    let exec = json!({ "vm": params["vm"], "argv": words });
    serde_json::from_value(exec).expect("an exec")
}

/// What the guest says first of a command, and the command.
fn begun(exec: &ExecVm) -> (Reply, Vec<&str>) {
    let argv: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    let tty = argv.first() == Some(&"attached on a terminal");
    if !tty && argv.first() != Some(&"attached") {
        return (Reply::ExecStarted { pid: 7 }, argv);
    }
    let found = Attached { pid: 7, tty, lost: 9, stdin_waiting: 0 };
    (Reply::ExecAttached(found), argv[1..].to_vec())
}

/// The guest: its commands are named after what they do.
async fn guest(exec: ExecVm, mut stream: Stream) {
    let (begun, argv) = begun(&exec);
    let reason = match argv.first() {
        Some(&"missing") => Some(ExecFailure::NotFound),
        Some(&"locked") => Some(ExecFailure::NotExecutable),
        Some(&"homeless") => Some(ExecFailure::Other),
        Some(_) | None => None,
    };
    if let Some(reason) = reason {
        let message = "no \u{1b}[31mluck".to_owned();
        say(&mut stream, &Reply::ExecFailed { reason, message }).await;
        return;
    }
    say(&mut stream, &begun).await;
    let status = match argv.as_slice() {
        ["exit", status] => ExecStatus::Exited(status.parse().expect("a number")),
        ["killed", signal] => ExecStatus::Signalled(signal.parse().expect("a number")),
        ["both"] => {
            send(&mut stream, Frame::Stdout(Bytes::from_static(b"out\n"))).await;
            send(&mut stream, Frame::Stderr(Bytes::from_static(b"err\n"))).await;
            ExecStatus::Exited(0)
        }
        ["arguments", rest @ ..] => {
            let text = serde_json::to_vec(rest).expect("JSON");
            send(&mut stream, Frame::Stdout(text.into())).await;
            ExecStatus::Exited(0)
        }
        ["cat"] => cat(&mut stream).await,
        ["no-sshd"] => {
            let words = Bytes::from_static(b"sh: exec: \x1b[2Jsshd: not found\n");
            send(&mut stream, Frame::Stderr(words)).await;
            ExecStatus::Exited(127)
        }
        ["yes"] => {
            let page = Bytes::from("y\n".repeat(4096));
            while stream.send(Frame::Stdout(page.clone())).await.is_ok() {}
            return;
        }
        ["vanish"] => return,
        ["greedy"] => {
            say(&mut stream, &Reply::StdinTaken { bytes: u32::MAX }).await;
            ExecStatus::Exited(0)
        }
        ["deaf"] => {
            send(&mut stream, Frame::Stdout(Bytes::from_static(b"ready\n"))).await;
            while let Some(Ok(_)) = stream.next().await {}
            return;
        }
        // A shell, or a command that waits: until a signal, or `q` on its terminal.
        _ => {
            send(&mut stream, Frame::Stdout(Bytes::from_static(b"ready\n"))).await;
            match until_told(&mut stream).await {
                Some(status) => status,
                None => return,
            }
        }
    };
    say(&mut stream, &Reply::ExecEnded(status)).await;
}

/// A copy out of the guest, which comes to nothing.
async fn copy(path: &str, stream: &mut Stream) {
    let reason = match path {
        "missing" => CopyFailure::NotFound,
        _ => {
            say(stream, &Reply::Copying { kind: CopyKind::File }).await;
            send(stream, Frame::Data(Bytes::from(vec![0; 100]))).await;
            CopyFailure::Other
        }
    };
    let message = "it broke \u{1b}[31m".to_owned();
    say(stream, &Reply::CopyFailed { reason, message }).await;
}

/// Gives back what it gets.
async fn cat(stream: &mut Stream) -> ExecStatus {
    loop {
        match stream.next().await {
            Some(Ok(Frame::Stdin(bytes))) => {
                let taken = u32::try_from(bytes.len()).expect("a frame is short");
                send(stream, Frame::Stdout(bytes)).await;
                say(stream, &Reply::StdinTaken { bytes: taken }).await;
            }
            Some(Ok(Frame::StdinEnd)) => return ExecStatus::Exited(0),
            other => panic!("not for cat: {other:?}"),
        }
    }
}

async fn until_told(stream: &mut Stream) -> Option<ExecStatus> {
    loop {
        match stream.next().await? {
            Ok(Frame::Stdin(bytes)) if bytes.contains(&b'q') => return Some(ExecStatus::Exited(0)),
            Ok(Frame::Control(message)) => match serde_json::from_slice(&message).expect("JSON") {
                ExecInput::Signal { signal } => return Some(ExecStatus::Signalled(signal)),
                ExecInput::Resize { size } => {
                    let text = format!("{}x{}\n", size.cols, size.rows);
                    send(stream, Frame::Stdout(text.into())).await;
                }
            },
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

async fn say(stream: &mut Stream, reply: &Reply) {
    send(stream, Frame::control(reply).expect("JSON")).await;
}

async fn send(stream: &mut Stream, frame: Frame) {
    // A client that leaves is part of some tests.
    stream.send(frame).await.ok();
}
