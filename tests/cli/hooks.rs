//! `cove hook`: what is asked of the daemon, what is printed, and which status is shown.

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
