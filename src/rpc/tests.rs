//! The real server on a real socket, over VMs in memory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

mod stats;

use super::client::Client;
use super::server::{Daemon, Services, Socket};
use super::streams::Tickets;
use crate::report::{Explain as _, Kind, Report};
use crate::task::Tasks;
use crate::vm::tests::world::{Behaviour, World};
use crate::vm::tests::{daemon, wish};
use crate::wire::frame::Frame;
use crate::wire::rpc::{self, CreateVm, ExecVm, OperationRef, StreamTicket};

struct Face;

impl Daemon for Face {
    fn images(&self) -> Result<Vec<rpc::Image>, Report> {
        Ok(Vec::new())
    }
    fn kernels(&self) -> Result<Vec<rpc::Kernel>, Report> {
        Ok(Vec::new())
    }
    fn hooks(&self) -> BoxFuture<'_, Result<Vec<rpc::Hook>, Report>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
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

struct Served {
    world: World,
    socket: PathBuf,
    tasks: Tasks,
    folder: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let world = World::default();
        let daemon = daemon(&world, None);
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("run/coved.sock");
        let listening = Socket::listen(&socket).expect("listens");
        let services = Services { vms: daemon.vms, daemon: Arc::new(Face) };
        let tasks = daemon.tasks;
        tasks.spawn("server", listening.serve(services, tasks.clone()));
        Self { world, socket, tasks, folder }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket).await.expect("connects")
    }

    async fn post(&self, body: &Value) -> Value {
        let (status, text) = exchange(&self.socket, &request(&body.to_string())).await;
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

/// One request on a connection of its own: status and body of the answer.
async fn exchange(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("reads");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.expect("a status"), body.to_owned())
}

#[tokio::test]
async fn http_and_websocket_share_one_private_socket() {
    let served = Served::new();
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&served.socket), 0o600);
    assert_eq!(mode(served.socket.parent().expect("a folder")), 0o700);
    let pong = served.call("daemon.ping", json!({})).await;
    assert_eq!(pong["result"]["version"], env!("CARGO_PKG_VERSION"));
    let pong = served.client().await.call::<rpc::DaemonPing>(rpc::Nothing {}).await;
    assert_eq!(pong.expect("answers").version, env!("CARGO_PKG_VERSION"));
    assert_eq!(served.tasks.drain(Duration::from_secs(10)).await, 0, "it ends when told to");
    assert!(!served.socket.exists());
}

#[tokio::test]
async fn wrong_requests_get_the_codes_of_the_standard() {
    let served = Served::new();
    let code = |answer: &Value| answer["error"]["code"].as_i64();
    for (method, params, expected) in [
        ("vm.nothing", json!({}), -32601),
        ("vm.show", json!(["web"]), -32602),
        ("vm.show", json!({"vm": 7}), -32602),
        ("vm.show", json!({}), -32602),
        ("vm.show", json!({"vm": "web", "and": "more"}), -32602),
        ("vm.create", json!({"vcpu": -1}), -32602),
        ("vm.create", json!({"name": "../x"}), -32602),
        ("vm.create", json!({"lease": true}), -32602),
        ("vm.show", json!({"vm": "web"}), -32001),
        ("op.show", json!({"operation": "0123456789ab"}), -32001),
    ] {
        let answer = served.call(method, params.clone()).await;
        assert_eq!(code(&answer), Some(expected), "{method} {params}: {answer}");
    }
    let (_, text) = exchange(&served.socket, &request("{nonsense")).await;
    let answer: Value = serde_json::from_str(&text).expect("an answer");
    assert_eq!(code(&answer), Some(-32700));
    assert!(served.world.host().rows.is_empty());
}

#[tokio::test]
async fn errors_say_kind_cause_hint_and_operation() {
    let served = Served::new();
    let unknown = served.call("vm.show", json!({"vm": "web"})).await;
    let data = &unknown["error"]["data"];
    assert_eq!(data["kind"], "not_found");
    assert!(data["hint"].is_string() && unknown["error"]["message"].is_string(), "{unknown}");
    let wrong = served.call("vm.show", json!({"vm": 7})).await;
    assert_eq!(wrong["error"]["data"]["kind"], "invalid");
    assert!(wrong["error"]["data"]["cause"][0].is_string(), "{wrong}");
    served.world.behave(Behaviour { hooks_fail: true, ..Behaviour::default() });
    let failed = served.call("vm.create", json!({"name": "web", "wait": true})).await;
    let end = &failed["result"]["end"];
    assert_eq!(end["error"]["kind"], "refused", "{failed}");
    assert_eq!(end["error"]["operation"], failed["result"]["id"]);
    assert_eq!(end["vm_kept"], false);
}

#[tokio::test]
async fn batches_are_answered_and_large_bodies_refused() {
    let served = Served::new();
    let ping = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "daemon.ping"});
    let answers = served.post(&json!([ping(1), ping(2)])).await;
    assert_eq!(answers.as_array().map(Vec::len), Some(2), "{answers}");
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 20000000\r\nConnection: close\r\n\r\n";
    let (status, _) = exchange(&served.socket, head).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn a_subscription_begins_with_the_present_and_ends_with_the_end() {
    let served = Served::new();
    served.world.behave(Behaviour { never_answers: true, ..Behaviour::default() });
    let client = served.client().await;
    let wanted = CreateVm { wait: false, ..wish("web") };
    let operation = client.call::<rpc::VmCreate>(wanted).await.expect("an operation").id;
    let wanted = || OperationRef { operation: operation.clone() };
    let mut events = client.subscribe::<rpc::OpSubscription>(wanted()).await.expect("subscribes");
    let first = events.next().await.expect("an event").expect("understood");
    assert!(first.id == operation && first.end.is_none());
    client.call::<rpc::OpCancel>(wanted()).await.expect("cancelled");
    let mut last = first;
    while last.end.is_none() {
        last = events.next().await.expect("an event").expect("understood");
    }
    assert_eq!(last.end.and_then(|end| end.failure()), Some(Kind::Cancelled));
    // Whoever comes late gets the end at once.
    let mut late = client.subscribe::<rpc::OpSubscription>(wanted()).await.expect("subscribes");
    let end = late.next().await.expect("an event").expect("understood");
    assert!(end.end.is_some());
}

#[tokio::test]
async fn a_ticket_opens_one_stream_once() {
    let served = Served::new();
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    let ticket = client.call::<rpc::VmExec>(program("web")).await.expect("a ticket");
    let mut stream = client.open_stream(&ticket).await.expect("opens");
    let sent = json!({"said": "hello"});
    stream.send(Frame::control(&sent).expect("fits")).await.expect("sends");
    stream.close().await.expect("closes");
    let back = stream.next().await.expect("a frame").expect("understood");
    assert_eq!(back.message::<Value>().expect("understood"), sent);
    let again = client.open_stream(&ticket).await.expect_err("used");
    assert_eq!(again.kind, Kind::NotFound);
    let unknown = StreamTicket { ticket: "0".repeat(64) };
    assert_eq!(client.open_stream(&unknown).await.expect_err("unknown").kind, Kind::NotFound);
    let plain = format!("GET /stream/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "0");
    assert_eq!(exchange(&served.socket, &plain).await.0, 426);
}

fn program(vm: &str) -> ExecVm {
    ExecVm {
        vm: vm.to_owned(),
        argv: vec!["true".to_owned()],
        env: std::collections::BTreeMap::new(),
        cwd: None,
        tty: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_good_for_thirty_seconds() {
    let world = World::default();
    let daemon = daemon(&world, None);
    daemon.vms.create(wish("web"), None).await.expect("created");
    let tickets = Tickets::default();
    for (seconds, good) in [(29, true), (31, false)] {
        let target = daemon.vms.exec(program("web")).await.expect("it runs");
        let given = tickets.give(target);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(tickets.take(&given.ticket).is_some(), good, "after {seconds} s");
    }
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("coved.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists(), "nobody removed it");
    let live = Socket::listen(&path).expect("replaced");
    let taken = Socket::listen(&path).expect_err("taken");
    assert_eq!(taken.kind(), Kind::Conflict);
    assert!(path.exists(), "the loser leaves it alone");
    drop(live);
    assert!(!path.exists());
}

#[tokio::test]
async fn another_user_is_refused_even_when_the_modes_let_him() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let served = Served::new();
    let run = served.socket.parent().expect("a folder");
    for (path, mode) in [(served.folder.path(), 0o755), (run, 0o755), (&served.socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    let Some(own) = ping_as(0, &served.socket).await else {
        return skipped("`setpriv` or `curl` is not installed");
    };
    assert!(own.contains("version"), "the control: {own}");
    let other = ping_as(65534, &served.socket).await.expect("the programs are there");
    assert_eq!(other, "", "nothing is answered");
}

#[expect(clippy::print_stderr, reason = "tests report to people")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// What a user's ping gets. None when the programs for it are not there.
async fn ping_as(user: u32, socket: &Path) -> Option<String> {
    let user = user.to_string();
    let ping = r#"{"jsonrpc": "2.0", "id": 1, "method": "daemon.ping"}"#;
    #[expect(clippy::disallowed_methods, reason = "a test's own program")]
    let output = tokio::process::Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "curl", "--silent"])
        .args(["--max-time", "20", "--header", "Content-Type: application/json"])
        .args(["--data", ping, "http://localhost/", "--unix-socket"])
        .arg(socket)
        .output()
        .await
        .ok()?;
    (output.status.code() != Some(127))
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
