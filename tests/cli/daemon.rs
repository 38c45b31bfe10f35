//! Starting and stopping the daemon: scripts stand for `coved`, a scripted daemon for what listens.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use cove::report::{Kind, Report};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;

use super::fake::{Answers, DEADLINE, Fake, operation};
use super::{cove, finish, run, status, stderr, stdout};

/// A folder with `cove` and a `coved` that is this script.
fn installed(script: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("cove");
    let built = env!("CARGO_BIN_EXE_cove");
    std::fs::hard_link(built, &program)
        .or_else(|_| std::fs::copy(built, &program).map(drop))
        .expect("copied");
    let daemon = folder.path().join("coved");
    std::fs::write(&daemon, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&daemon, std::fs::Permissions::from_mode(0o755)).expect("set");
    folder
}

#[expect(clippy::disallowed_methods, reason = "the program in another folder")]
async fn run_installed(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(folder.join("cove"));
    command.args(arguments).env("COVE_HOME", folder).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().expect("starts")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_cannot_start_is_heard() {
    let report = serde_json::to_string(
        &Report::new(Kind::Invalid, "unknown key `vcpus`").with_hint("did you mean `vcpu`?"),
    );
    let script = format!("test \"$1\" = --ready-fd; echo '{}' >&$2", report.expect("JSON"));
    let (told, died) = (installed(&script), installed("echo one >&2; echo two >&2; exit 3"));
    let (told, died) = tokio::join!(
        run_installed(told.path(), &["list"]),
        run_installed(died.path(), &["doctor"]),
    );
    assert_eq!(status(&told), 2);
    assert_eq!(stderr(&told), "error: unknown key `vcpus`\n\nhint: did you mean `vcpu`?\n");
    assert_eq!(status(&died), 1);
    assert!(stdout(&died).contains("FAIL") && stdout(&died).contains("two"), "{}", stdout(&died));
    let nowhere = tempfile::tempdir().expect("a folder");
    for (arguments, expected) in [(&["daemon", "status"][..], 5), (&["daemon", "stop"], 0)] {
        let output = cove(nowhere.path(), arguments).spawn().expect("starts");
        assert_eq!(status(&finish(output).await), expected, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_connected_once_its_own_or_anothers_daemon_listens() {
    let conflict = Report::new(Kind::Conflict, "another daemon has the lock");
    let conflict = serde_json::to_string(&conflict).expect("JSON");
    for script in [
        // It listens, and says so.
        "while [ ! -e \"$COVE_HOME/run/coved.sock\" ]; do sleep 0.01; done; printf 1 >&\"$2\"",
        // It finds that another one is starting, which listens a little later.
        &format!("echo '{conflict}' >&\"$2\""),
    ] {
        let folder = installed(&format!("touch \"$COVE_HOME/started\"; {script}"));
        let client = run_installed(folder.path(), &["list", "--json"]);
        let daemon = async {
            let started = folder.path().join("started");
            let wait = async {
                while !started.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(DEADLINE, wait).await.expect("the daemon was started");
            Fake::at(folder.path())
        };
        let (output, _daemon) = tokio::join!(client, daemon);
        assert_eq!(status(&output), 0, "{script}: {}", stderr(&output));
        assert!(stdout(&output).starts_with('['), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a process that stands for the daemon")]
async fn stopping_the_daemon_waits_until_its_process_is_gone() {
    let mut process = Command::new("sleep").arg("600").kill_on_drop(true).spawn().expect("starts");
    let pid = process.id().expect("it runs");
    let mut answers = Answers::new();
    answers.insert(
        "daemon.status",
        Box::new(move |_| {
            Ok(json!({ "pid": pid, "version": "0.1.0", "socket": "s", "database": "d",
                "started_at": "t", "vms": 2, "resident_kib": 1, "log": "l" }))
        }),
    );
    answers.insert(
        "daemon.shutdown",
        Box::new(move |_| {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).expect("signalled");
            Ok(json!({}))
        }),
    );
    let fake = Fake::with(operation(None), answers, "");
    let output = run(&fake, &["daemon", "status", "--json"]).await;
    let shown: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!((&shown["pid"], &shown["vms"]), (&json!(pid), &json!(2)));
    let output = run(&fake, &["daemon", "stop"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, ""), "{}", stderr(&output));
    assert!(process.try_wait().expect("asked").is_some(), "it had ended");
}
