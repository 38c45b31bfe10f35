//! Commands that are left running, and attaching to them.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::fake::{Answers, Fake, done, operation};
use super::{cove, finish, run, signal, status, stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_command_is_named_and_one_that_cannot_be_started_has_its_status() {
    let fake = Fake::start();
    let output = run(&fake, &["exec", "-d", "a", "--env", "K=V", "--", "make", "all"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "0123ab\n"), "{}", stderr(&output));
    let called = &fake.calls("vm.exec.detach")[0];
    assert_eq!(called["argv"], json!(["make", "all"]));
    assert_eq!((&called["env"], &called["stdin"]), (&json!({ "K": "V" }), &json!("ended")));
    assert_eq!(called["tty"], Value::Null);

    let output = run(&fake, &["exec", "-dit", "--json", "a"]).await;
    let printed: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!((status(&output), &printed["id"]), (0, &json!("0123ab")));
    let called = &fake.calls("vm.exec.detach")[1];
    assert_eq!(called["stdin"], json!("open"));
    assert!(called["tty"].is_object(), "it needs no terminal here: {called}");

    let output = run(&fake, &["exec", "-d", "a", "--", "missing"]).await;
    assert_eq!((status(&output), stdout(&output)), (127, ""));
    assert!(stderr(&output).contains("no \\u{1b}[31mluck"), "{}", stderr(&output));
    assert!(fake.calls("vm.exec").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_attaches_sees_what_is_kept_and_ends_as_the_command_does() {
    let fake = Fake::start();
    let output = run(&fake, &["exec", "attach", "a", "000042"]).await;
    assert_eq!(status(&output), 42, "{}", stderr(&output));
    assert_eq!(stderr(&output), "note: 9 bytes of earlier output are no longer kept\n");
    assert_eq!(fake.calls("vm.exec.attach"), [json!({ "vm": "a", "id": "000042" })]);

    let mut child = cove(&fake.home, &["exec", "attach", "a", "0123ab"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next_line().await.expect("reads").as_deref(), Some("ready"));
    signal(&child, Signal::SIGTERM);
    assert_eq!(status(&finish(child).await), 143, "the signal is the command's");

    let mut child = cove(&fake.home, &["exec", "attach", "a", "00deaf"]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next_line().await.expect("reads").as_deref(), Some("ready"));
    for request in [Signal::SIGQUIT, Signal::SIGINT, Signal::SIGTERM] {
        signal(&child, request);
    }
    let output = finish(child).await;
    assert!([130, 131, 143].contains(&status(&output)), "{output:?}");
    assert!(stderr(&output).contains("`cove exec attach a 00deaf`"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_commands_are_listed() {
    let mut answers = Answers::new();
    let command = json!({
        "id": "0123ab", "command": "make\u{1b}[2J", "pid": 7, "tty": false, "attached": false,
        "started_at": "2026-11-23T12:00:00Z", "state": { "exited": 3 },
    });
    let commands = json!([command]);
    let told = json!({ "commands": commands });
    answers.insert("vm.exec.list", Box::new(move |_| Ok(told.clone())));
    let fake = Fake::with(operation(Some(done())), answers, "");
    let output = run(&fake, &["exec", "list", "a", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(stdout(&output)).expect("JSON"), commands);
    let output = run(&fake, &["exec", "list", "a"]).await;
    assert!(stdout(&output).contains("0123ab  exited (3)"), "{}", stdout(&output));
    assert!(!stdout(&output).contains('\u{1b}'), "{}", stdout(&output));
    let output = run(&Fake::start(), &["exec", "list", "a"]).await;
    assert_eq!(status(&output), 1, "as of any command that shows something");
}

#[tokio::test(flavor = "multi_thread")]
async fn subcommands_are_no_names_and_the_refusal_says_what_is() {
    let fake = Fake::start();
    for (arguments, expected, says) in [
        (&["exec", "attach", "--", "ls"][..], 125, "give the VM's id"),
        (&["exec", "list", "--", "ls"], 2, "give the VM's id"),
        (&["exec", "attach", "a", "0123ab", "--", "ls"], 125, "takes no command"),
        (&["exec", "attach", "a"], 125, "<ID>"),
        (&["exec", "attach", "a", "xyz"], 125, "6 hexadecimal digits"),
        (&["exec", "list"], 2, "<VM>"),
        (&["exec", "a", "-i", "--", "ls"], 125, "--detach"),
        (&["exec", "a", "--json", "--", "ls"], 125, "--detach"),
        (&["exec"], 125, "<VM>"),
    ] {
        let output = run(&fake, arguments).await;
        assert_eq!(status(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    assert!(fake.script_was_not_asked());
    // Behind a flag, or as a command, they are only words.
    let output = run(&fake, &["exec", "-d", "attach", "--", "list"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let called = &fake.calls("vm.exec.detach")[0];
    assert_eq!((&called["vm"], &called["argv"]), (&json!("attach"), &json!(["list"])));
}
