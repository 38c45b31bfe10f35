//! `cove workspace export --apply` says what it would write and asks before it has it written.

use std::fs::File;
use std::io::Write as _;
use std::process::{Output, Stdio};

use cove::report::{Kind, Report};
use nix::pty::{OpenptyResult, openpty};
use serde_json::{Value, json};

use super::fake::{Answers, Fake, operation};
use super::{cove, finish, run, status, stderr, stdout};

const APPLY: [&str; 4] = ["workspace", "export", "a", "--apply"];

/// A daemon that would write three files, of which these run by themselves and these are in conflict.
fn daemon(runs: &[&str], conflicts: &[&str]) -> Fake {
    let runs: Vec<_> = runs.iter().map(|path| json!({ "path": path, "why": "it runs" })).collect();
    let conflicts = json!(conflicts);
    let mut answers = Answers::new();
    let apply = move |wanted: &Value| {
        Ok(json!({
            "change": "1234..5678",
            "source_path": "/src/web",
            "files": 3,
            "runs": runs,
            "runs_total": runs.len(),
            "conflicts": conflicts,
            "conflicts_total": conflicts.as_array().map_or(0, Vec::len),
            "applied": !wanted["agreed"].is_null(),
            "exported": !wanted["agreed"].is_null(),
            "notes": ["a repository inside it left out"],
        }))
    };
    answers.insert("vm.workspace.apply", Box::new(apply));
    Fake::with(operation(None), answers, "")
}

/// What was agreed to, in each call.
fn agreed(fake: &Fake) -> Vec<Value> {
    let calls = fake.calls("vm.workspace.apply").into_iter();
    calls.map(|call| call.get("agreed").cloned().unwrap_or_default()).collect()
}

/// What becomes of it when somebody at a terminal answers like this.
async fn asked(fake: &Fake, answer: &str) -> Output {
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let mut command = cove(&fake.home, &APPLY);
    command.stdin(Stdio::from(slave.try_clone().expect("duplicated"))).stderr(Stdio::from(slave));
    let child = command.spawn().expect("starts");
    let mut keys = File::from(master);
    keys.write_all(answer.as_bytes()).expect("typed");
    finish(child).await
}

#[tokio::test]
async fn at_a_terminal_only_a_yes_applies() {
    let fake = daemon(&[], &[]);
    let output = asked(&fake, "n\n").await;
    assert_eq!((status(&output), stdout(&output)), (0, ""));
    assert_eq!(agreed(&fake), [Value::Null], "it has only looked");
    let output = asked(&fake, "y\n").await;
    assert_eq!((status(&output), stdout(&output)), (0, ""));
    assert_eq!(agreed(&fake)[1..], [Value::Null, json!("1234..5678")]);
}

#[tokio::test]
async fn without_a_terminal_files_that_run_by_themselves_need_a_yes() {
    let fake = daemon(&[], &[]);
    let output = run(&fake, &APPLY).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("applied 3 files to `/src/web`"), "{}", stderr(&output));
    let told = stderr(&output).matches("a repository inside it left out").count();
    assert_eq!(told, 1, "{}", stderr(&output));
    assert_eq!(agreed(&fake), [Value::Null, json!("1234..5678")]);

    let fake = daemon(&[".envrc", "x\u{1b}[2J/build.rs"], &[]);
    let output = run(&fake, &APPLY).await;
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    for text in ["  .envrc (it runs)", "  x\\u{1b}[2J/build.rs (it runs)", "--yes"] {
        assert!(stderr(&output).contains(text), "{text}: {}", stderr(&output));
    }
    assert_eq!(agreed(&fake), [Value::Null], "nothing was written");
    let output = run(&fake, &[&APPLY[..], &["--yes"]].concat()).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("  .envrc (it runs)"), "it is said all the same");
    assert_eq!(agreed(&fake)[1..], [Value::Null, json!("1234..5678")]);
}

#[tokio::test]
async fn conflicts_are_named_and_are_no_success() {
    let fake = daemon(&[], &["a.txt", "b\nc"]);
    let output = run(&fake, &[&APPLY[..], &["--3way"]].concat()).await;
    assert_eq!(status(&output), 1);
    for text in ["`a.txt`, `b\\nc`", "<<<<<<< source", "counts as unexported"] {
        assert!(stderr(&output).contains(text), "{text}: {}", stderr(&output));
    }
    let how = fake.calls("vm.workspace.apply").into_iter().map(|call| call["how"].clone());
    assert_eq!(how.collect::<Vec<_>>(), ["three_way", "three_way"]);
}

#[tokio::test]
async fn what_is_refused_is_refused_as_the_daemon_says() {
    let mut answers = Answers::new();
    let refuse = |_: &Value| Err(Report::new(Kind::Conflict, "`a.txt` is not as it was"));
    answers.insert("vm.workspace.apply", Box::new(refuse));
    let fake = Fake::with(operation(None), answers, "");
    let output = run(&fake, &APPLY).await;
    assert_eq!(status(&output), 4);
    assert!(stderr(&output).contains("`a.txt` is not as it was"), "{}", stderr(&output));
}

#[tokio::test]
async fn flags_that_make_no_sense_together_are_refused() {
    let fake = daemon(&[], &[]);
    for more in [
        &["--name-only"][..],
        &["--output", "x"],
        &["--bundle", "x"],
        &["--base", "HEAD"],
        &["--raw"],
    ] {
        let output = run(&fake, &[&APPLY[..], more].concat()).await;
        assert_eq!(status(&output), 2, "{more:?}: {}", stderr(&output));
    }
    for alone in ["--3way", "--yes"] {
        let output = run(&fake, &["workspace", "export", "a", alone]).await;
        assert_eq!(status(&output), 2, "{alone}: {}", stderr(&output));
    }
    assert!(fake.script_was_not_asked());
}
