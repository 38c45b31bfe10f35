//! How much clients may ask for.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::streams::program;
use super::{Served, code, request};
use crate::rpc::client::{Client, ClientError};
use crate::rpc::server::Limits;
use crate::vm::tests::wish;
use crate::wire::rpc;

fn within(limits: Limits) -> Served {
    Served::within(limits, None)
}

fn ping(id: u32, more: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "daemon.ping", "params": {}, "more": more})
        .to_string()
}

#[tokio::test]
async fn connections_are_counted_whatever_they_have_turned_into() {
    let served = within(Limits { connections: 3, ..Limits::default() });
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    let ticket = client.call::<rpc::VmExec>(program("web")).await.expect("a ticket");
    let stream = client.open_stream(&ticket).await.expect("opens");
    let idle = UnixStream::connect(&served.socket).await.expect("connects");
    let (status, text) = served.exchange(&request(&ping(1, ""))).await;
    assert_eq!(status, 429, "{text}");
    let refused = Client::connect(&served.socket).await.expect_err("one too many");
    assert!(matches!(refused, ClientError::Crowded { .. }), "{refused}");
    drop((idle, stream));
    // The daemon notices in its own time.
    let room = async { while served.exchange(&request(&ping(1, ""))).await.0 != 200 {} };
    tokio::time::timeout(Duration::from_secs(20), room).await.expect("there is room again");
    client.call::<rpc::DaemonPing>(rpc::Nothing {}).await.expect("the others were left alone");
}

#[tokio::test]
async fn requests_have_a_largest_size() {
    let served = within(Limits { request: 1000, ..Limits::default() });
    let mut raw = served.raw().await;
    for (length, expected) in [(100, None), (2000, Some(-32007)), (300_000, Some(-32007))] {
        let text = ping(1, &"x".repeat(length));
        let (status, answer) = served.exchange(&request(&text)).await;
        let answer: Value = serde_json::from_str(&answer).expect("an answer");
        assert_eq!(status, if expected.is_some() { 413 } else { 200 }, "{answer}");
        assert_eq!(code(&answer), expected, "{answer}");
    }
    let answer = raw.ask(ping(1, &"x".repeat(2000))).await;
    assert_eq!((code(&answer), &answer["id"]), (Some(-32007), &Value::Null));
    let announced = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                     Content-Length: 20000000\r\nConnection: close\r\n\r\n";
    let (status, _) = Served::new().exchange(announced).await;
    assert_eq!(status, 413, "it is refused before it is read");
}

#[tokio::test]
async fn responses_have_a_largest_size() {
    let served = within(Limits { response: 600, ..Limits::default() });
    let client = served.client().await;
    for name in ["a", "b", "c"] {
        let vm = rpc::CreateVm { wait: false, ..wish(name) };
        client.call::<rpc::VmCreate>(vm).await.expect("begun");
    }
    let answer = served.call("vm.list", json!({})).await;
    assert_eq!((code(&answer), &answer["id"]), (Some(-32008), &json!(1)), "{answer}");
    let pings = (0..20).map(|id| ping(id, "")).collect::<Vec<_>>().join(",");
    let (_, text) = served.exchange(&request(&format!("[{pings}]"))).await;
    let answer: Value = serde_json::from_str(&text).expect("an answer");
    assert_eq!(code(&answer), Some(-32011), "{answer}");
}

#[tokio::test]
async fn batches_have_a_largest_size() {
    let served = within(Limits { batch: 2, ..Limits::default() });
    let answers = served.post(&json!([{}, {}])).await;
    assert_eq!(answers.as_array().map(Vec::len), Some(2), "{answers}");
    assert_eq!(code(&served.post(&json!([{}, {}, {}])).await), Some(-32010));
}

#[tokio::test]
async fn subscriptions_are_counted_per_connection() {
    let served = within(Limits { subscriptions: 2, ..Limits::default() });
    let client = served.client().await;
    let wanted = || rpc::EventQuery::default();
    let one = client.subscribe::<rpc::EventSubscription>(wanted()).await.expect("the first");
    let _two = client.subscribe::<rpc::EventSubscription>(wanted()).await.expect("the second");
    let mut raw = served.raw().await;
    for id in 1..=3 {
        let text = json!({"jsonrpc": "2.0", "id": id, "method": "events.subscribe"}).to_string();
        let expected = (id == 3).then_some(-32006);
        assert_eq!(code(&raw.ask(text).await), expected);
    }
    client.subscribe::<rpc::EventSubscription>(wanted()).await.expect_err("the third");
    drop(one);
    let room =
        async { while client.subscribe::<rpc::EventSubscription>(wanted()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), room).await.expect("one has ended");
}
