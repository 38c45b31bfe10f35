//! Byte streams: one ticket, one stream, once.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Served;
use crate::report::Kind;
use crate::rpc::streams::Tickets;
use crate::vm::tests::world::World;
use crate::vm::tests::{daemon, wish};
use crate::wire::frame::Frame;
use crate::wire::relay::{opened, relay};
use crate::wire::rpc::{self, ExecVm, StreamTicket};

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
    assert_eq!(served.exchange(&plain).await.0, 426);
}

#[tokio::test]
async fn a_connection_to_a_port_is_a_stream_as_well() {
    let served = Served::new();
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    let wanted = rpc::ForwardVm { vm: "web".to_owned(), port: 7 };
    let ticket = client.call::<rpc::VmForward>(wanted).await.expect("a ticket");
    let mut stream = client.open_stream(&ticket).await.expect("opens");
    opened(&mut stream).await.expect("connected");
    let (mut own, mut near) = tokio::io::duplex(1 << 16);
    let talk = async {
        own.write_all(b"hello").await.expect("taken");
        own.shutdown().await.expect("ended");
        let mut got = Vec::new();
        own.read_to_end(&mut got).await.expect("read");
        got
    };
    let (relayed, got) = tokio::join!(relay(&mut stream, &mut near), talk);
    relayed.expect("both directions ended");
    assert_eq!(got, b"hello");
    let wrong = rpc::ForwardVm { vm: "web".to_owned(), port: 0 };
    let error = client.call::<rpc::VmForward>(wrong).await.expect_err("no port");
    assert_eq!(error.kind, Kind::Invalid);
}

pub(super) fn program(vm: &str) -> ExecVm {
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
