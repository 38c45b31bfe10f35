//! `cove prune` asks before it deletes, and deletes what is at rest only.

use std::fs::File;
use std::io::Write as _;
use std::process::{Output, Stdio};

use cove::wire::rpc::VmState;
use nix::pty::{OpenptyResult, openpty};
use serde_json::json;

use super::fake::{Answers, Fake, operation, vm};
use super::{cove, finish, run, status, stderr, stdout};

/// A daemon with the VM `a`, which is stopped, and `b`, which runs.
fn daemon() -> Fake {
    let mut answers = Answers::new();
    let list = |_: &serde_json::Value| {
        let mut stopped = vm("a", "aaaaaaaaaaaa");
        stopped.state = VmState::Stopped;
        Ok(json!({ "vms": [stopped, vm("b", "abbbbbbbbbbb")] }))
    };
    answers.insert("vm.list", Box::new(list));
    Fake::with(operation(None), answers, "")
}

/// What becomes of it when somebody at a terminal answers like this.
async fn asked(answer: &str) -> (Fake, Output) {
    let fake = daemon();
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let mut command = cove(&fake.home, &["prune"]);
    command.stdin(Stdio::from(slave.try_clone().expect("duplicated"))).stderr(Stdio::from(slave));
    let child = command.spawn().expect("starts");
    let mut keys = File::from(master);
    keys.write_all(answer.as_bytes()).expect("typed");
    let output = finish(child).await;
    (fake, output)
}

#[tokio::test]
async fn only_a_yes_is_a_yes() {
    for answer in ["n\n", "\n", "yesterday\n"] {
        let (fake, output) = asked(answer).await;
        assert_eq!((status(&output), stdout(&output)), (0, ""), "{answer:?}");
        assert!(fake.calls("vm.delete").is_empty(), "{answer:?}");
    }
    for answer in ["y\n", "Yes\n"] {
        let (fake, output) = asked(answer).await;
        assert_eq!((status(&output), stdout(&output)), (0, "a\n"), "{answer:?}");
        let deleted = [json!({ "vm": "aaaaaaaaaaaa", "at_rest": true })];
        assert_eq!(fake.calls("vm.delete"), deleted, "{answer:?}");
    }
}

#[tokio::test]
async fn without_a_terminal_it_must_be_told_not_to_ask() {
    let fake = daemon();
    let output = run(&fake, &["prune"]).await;
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    assert!(fake.script_was_not_asked());
    let output = run(&fake, &["prune", "--force", "--json"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let deleted: serde_json::Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(deleted[0]["name"], "a");
    assert_eq!(fake.calls("vm.delete").len(), 1);
}
