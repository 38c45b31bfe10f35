//! Programs that run detached, and those that are told by events.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Served, code};
use crate::report::Kind;
use crate::rpc::client::Client;
use crate::vm::tests::programs::PIECE;
use crate::vm::tests::wish;
use crate::wire::guest::{DetachOutcome, DetachedState, DetachedStdin, ExecFailure, Reply};
use crate::wire::rpc::{self, AttachVm, DetachVm, ExecEvent, ExecStream, SubscribeExec, VmRef};

async fn with_vm(served: &Served) -> Client {
    let client = served.client().await;
    client.call::<rpc::VmCreate>(wish("web")).await.expect("created");
    client
}

fn subscribe(argv: &[&str]) -> SubscribeExec {
    SubscribeExec {
        vm: "web".to_owned(),
        attach: None,
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: std::collections::BTreeMap::new(),
        cwd: None,
        tty: None,
    }
}

fn detach(argv: &[&str]) -> DetachVm {
    let SubscribeExec { vm, argv, env, cwd, tty, .. } = subscribe(argv);
    DetachVm { vm, argv, env, cwd, tty, stdin: DetachedStdin::Ended }
}

fn output(stream: ExecStream, bytes: &[u8]) -> ExecEvent {
    ExecEvent::Output { stream, data: BASE64_STANDARD.encode(bytes) }
}

#[tokio::test]
async fn a_detached_program_is_named_listed_and_attached_to() {
    let served = Served::new();
    let client = with_vm(&served).await;
    let outcome = client.call::<rpc::VmExecDetach>(detach(&["make", "all"])).await;
    let DetachOutcome::Started { id, pid: 7 } = outcome.expect("answered") else {
        panic!("it was started");
    };
    let outcome = client.call::<rpc::VmExecDetach>(detach(&["missing"])).await.expect("answered");
    assert!(matches!(outcome, DetachOutcome::NotStarted { reason: ExecFailure::NotFound, .. }));
    let vm = || VmRef { vm: "web".to_owned() };
    let list = client.call::<rpc::VmExecList>(vm()).await.expect("listed").commands;
    let [command] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((&command.id, command.command.as_str()), (&id, "make all"));
    assert_eq!(command.state, DetachedState::Running);
    let attach = AttachVm { vm: "web".to_owned(), id };
    let ticket = client.call::<rpc::VmExecAttach>(attach).await.expect("a ticket");
    let mut stream = client.open_stream(&ticket).await.expect("opens");
    let first = stream.next().await.expect("a frame").expect("understood").message();
    assert!(matches!(first.expect("a reply"), Reply::ExecAttached(_)));
    let unknown = AttachVm { vm: "web".to_owned(), id: "ffffff".parse().expect("an id") };
    let error = client.call::<rpc::VmExecAttach>(unknown).await.expect_err("refused");
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.hint.is_some_and(|hint| hint.contains("cove exec list web")));
    client.call::<rpc::VmStop>(vm()).await.expect("stopped");
    let error = client.call::<rpc::VmExecList>(vm()).await.expect_err("refused");
    assert_eq!(error.kind, Kind::Conflict);
}

#[tokio::test]
async fn a_program_is_told_from_its_start_to_its_end() {
    let served = Served::new();
    let client = with_vm(&served).await;
    let message = "no such file".to_owned();
    let attached =
        SubscribeExec { attach: Some("000001".parse().expect("an id")), ..subscribe(&[]) };
    client.call::<rpc::VmExecDetach>(detach(&["make"])).await.expect("answered");
    for (wanted, told) in [
        (
            subscribe(&[]),
            vec![
                ExecEvent::Started { pid: 7, lost: 0 },
                output(ExecStream::Stdout, b"$ "),
                ExecEvent::Ended { status: Some(0), signal: None },
            ],
        ),
        (
            subscribe(&["missing"]),
            vec![ExecEvent::Failed { reason: ExecFailure::NotFound, message }],
        ),
        (
            attached,
            vec![
                ExecEvent::Started { pid: 7, lost: 5 },
                output(ExecStream::Stdout, b"kept\n"),
                ExecEvent::Ended { status: None, signal: Some(9) },
            ],
        ),
    ] {
        let events = client.subscribe::<rpc::ExecSubscription>(wanted.clone()).await;
        let mut events = events.expect("subscribes");
        for expected in told {
            let event = events.next().await.expect("an event").expect("understood");
            assert_eq!(event, expected, "{wanted:?}");
        }
        assert!(events.next().await.is_none(), "the daemon ends it");
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_at_once() {
    let served = Served::new();
    with_vm(&served).await;
    let mut raw = served.raw().await;
    for (params, expected) in [
        (json!({"vm": "nobody", "argv": ["true"]}), -32001),
        (json!({"vm": "web", "attach": "ffffff"}), -32001),
        (json!({"vm": "web", "attach": "ffffff", "argv": ["true"]}), -32602),
        (json!({"vm": "web", "attach": "x"}), -32602),
        (json!({"argv": ["true"]}), -32602),
    ] {
        let method = "vm.exec.subscribe";
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = raw.ask(request.to_string()).await;
        assert_eq!(code(&answer), Some(expected), "{params}: {answer}");
    }
}

/// Pieces that no queue on the way to a client holds together.
const MANY: usize = 1024;

#[tokio::test]
async fn a_program_waits_for_a_slow_subscriber_who_misses_nothing() {
    let served = Served::new();
    with_vm(&served).await;
    let mut raw = served.raw().await;
    let params = json!({"vm": "web", "argv": ["print", MANY.to_string()]});
    let request =
        json!({"jsonrpc": "2.0", "id": 1, "method": "vm.exec.subscribe", "params": params});
    raw.send(request.to_string()).await;
    let told = || served.world.host().told;
    // Nobody reads: after a while nothing more is printed.
    let mut before = 0;
    while told() == 0 || told() != before {
        before = told();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(told() < MANY, "it does not wait: {}", told());
    let mut bytes = 0;
    let ended = loop {
        let message = raw.next().await;
        let event: &Value = &message["params"]["result"];
        match event["type"].as_str() {
            Some("output") => {
                assert_eq!(event["stream"], "stderr");
                let data = BASE64_STANDARD.decode(event["data"].as_str().expect("text"));
                bytes += data.expect("base64").len();
            }
            Some("ended") => break event.clone(),
            // The answer to the request, and the start.
            Some("started") | None => {}
            Some(other) => panic!("{other}"),
        }
    };
    assert_eq!((bytes, &ended["status"]), (MANY * PIECE, &json!(0)));
    let end = raw.next().await;
    assert!(end["params"]["error"].is_string(), "{end}");
}

async fn hung_up(served: &Served, programs: usize) {
    let heard = async {
        while served.world.host().hung_up < programs {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("its stream is closed");
}

#[tokio::test]
async fn whoever_unsubscribes_or_goes_away_hangs_up() {
    let served = Served::new();
    let client = with_vm(&served).await;
    let mut events =
        client.subscribe::<rpc::ExecSubscription>(subscribe(&["wait"])).await.expect("subscribes");
    let event = events.next().await.expect("an event").expect("understood");
    assert_eq!(event, ExecEvent::Started { pid: 7, lost: 0 });
    drop(events);
    hung_up(&served, 1).await;
    let mut events =
        client.subscribe::<rpc::ExecSubscription>(subscribe(&["wait"])).await.expect("subscribes");
    events.next().await.expect("an event").expect("understood");
    drop(client);
    drop(events);
    hung_up(&served, 2).await;
}
