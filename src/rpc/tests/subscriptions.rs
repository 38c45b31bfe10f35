//! What is told after the answer to a subscription, and how it ends.

use serde_json::json;

use super::{Served, code};
use crate::report::Kind;
use crate::vm::tests::wish;
use crate::vm::tests::world::{Behaviour, Plugins};
use crate::wire::rpc::{self, CreateVm, EventQuery, Happening, OperationRef, VmState};

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
    assert!(events.next().await.is_none(), "the daemon ends it");
    // Whoever comes late gets the end at once.
    let mut late = client.subscribe::<rpc::OpSubscription>(wanted()).await.expect("subscribes");
    let end = late.next().await.expect("an event").expect("understood");
    assert!(end.end.is_some());
    assert!(late.next().await.is_none(), "the daemon ends it");
}

/// What events say, without ids and times.
fn words(what: &Happening) -> String {
    match what {
        Happening::VmCreated { vm_name, .. } => format!("{vm_name} created"),
        Happening::VmState { vm_name, state, .. } => format!("{vm_name} {state:?}"),
        Happening::VmDeleted { vm_name, .. } => format!("{vm_name} deleted"),
        Happening::OperationBegan { action, .. } => format!("{action} began"),
        Happening::OperationEnded { action, failure, .. } => {
            format!("{action} ended {:?}", failure.as_ref().map(|report| report.kind))
        }
        Happening::HookFailed { vm_name, plugin, hook, .. } => {
            format!("{vm_name}: {plugin} failed in {hook}")
        }
        Happening::VmStalled { vm_name, reason, .. } => format!("{vm_name} stalled: {reason}"),
        Happening::VmWentOn { vm_name, .. } => format!("{vm_name} goes on"),
        Happening::Lagged { missed } => format!("missed {missed}"),
    }
}

#[tokio::test]
async fn events_tell_the_whole_life_of_a_vm() {
    let served = Served::new();
    let client = served.client().await;
    let query = EventQuery::default;
    let mut events = client.subscribe::<rpc::EventSubscription>(query()).await.expect("subscribes");
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    let vm = || rpc::VmRef { vm: "web".to_owned() };
    client.call::<rpc::VmStop>(vm()).await.expect("stopped");
    client.call::<rpc::VmDelete>(rpc::DeleteVm::whatever("web")).await.expect("deleted");
    let wanted = [
        "web created",
        "create began",
        "web Starting",
        "web Running",
        "create ended None",
        "web Stopping",
        "web Stopped",
        "web Stopping",
        "web deleted",
    ];
    let mut heard = Vec::new();
    while heard.len() < wanted.len() {
        let event = events.next().await.expect("goes on").expect("understood");
        assert_eq!(event.number, heard.len() as u64 + 1);
        heard.push(words(&event.what));
    }
    assert_eq!(heard, wanted);
    let page = client.call::<rpc::EventsList>(query()).await.expect("remembered");
    assert_eq!(page.events.iter().map(|event| words(&event.what)).collect::<Vec<_>>(), wanted);
    let since = EventQuery { since: Some(8) };
    let page = client.call::<rpc::EventsList>(since).await.expect("remembered");
    assert_eq!((page.events.len(), page.lost), (1, 0));
}

#[tokio::test]
async fn a_failed_operation_says_why_in_its_event() {
    let served = Served::new();
    served.world.plug(Plugins::BROKEN);
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("it ended");
    let page = client.call::<rpc::EventsList>(EventQuery::default()).await.expect("remembered");
    let words: Vec<_> = page.events.iter().map(|event| words(&event.what)).collect();
    assert!(words.contains(&"create ended Some(Refused)".to_owned()), "{words:?}");
    assert!(words.contains(&"web deleted".to_owned()), "{words:?}");
}

#[tokio::test]
async fn a_console_is_followed_until_its_vm_stops() {
    let served = Served::new();
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    let query = rpc::LogQuery { vm: "web".to_owned(), from: Some(7) };
    let mut logs = client.subscribe::<rpc::LogSubscription>(query).await.expect("subscribes");
    let first = logs.next().await.expect("there is text").expect("understood");
    assert_eq!((first.text.as_str(), first.next), ("panic", 12));
    let vm = client.call::<rpc::VmStop>(rpc::VmRef { vm: "web".to_owned() }).await;
    assert_eq!(vm.expect("stopped").state, VmState::Stopped);
    assert!(logs.next().await.is_none(), "the daemon ends it");
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_at_once() {
    let served = Served::new();
    let mut raw = served.raw().await;
    for (method, params, expected) in [
        ("op.subscribe", json!({"operation": "0123456789ab"}), -32001),
        ("op.subscribe", json!({"operation": 7}), -32602),
        ("vm.logs.subscribe", json!({"vm": "nobody"}), -32001),
        ("events.subscribe", json!({"since": -1}), -32602),
        ("events.subscribe", json!([1]), -32602),
    ] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = raw.ask(request.to_string()).await;
        assert_eq!(code(&answer), Some(expected), "{method} {params}: {answer}");
        // By HTTP there is nobody to tell.
        let answer = served.call(method, params).await;
        assert_eq!(code(&answer), Some(-32603), "{method}: {answer}");
    }
}

#[tokio::test]
async fn a_subscription_ends_when_it_is_told_to() {
    let served = Served::new();
    let mut raw = served.raw().await;
    let mut ask = async |id: u32, method: &str, params: serde_json::Value| {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        raw.ask(request.to_string()).await["result"].take()
    };
    let subscription = ask(1, "events.subscribe", json!({})).await;
    assert_eq!(ask(2, "events.unsubscribe", json!([subscription])).await, true);
    assert_eq!(ask(3, "events.unsubscribe", json!([subscription])).await, false);
    served.client().await.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    assert!(ask(4, "daemon.ping", json!({})).await.is_object(), "no event came before");
}
