//! What JSON-RPC 2.0 says of requests, in raw bytes.

use serde_json::{Value, json};

use super::{Served, code, request};
use crate::vm::tests::wish;
use crate::vm::tests::world::Plugins;
use crate::wire::rpc;

#[tokio::test]
async fn wrong_requests_get_the_codes_of_the_standard() {
    let served = Served::new();
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
    let (_, text) = served.exchange(&request("{nonsense")).await;
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
    served.world.plug(Plugins::BROKEN);
    let failed = served.call("vm.create", json!({"name": "web", "wait": true})).await;
    let end = &failed["result"]["end"];
    assert_eq!(end["error"]["kind"], "refused", "{failed}");
    assert_eq!(end["error"]["operation"], failed["result"]["id"]);
    assert_eq!(end["vm_kept"], false);
}

/// Requests whose ids jsonrpsee by itself would overlook.
const STRANGE_IDS: &[&str] =
    &["-1", "1.5", "1e3", "18446744073709551616", "true", "[1]", r#"{"a": 1}"#];

fn ping(id: &str) -> String {
    format!(r#"{{"jsonrpc": "2.0", "id": {id}, "method": "daemon.ping", "params": {{}}}}"#)
}

#[tokio::test]
async fn ids_that_cannot_be_told_are_refused_and_not_taken_for_none() {
    let served = Served::new();
    let mut raw = served.raw().await;
    for id in STRANGE_IDS {
        let (status, text) = served.exchange(&request(&ping(id))).await;
        let by_http: Value = serde_json::from_str(&text).expect("an answer");
        assert_eq!(status, 200);
        for answer in [by_http, raw.ask(ping(id)).await] {
            assert_eq!(code(&answer), Some(-32600), "{id}: {answer}");
            assert_eq!(answer["id"], Value::Null);
        }
    }
    for id in ["0", "18446744073709551615", "\"-1\"", "null"] {
        let answer = raw.ask(ping(id)).await;
        assert_eq!(answer["id"], serde_json::from_str::<Value>(id).expect("JSON"));
        assert!(answer["result"].is_object(), "{answer}");
    }
}

#[tokio::test]
async fn a_notification_is_carried_out_and_not_answered() {
    let served = Served::new();
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    client.call::<rpc::VmCreate>(wish("db")).await.expect("created");
    let delete = |vm: &str| json!({"jsonrpc": "2.0", "method": "vm.delete", "params": {"vm": vm}});
    for body in [delete("web"), json!([delete("db"), delete("nobody")])] {
        let answer = served.exchange(&request(&body.to_string())).await;
        assert_eq!(answer, (204, String::new()));
    }
    assert_eq!(served.services.vms.count(), 0);
    // On a WebSocket the next message is the answer to the next request.
    let mut raw = served.raw().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    raw.send(r#"{"jsonrpc": "2.0", "method": "events.subscribe"}"#).await;
    raw.send(delete("web").to_string()).await;
    assert_eq!(raw.ask(ping("7")).await["id"], 7);
}

#[tokio::test]
async fn a_batch_is_answered_entry_by_entry() {
    let served = Served::new();
    let mut raw = served.raw().await;
    let notified = r#"{"jsonrpc": "2.0", "method": "daemon.ping"}"#;
    let unknown = r#"{"jsonrpc": "2.0", "id": 2, "method": "vm.nothing"}"#;
    let batch = format!("[{}, {notified}, {unknown}, 7, {}]", ping("1"), ping("-3"));
    let (_, text) = served.exchange(&request(&batch)).await;
    let by_http: Value = serde_json::from_str(&text).expect("an answer");
    for answers in [by_http, raw.ask(batch).await] {
        let answers = answers.as_array().expect("a list");
        let codes: Vec<_> = answers.iter().map(|answer| (&answer["id"], code(answer))).collect();
        let (one, two, null) = (json!(1), json!(2), Value::Null);
        let wanted =
            [(&one, None), (&two, Some(-32601)), (&null, Some(-32600)), (&null, Some(-32600))];
        assert_eq!(codes, wanted, "{answers:?}");
    }
    for (body, expected) in [("[]", -32600), ("[1", -32700), ("7", -32700), ("{\"id\": 1}", -32600)]
    {
        assert_eq!(code(&raw.ask(body).await), Some(expected), "{body}");
        let (_, text) = served.exchange(&request(body)).await;
        let answer: Value = serde_json::from_str(&text).expect("an answer");
        assert_eq!(code(&answer), Some(expected), "{body}: {answer}");
    }
}

#[tokio::test]
async fn only_posts_of_json_are_requests() {
    let served = Served::new();
    let head = "Host: localhost\r\nConnection: close\r\nContent-Length: 2";
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{head}\r\n\r\n{{}}"), 405),
        (format!("POST / HTTP/1.1\r\nContent-Type: text/plain\r\n{head}\r\n\r\n{{}}"), 415),
    ] {
        assert_eq!(served.exchange(&request).await.0, status, "{request}");
    }
}

#[tokio::test]
async fn frames_before_the_answer_to_the_upgrade_are_refused() {
    let served = Served::new();
    let head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (status, _) = served.exchange(&format!("{head}\u{1}\u{2}")).await;
    assert_eq!(status, 400);
}
