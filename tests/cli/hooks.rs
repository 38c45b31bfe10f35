//! `cove hook`: what is asked of the daemon, what is printed, and which status is shown.

use std::path::Path;

use cove::report::{Kind, Report};
use serde_json::{Value, json};

use super::fake::{Answers, Fake, operation};
use super::{cove, finish, run, status, stderr, stdout};

/// A plugin as a list has it, in this state.
fn hook(state: &str) -> Value {
    json!({
        "plugin": "io.example.notes", "version": "1", "state": state,
        "hooks": ["prepare-work-disk"], "digest": "0".repeat(64), "standard": false,
        "needs": [{
            "kind": "host-files.read", "what": ["notes"], "reason": "your \u{1b}[8mnotes",
            "granted": false, "missing": ["host-files.read:notes"],
        }],
    })
}

/// All about it, with a version that waits or without one.
fn details(pending: bool) -> Value {
    let release = |digit: &str, pending: bool| {
        json!({
            "release": digit.repeat(64), "version": digit, "component": digit.repeat(64),
            "pending": pending, "installed_at": "2026-11-25T12:00:00Z", "from": "/plugin",
        })
    };
    let mut details = hook("active");
    let more = json!({
        "api": "0.2", "class": "small", "imports": ["cove:hooks/log@0.2.0"], "exports": [],
        "limits": {"memory_bytes": 1, "cpu_ms": 1, "output_bytes": 1, "output_steps": 1},
        "manifest": "a".repeat(64), "needs_digest": "b".repeat(64), "release": "1".repeat(64),
        "releases": if pending { vec![release("1", false), release("2", true)] } else { vec![release("1", false)] },
        "asks_anew": if pending { vec!["state"] } else { vec![] },
    });
    let all = details.as_object_mut().expect("an object");
    all.extend(more.as_object().expect("an object").clone());
    if pending {
        all.insert("pending".to_owned(), json!("2"));
    }
    details
}

fn daemon(pending: bool) -> Fake {
    let mut answers = Answers::new();
    answers.insert("hook.list", Box::new(|_| Ok(json!([hook("pending_grant")]))));
    answers.insert("hook.inspect", Box::new(move |_| Ok(details(pending))));
    let changed =
        move |_: &Value| Ok(json!({"plugin": details(false), "notes": ["look\u{1b}[2J"]}));
    answers.insert("hook.grant", Box::new(changed));
    answers.insert("hook.revoke", Box::new(changed));
    answers.insert("hook.remove", Box::new(|_| Ok(json!({}))));
    answers.insert(
        "hook.install",
        Box::new(move |_| {
            let notes = ["it does not take part before you grant it"];
            Ok(json!({"plugin": details(false), "version": "1", "outcome": "pending_grant", "notes": notes}))
        }),
    );
    Fake::with(operation(None), answers, "")
}

#[tokio::test]
async fn paths_are_absolute_and_ids_are_not_paths() {
    let fake = daemon(false);
    let output = run(&fake, &["hook", "install", "some/../plugin"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(printed.starts_with("io.example.notes 1: installed, pending-grant\n"), "{printed}");
    assert!(
        printed.contains("host-files.read: notes (not granted): your \\u{1b}[8mnotes"),
        "{printed}"
    );
    assert!(stderr(&output).contains("note: it does not take part before you grant it"));
    let path = fake.calls("hook.install")[0]["path"].as_str().expect("a path").to_owned();
    assert!(path.starts_with('/') && path.ends_with("/some/../plugin"), "{path}");

    run(&fake, &["hook", "inspect", "io.example.notes"]).await;
    run(&fake, &["hook", "inspect", "./io.example.notes"]).await;
    let calls = fake.calls("hook.inspect");
    assert_eq!(calls[0], json!({"plugin": "io.example.notes"}));
    assert!(calls[1]["path"].as_str().expect("a path").ends_with("/io.example.notes"), "{calls:?}");
    for wrong in [
        &["inspect", "No Id"][..],
        &["grant", "No Id"],
        &["install"],
        &["grant", "a", "--map", "x"],
    ] {
        let arguments = [&["hook"], wrong].concat();
        assert_eq!(status(&run(&fake, &arguments).await), 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_grant_is_for_what_was_shown_and_for_no_other_files() {
    for (pending, release) in [(false, "1"), (true, "2")] {
        let fake = daemon(pending);
        let arguments =
            ["hook", "grant", "io.example.notes", "--map", "notes=~/a", "--map", "notes=/b"];
        let output = run(&fake, &arguments).await;
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let asked = if pending {
            "2 asks for this besides:\n  state"
        } else {
            "1 asks for:\n  host-files.read"
        };
        assert!(stderr(&output).contains(asked), "{}", stderr(&output));
        assert!(stderr(&output).contains("note: look\\u{1b}[2J"));
        let wanted = json!({
            "plugin": "io.example.notes", "release": release.repeat(64),
            "host_files": {"notes": ["~/a", "/b"]},
        });
        assert_eq!(fake.calls("hook.grant"), [wanted]);
    }
    let fake = daemon(false);
    let arguments = ["hook", "grant", "io.example.notes", "host-files.read:notes", "--json"];
    let output = run(&fake, &arguments).await;
    serde_json::from_str::<Value>(stdout(&output)).expect("JSON and nothing else");
    assert_eq!(fake.calls("hook.grant")[0]["needs"], json!(["host-files.read:notes"]));
}

#[tokio::test]
async fn what_is_taken_back_and_removed_is_said_and_failures_have_their_statuses() {
    let fake = daemon(false);
    run(&fake, &["hook", "revoke", "io.example.notes", "state"]).await;
    let revoked = json!({"plugin": "io.example.notes", "needs": ["state"]});
    assert_eq!(fake.calls("hook.revoke"), [revoked]);
    let output = run(&fake, &["hook", "remove", "io.example.notes"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "io.example.notes is removed\n"));
    for (kind, expected) in [(Kind::NotFound, 3), (Kind::Refused, 6), (Kind::Conflict, 4)] {
        let mut answers = Answers::new();
        answers.insert("hook.remove", Box::new(move |_| Err(Report::new(kind, "it is so"))));
        let fake = Fake::with(operation(None), answers, "");
        let output = run(&fake, &["hook", "remove", "one"]).await;
        assert_eq!((status(&output), stdout(&output)), (expected, ""));
        assert!(stderr(&output).starts_with("error: it is so"), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn the_ids_of_plugins_are_completed() {
    let fake = daemon(false);
    for command in ["inspect", "grant", "revoke", "remove"] {
        let mut complete = cove(&fake.home, &["--", "cove", "hook", command, ""]);
        complete.env("COVE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3");
        let output = finish(complete.spawn().expect("starts")).await;
        let mut names = stdout(&output).split_whitespace();
        assert!(names.any(|name| name == "io.example.notes"), "{command}: {}", stdout(&output));
    }
}

/// A record that says nothing, with this number.
fn record(number: u64) -> Value {
    json!({
        "number": number, "time": "2026-11-25T12:00:00Z", "previous": "0".repeat(64),
        "entry": {"kind": "dropped", "runs": [number]},
    })
}

/// The daemon gives the newest of what is asked for, page by page.
#[tokio::test]
async fn nothing_between_two_looks_is_passed_over() {
    let mut answers = Answers::new();
    let pages = |query: &Value| {
        let page = |records: &[u64], next: Option<u64>| {
            let records: Vec<_> = records.iter().copied().map(record).collect();
            Ok(json!({"records": records, "next": next}))
        };
        match (query["after"].as_u64(), query["before"].as_u64()) {
            (None, None) => page(&[9, 10], Some(9)),
            (Some(10), None) => page(&[14, 15], Some(14)),
            (Some(10), Some(14)) => page(&[12, 13], Some(12)),
            (Some(10), Some(12)) => page(&[11], None),
            // Nothing ends it but the daemon.
            (Some(15), None) => Err(Report::new(Kind::Failed, "enough")),
            _ => panic!("{query}"),
        }
    };
    answers.insert("hook.runs", Box::new(pages));
    let fake = Fake::with(operation(None), answers, "");
    let arguments = ["hook", "runs", "--follow", "--limit", "2", "--json", "--plugin", "one"];
    let output = run(&fake, &arguments).await;
    assert!(stderr(&output).starts_with("error: enough"), "{}", stderr(&output));
    let numbers = stdout(&output).lines().map(|line| {
        let record: Value = serde_json::from_str(line).expect("a record a line");
        record["number"].as_u64().expect("a number")
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [9, 10, 11, 12, 13, 14, 15]);
    let calls = fake.calls("hook.runs");
    assert!(calls.iter().all(|call| call["plugin"] == "one"), "{calls:?}");
}

/// A page may have fewer records than are wanted, because they are long.
#[tokio::test]
async fn as_many_records_are_shown_as_are_wanted() {
    let mut answers = Answers::new();
    let pages = |query: &Value| {
        let limit = query["limit"].as_u64().expect("a number");
        let (records, next) = match query["before"].as_u64() {
            None => ([record(8), record(9)], 8),
            Some(before) => ([record(before - 2), record(before - 1)], before - 2),
        };
        let newest = records.len() - usize::try_from(limit).expect("small").min(2);
        Ok(json!({"records": records[newest..], "next": next + newest as u64}))
    };
    answers.insert("hook.runs", Box::new(pages));
    let fake = Fake::with(operation(None), answers, "");
    let output = run(&fake, &["hook", "runs", "--limit", "5", "--json"]).await;
    let records: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    let records = records.as_array().expect("a list").iter();
    let numbers: Vec<_> = records.map(|record| record["number"].as_u64()).collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9].map(Some));
}

/// A copy of a built plugin, with this component in place of its own.
fn plugin(name: &str, component: Option<&[u8]>) -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let built = target.join("test-plugins").join(name);
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["plugin.toml", "plugin.wasm"] {
        std::fs::copy(built.join(file), folder.path().join(file)).unwrap_or_else(|error| {
            panic!(
                "{error}: run `scripts/build-plugins.sh --examples {}` first",
                target.join("test-plugins").display()
            )
        });
    }
    if let Some(bytes) = component {
        std::fs::write(folder.path().join("plugin.wasm"), bytes).expect("written");
    }
    folder
}

#[tokio::test]
async fn a_plugin_is_tested_without_a_daemon() {
    let fake = daemon(false);
    for (component, expected) in [(None, 0), (Some(&b"no component"[..]), 1)] {
        let plugin = plugin("git-identity", component);
        let junit = plugin.path().join("junit.xml");
        let (path, file) = (plugin.path().display().to_string(), junit.display().to_string());
        let output = run(&fake, &["hook", "test", &path, "--junit", &file, "--json"]).await;
        assert_eq!(status(&output), expected, "{}{}", stdout(&output), stderr(&output));
        let report: Value = serde_json::from_str(stdout(&output)).expect("JSON and nothing else");
        assert_eq!(report["plugin"], "git-identity");
        let cases = report["cases"].as_array().expect("a list");
        let failed = cases.iter().filter(|case| case["passed"] == false).count();
        assert_eq!(
            (report["failures"].as_u64(), failed),
            (Some(failed as u64), usize::from(expected != 0))
        );
        let junit = std::fs::read_to_string(&junit).expect("written");
        let counted = format!("tests=\"{}\" failures=\"{failed}\"", cases.len());
        assert!(junit.contains(&counted), "{junit}");
        assert_eq!(junit.matches("<testcase ").count(), cases.len(), "{junit}");
        assert_eq!(junit.matches("<failure ").count(), failed, "{junit}");
    }
    assert!(fake.script_was_not_asked());
    let left = std::fs::read_dir(fake.home.join("scratch")).expect("made").count();
    assert_eq!(left, 0, "what was made up is gone");
    assert_eq!(status(&run(&fake, &["hook", "test", "/no/such/plugin"]).await), 3);
}
