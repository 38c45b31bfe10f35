//! `cove net` as a user runs it: what it asks of the daemon, what it prints where, and its exit status.

use std::sync::atomic::{AtomicUsize, Ordering};

use cove::report::{Kind, Report};
use serde_json::{Value, json};

use super::fake::{Answers, Fake, done, operation};
use super::{run, status, stderr, stdout};

/// A daemon that answers one method so.
fn answering(
    method: &'static str,
    answer: impl Fn(&Value) -> Result<Value, Report> + Send + Sync + 'static,
) -> Fake {
    let mut answers = Answers::new();
    answers.insert(method, Box::new(answer));
    Fake::with(operation(Some(done())), answers, "")
}

#[tokio::test]
async fn explain_says_by_its_status_what_it_says_in_words() {
    let fake = answering("net.explain", |asked| {
        let allowed = asked["host"] == "1.1.1.1";
        let rule = if allowed { Value::Null } else { json!("example.org:443") };
        Ok(json!({ "allowed": allowed, "because": "so it is", "would_allow": rule }))
    });
    let output = run(&fake, &["net", "explain", "a", "1.1.1.1"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "allowed: so it is\n"));
    let output = run(&fake, &["net", "explain", "a", "example.org:443"]).await;
    assert_eq!(status(&output), 6);
    insta::assert_snapshot!(stdout(&output), @r"
    refused: so it is
    to allow it: cove net allow a example.org:443
    ");
    let output = run(&fake, &["net", "explain", "a", "example.org", "--json"]).await;
    let json: Value = serde_json::from_str(stdout(&output)).expect("one JSON value");
    assert_eq!((status(&output), &json["would_allow"]), (6, &json!("example.org:443")));
    let asked = fake.calls("net.explain");
    assert_eq!(asked[0], json!({ "vm": "a", "host": "1.1.1.1" }));
    assert_eq!(asked[1], json!({ "vm": "a", "host": "example.org", "port": 443 }));
    let output = run(&fake, &["net", "explain", "a", "https://example.org"]).await;
    assert_eq!((status(&output), fake.calls("net.explain").len()), (2, 3));
}

#[tokio::test]
async fn rules_are_changed_with_warnings_apart_and_bad_ones_reach_no_daemon() {
    let fake = answering("net.allow", |asked| {
        let egress = json!({ "mode": "open", "rules": [asked["rule"]] });
        let warnings = ["it changes\nnothing \u{1b}[2J"];
        Ok(json!({ "name": "a", "mode": "user", "egress": egress, "warnings": warnings }))
    });
    let output = run(&fake, &["net", "allow", "a", "*.Example.org:443"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output), @r"
    name    a
    net     user
    egress  open
    rule    *.example.org:443
    ");
    assert_eq!(stderr(&output), "warning: it changes\\nnothing \\u{1b}[2J\n");
    assert_eq!(fake.calls("net.allow"), [json!({ "vm": "a", "rule": "*.example.org:443" })]);
    for (arguments, expected) in [
        (&["net", "allow", "a", "a.*.org"][..], 2),
        (&["net", "deny", "a", "10.0.0.1/8"], 2),
        (&["create", "--allow", "*"], 2),
        (&["run", "--allow", "*"], 125),
    ] {
        let fake = Fake::start();
        let output = run(&fake, arguments).await;
        assert_eq!(status(&output), expected, "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("is no rule") && said.contains("a rule is `example.org`"), "{said}");
        assert!(fake.script_was_not_asked());
    }
}

fn denial(number: u64) -> Value {
    let what = json!({ "kind": "resolve", "name": format!("evil-{number}\u{1b}[2J.test") });
    json!({ "number": number, "at": "2026-11-23T12:00:00Z", "what": what, "times": number,
        "because": "no rule is about it", "would_allow": format!("evil-{number}.test") })
}

#[tokio::test]
async fn denials_are_printed_once_each_and_followed_until_the_vm_stops() {
    let fake = answering("net.denials", |asked| match asked["after"].as_u64() {
        Some(0) => Ok(json!({ "denials": [denial(1), denial(2)], "lost": 3 })),
        Some(2) => Ok(json!({ "denials": [denial(3)], "lost": 0 })),
        _ => Err(Report::new(Kind::Conflict, "the VM `a` is not running")),
    });
    let output = run(&fake, &["net", "denials", "a"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output), @r"
    2026-11-23T12:00:00Z  resolve evil-1\u{1b}[2J.test: no rule is about it; cove net allow a evil-1.test
    2026-11-23T12:00:00Z  resolve evil-2\u{1b}[2J.test (2 times): no rule is about it; cove net allow a evil-2.test
    ");
    assert_eq!(stderr(&output), "note: 3 before these are no longer kept\n");
    let output = run(&fake, &["net", "denials", "a", "-f"]).await;
    assert_eq!((status(&output), stdout(&output).lines().count()), (0, 3));
    let asked = fake.calls("net.denials");
    assert_eq!(asked[2], json!({ "vm": "a", "after": 2, "wait_ms": 25_000 }));
    let output = run(&fake, &["net", "denials", "a", "-f", "--json"]).await;
    let numbers: Vec<u64> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|denial| denial["number"].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_loss_is_told_once_however_often_nothing_comes() {
    let asked = AtomicUsize::new(0);
    let fake = answering("net.denials", move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Ok(json!({ "denials": [], "lost": 3 })),
        2 => Ok(json!({ "denials": [denial(4)], "lost": 3 })),
        _ => Err(Report::new(Kind::Conflict, "the VM `a` is not running")),
    });
    let output = run(&fake, &["net", "denials", "a", "-f"]).await;
    assert_eq!((status(&output), stdout(&output).lines().count()), (0, 1));
    let note = "note: 3 before these are no longer kept\n";
    assert_eq!(stderr(&output), note.repeat(2), "once alone, and once beside what is shown");
}

#[tokio::test]
async fn denials_of_a_vm_that_does_not_run_are_a_conflict() {
    let fake =
        answering("net.denials", |_| Err(Report::new(Kind::Conflict, "the VM `a` is not running")));
    for arguments in [&["net", "denials", "a"][..], &["net", "denials", "a", "-f"]] {
        assert_eq!(status(&run(&fake, arguments).await), 4, "{arguments:?}");
    }
}
