//! `cove forward` against a scripted daemon: what it binds, says and carries, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cove::wire::frame::{Frame, FrameCodec};
use cove::wire::guest::{ConnectFailure, Reply};
use cove::wire::relay::relay;
use cove::wire::rpc::{Event, Happening, STREAM_PROTOCOL, VmState};
use futures_util::SinkExt;
use hyper_util::rt::TokioIo;
use jsonrpsee::server::{HttpBody, RpcModule};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout};
use tokio_util::codec::Framed;

use crate::fake::{Answers, DEADLINE, Fake, Script, done, operation, spawn, vm};
use crate::{cove, finish, run, signal, status, stderr, stdout};

/// The guest's port whose program gives back what it gets. Nothing listens on any other.
const ECHO: u16 = 7;

/// Answers a request for the byte stream of a forward.
pub(crate) fn open_stream(
    request: http::Request<hyper::body::Incoming>,
    port: u16,
) -> http::Response<HttpBody> {
    spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.expect("upgraded");
        let mut frames = Framed::new(TokioIo::new(upgraded), FrameCodec::default());
        if port != ECHO {
            let message = "nothing \u{1b}[31mlistens".to_owned();
            let refused = Reply::ConnectFailed { reason: ConnectFailure::Refused, message };
            frames.send(Frame::control(&refused).expect("JSON")).await.ok();
            return;
        }
        frames.send(Frame::control(&Reply::Connected).expect("JSON")).await.expect("sent");
        let (mut near, echo) = tokio::io::duplex(1 << 16);
        spawn(async move {
            let (mut read, mut write) = tokio::io::split(echo);
            tokio::io::copy(&mut read, &mut write).await.ok();
            write.shutdown().await.ok();
        });
        relay(&mut frames, &mut near).await.ok();
    });
    let response = http::Response::builder().status(101).header("upgrade", STREAM_PROTOCOL);
    response.header("connection", "upgrade").body(HttpBody::empty()).expect("valid")
}

/// Adds the subscription to what happens.
pub(crate) fn add_events(module: &mut RpcModule<Arc<Script>>) {
    module
        .register_subscription(
            "events.subscribe",
            "events.event",
            "events.unsubscribe",
            async |_, pending, script, _| {
                let mut events = script.events.subscribe();
                let sink = pending.accept().await?;
                while events.changed().await.is_ok() {
                    let now = events.borrow_and_update().clone();
                    let what = now.ok_or("there were too many at once")?;
                    let event = Event { number: 1, at: "2026-11-23T12:00:00Z".to_owned(), what };
                    sink.send(jsonrpsee::core::to_json_raw_value(&event)?).await?;
                }
                Ok(())
            },
        )
        .expect("one name each");
}

/// `cove forward`, and the addresses that it has printed.
async fn forwarding(fake: &Fake, forwards: &[&str]) -> (Child, Vec<SocketAddr>) {
    let mut child = cove(&fake.home, &[&["forward", "a"], forwards].concat());
    let mut child = child.spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut addresses = Vec::new();
    for _ in forwards {
        addresses.push(address(&mut lines).await);
    }
    (child, addresses)
}

async fn address(lines: &mut Lines<BufReader<ChildStdout>>) -> SocketAddr {
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("in time");
    let line = line.expect("reads").expect("a line");
    let (address, guest) = line.split_once(" -> ").expect("two sides");
    assert!(guest.starts_with("a:"), "{line}");
    address.parse().expect("an address")
}

async fn exchange(address: SocketAddr, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    let (mut read, mut write) = socket.split();
    let mut got = Vec::new();
    let feed = async {
        write.write_all(sent).await?;
        write.shutdown().await
    };
    let (fed, read) = tokio::join!(feed, read.read_to_end(&mut got));
    fed.and(read).map(|_| got)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_carried_until_ctrl_c_which_is_no_failure() {
    let fake = Fake::start();
    let (child, addresses) = forwarding(&fake, &["0:7", "127.0.0.1:0:7"]).await;
    assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let all = (0..20).map(|number| exchange(addresses[number % 2], &sent));
    for got in futures_util::future::join_all(all).await {
        assert!(got.expect("carried") == sent);
    }
    assert_eq!(fake.calls("vm.forward")[0], json!({ "vm": "aaaaaaaaaaaa", "port": 7 }));
    signal(&child, Signal::SIGINT);
    let output = finish(child).await;
    assert_eq!((status(&output), stderr(&output)), (0, "ended\n"));
    TcpStream::connect(addresses[0]).await.expect_err("nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nothing_listens_is_said_and_the_forward_goes_on() {
    let fake = Fake::start();
    let (child, addresses) = forwarding(&fake, &["0:80", "0:7"]).await;
    let error = exchange(addresses[0], b"").await.expect_err("a reset, not an empty answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(exchange(addresses[1], b"well").await.expect("carried"), b"well");
    signal(&child, Signal::SIGTERM);
    let output = finish(child).await;
    assert_eq!(status(&output), 130);
    let said = stderr(&output);
    assert!(said.contains(" -> port 80: nothing \\u{1b}[31mlistens\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_vm_is_the_end_of_its_forwards() {
    let fake = Fake::start();
    let (child, addresses) = forwarding(&fake, &["0:7"]).await;
    let _open = TcpStream::connect(addresses[0]).await.expect("connects");
    let of = |id: &str, state| Happening::VmState {
        vm: id.parse().expect("an id"),
        vm_name: "a".parse().expect("a name"),
        state,
        cause: Some("its monitor ended".to_owned()),
    };
    fake.script.events.send_replace(Some(of("abbbbbbbbbbb", VmState::Stopped)));
    assert_eq!(exchange(addresses[0], b"x").await.expect("that was another VM"), b"x");
    fake.script.events.send_replace(Some(of("aaaaaaaaaaaa", VmState::Stopped)));
    let output = finish(child).await;
    assert_eq!(status(&output), 4);
    insta::assert_snapshot!(stderr(&output), @r"
    error: the VM `a` runs no more, and its forwards ended
      cause: its monitor ended
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vm_is_looked_at_again_when_its_events_end() {
    let shown = Arc::new(AtomicUsize::new(0));
    let mut answers = Answers::new();
    let count = shown.clone();
    let show = move |_: &Value| {
        let mut vm = vm("a", "aaaaaaaaaaaa");
        vm.state = match count.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => VmState::Running,
            _ => VmState::Stopped,
        };
        Ok(json!(vm))
    };
    answers.insert("vm.show", Box::new(show));
    let fake = Fake::with(operation(Some(done())), answers, "");
    let (child, addresses) = forwarding(&fake, &["0:7"]).await;
    fake.script.events.send_replace(None);
    while shown.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(exchange(addresses[0], b"x").await.expect("it runs on"), b"x");
    fake.script.events.send_replace(None);
    let output = finish(child).await;
    assert_eq!(status(&output), 4);
    let said = stderr(&output);
    assert_eq!(said, "error: the VM `a` runs no more, and its forwards ended\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_anything_is_bound() {
    let fake = Fake::start();
    let in_use = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = in_use.local_addr().expect("bound").port();
    let output = run(&fake, &["forward", "a", "0:7", &format!("{port}:80")]).await;
    assert_eq!((status(&output), stdout(&output)), (4, ""));
    let said = stderr(&output);
    assert!(said.starts_with(&format!("error: `127.0.0.1:{port}` is in use\n")), "{said}");
    assert!(said.contains("hint: choose another port, or let the host choose: `0:80`"), "{said}");
    assert_eq!(status(&run(&fake, &["forward", "nobody", "0:7"]).await), 3);
    for wrong in [&["a"][..], &["a", "80"], &["a", "localhost:1:2"], &["a", "1:0"]] {
        let output = run(&fake, &[&["forward"], wrong].concat()).await;
        assert_eq!(status(&output), 2, "{wrong:?}: {}", stderr(&output));
    }
    let mut answers = Answers::new();
    let mut rests = vm("a", "aaaaaaaaaaaa");
    rests.state = VmState::Stopped;
    answers.insert("vm.show", Box::new(move |_| Ok(json!(rests))));
    let fake = Fake::with(operation(Some(done())), answers, "");
    let output = run(&fake, &["forward", "a", "0:7"]).await;
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("is stopped, not running"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_names_what_was_bound_and_publish_goes_with_the_request() {
    let fake = Fake::start();
    let mut child = cove(&fake.home, &["forward", "a", "[::1]:0:7", "0:80", "--json"]);
    let mut child = child.spawn().expect("starts");
    let mut text = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let bound: Value = loop {
        text += &lines.next_line().await.expect("reads").expect("more");
        if let Ok(bound) = serde_json::from_str(&text) {
            break bound;
        }
    };
    assert_eq!((&bound[0]["guest_port"], &bound[1]["guest_port"]), (&json!(7), &json!(80)));
    let address: SocketAddr = bound[0]["address"].as_str().expect("text").parse().expect("valid");
    assert_eq!(exchange(address, b"six").await.expect("carried"), b"six");
    signal(&child, Signal::SIGINT);
    assert_eq!(status(&finish(child).await), 0);

    let publish = ["create", "--publish", "8080:80", "-p", "0.0.0.0:1:2"];
    assert_eq!(status(&run(&fake, &publish).await), 0);
    let asked = &fake.calls("vm.create")[0]["publish"];
    assert_eq!(*asked, json!(["127.0.0.1:8080:80", "0.0.0.0:1:2"]));
}
