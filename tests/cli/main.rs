//! The program `cove` as a user runs it, against a scripted daemon: real processes, real signals, real
//! sockets and frames, a real terminal where one is due.

mod cp;
mod daemon;
mod detached;
mod fake;
mod forward;
mod hooks;
mod net;
mod prune;
mod ssh;
mod terminal;
mod workspace;

use std::path::Path;
use std::process::{Output, Stdio};

use cove::report::{Kind, Report};
use cove::wire::rpc::OperationEnd;
use fake::{Answers, DEADLINE, Fake, done, operation};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// `cove` with this `COVE_HOME` and nothing else of the environment.
#[expect(clippy::disallowed_methods, reason = "the test's one wrapper of the program")]
fn cove(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
    command
        .args(arguments)
        .env_clear()
        .env("COVE_HOME", home)
        .env("HOME", home)
        .env("TERM", "cove-test")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(fake: &Fake, arguments: &[&str]) -> Output {
    finish(cove(&fake.home, arguments).spawn().expect("starts")).await
}

async fn finish(child: Child) -> Output {
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
    output.expect("it ends in time").expect("it can be waited for")
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it was killed: {output:?}"))
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().expect("it runs");
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("signalled");
}

fn failing(error: Report, vm_kept: bool, console_saved: Option<&str>) -> OperationEnd {
    OperationEnd::Failed { error, vm_kept, console_saved: console_saved.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_remote_status_is_shown_and_never_mixed_up_with_coves_own() {
    let fake = Fake::start();
    for (command, expected) in [
        (&["exit", "42"][..], 42),
        (&["exit", "0"], 0),
        (&["killed", "9"], 137),
        (&["locked"], 126),
        (&["missing"], 127),
        (&["homeless"], 125),
        (&["vanish"], 125),
        (&["greedy"], 125),
    ] {
        for before in [&["exec", "a", "--"][..], &["run", "--"], &["run", "--rm", "--"]] {
            let output = run(&fake, &[before, command].concat()).await;
            assert_eq!(status(&output), expected, "{before:?} {command:?}: {}", stderr(&output));
            assert_eq!(stdout(&output), "", "{before:?} {command:?}");
            assert!(!stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
        }
    }
    let output = run(&fake, &["exec", "a", "--", "missing"]).await;
    insta::assert_snapshot!(stderr(&output), @r#"
    error: cannot run `missing`: there is no such program in the guest
      cause: no \u{1b}[31mluck
      kind: not_found
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_apart_and_arguments_arrive_unchanged() {
    let fake = Fake::start();
    let output = run(&fake, &["run", "--", "both"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "out\n"));
    insta::assert_snapshot!(stderr(&output), @r#"
    note: a: booted \u{1b}[2Jonce more
    `a` is ready (2.0 s)
    err
    `a` keeps running; stop it with `cove stop a`
    "#);

    let awkward = ["", " a  b ", "'\"\\", "$HOME `x` $(y)", "line\nbreak", "--rm", "--", "ü"];
    let output = run(&fake, &[&["exec", "a", "--", "arguments"][..], &awkward].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(stdout(&output)).expect("JSON"), json!(awkward));

    let output = run(&fake, &["run", "--rm", "--env", "K=V=W", "--", "both"]).await;
    assert_eq!(stderr(&output).matches("cove stop").count(), 0, "{}", stderr(&output));
    assert_eq!(fake.calls("vm.create").last().expect("called")["env"], json!({ "K": "V=W" }));
    assert_eq!(fake.calls("vm.create").last().expect("called")["lease"], json!(true));
    assert_eq!(fake.calls("vm.delete"), [json!({ "vm": "aaaaaaaaaaaa", "discard_work": true })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_is_piped_to_its_end_however_much_it_is() {
    let fake = Fake::start();
    let mut child = cove(&fake.home, &["exec", "a", "--", "cat"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("starts");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut stdin = child.stdin.take().expect("piped");
    let feed = async {
        stdin.write_all(&sent).await.expect("taken");
        drop(stdin);
    };
    let (output, ()) = tokio::join!(finish(child), feed);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(output.stdout == sent, "{} bytes came back", output.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_while_it_is_called_is_called_again() {
    let fake = Fake::after_a_broken_call();
    let output = run(&fake, &["list", "--json"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(fake.calls("vm.list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_passes_input_that_the_command_does_not_take() {
    let fake = Fake::start();
    let mut child = cove(&fake.home, &["exec", "a", "--", "wait"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut first = [0; 6];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).await.expect("reads");
    assert_eq!(&first, b"ready\n");
    // More than the window and all queues on the way: writing it never ends.
    let mut feed = Box::pin(async move { while stdin.write_all(&[0; 1 << 16]).await.is_ok() {} });
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(500), &mut feed).await;
    assert!(stuck.is_err(), "the command takes nothing");
    let pid = Pid::from_raw(i32::try_from(child.id().expect("it runs")).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("sent");
    let (output, ()) = tokio::join!(finish(child), feed);
    assert_eq!(status(&output), 128 + 15, "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_the_command_quietly_and_rm_still_deletes() {
    let fake = Fake::start();
    let mut child = cove(&fake.home, &["run", "--rm", "--", "yes"]).spawn().expect("starts");
    let mut line = [0; 2];
    let mut reader = child.stdout.take().expect("piped");
    reader.read_exact(&mut line).await.expect("reads");
    drop(reader);
    let output = finish(child).await;
    assert_eq!((&line, status(&output)), (b"y\n", 141));
    assert!(!stderr(&output).contains("error"), "{}", stderr(&output));
    assert_eq!(fake.calls("vm.delete").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_says_why_and_what_became_of_the_vm() {
    let report = || {
        let mut report = Report::new(Kind::TimedOut, "the guest of `a` did not answer");
        report.cause = vec!["last console line: \u{1b}]0;x\u{7}panic".to_owned()];
        report.with_hint("give it more memory")
    };
    let kept = Fake::with(operation(Some(failing(report(), true, None))), Answers::new(), "");
    let output = run(&kept, &["run", "--", "both"]).await;
    assert_eq!((status(&output), stdout(&output)), (125, ""));
    insta::assert_snapshot!(stderr(&output), @r#"
    note: a: booted \u{1b}[2Jonce more
    error: the guest of `a` did not answer
      cause: last console line: \u{1b}]0;x\u{7}panic
      operation: 0123456789ab
      kind: timed_out

    hint: give it more memory
    hint: `a` was kept: see `cove logs a`, remove it with `cove delete a`
    "#);

    let end = failing(report(), false, Some("/state/consoles/a.log"));
    let gone = Fake::with(operation(Some(end)), Answers::new(), "");
    let output = run(&gone, &["run", "--rm", "--", "both"]).await;
    assert_eq!(status(&output), 125);
    assert!(stderr(&output).ends_with("saved at /state/consoles/a.log\n"), "{}", stderr(&output));

    let output = run(&kept, &["start", "b"]).await;
    assert_eq!(status(&output), 7, "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_during_the_start_cancels_it() {
    for (asked, arguments) in [
        (Signal::SIGINT, &["run", "--", "both"][..]),
        (Signal::SIGTERM, &["run", "--rm"]),
        (Signal::SIGINT, &["create"]),
        (Signal::SIGINT, &["start", "a"]),
    ] {
        let fake = Fake::with(operation(None), Answers::new(), "");
        let child = cove(&fake.home, arguments).spawn().expect("starts");
        fake.called("op.show").await;
        signal(&child, asked);
        let output = finish(child).await;
        assert_eq!(status(&output), 130, "{arguments:?}: {}", stderr(&output));
        assert_eq!(fake.calls("op.cancel").len(), 1, "{arguments:?}");
        assert!(fake.calls("vm.exec").is_empty(), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_stops_waiting_for_the_cancellation() {
    let mut answers = Answers::new();
    let stuck = serde_json::to_value(operation(None)).expect("JSON");
    answers.insert("op.cancel", Box::new(move |_| Ok(stuck.clone())));
    let fake = Fake::with(operation(None), answers, "");
    let child = cove(&fake.home, &["run", "--", "both"]).spawn().expect("starts");
    fake.called("op.show").await;
    signal(&child, Signal::SIGINT);
    fake.called("op.cancel").await;
    signal(&child, Signal::SIGINT);
    let output = finish(child).await;
    assert_eq!(status(&output), 130);
    assert!(stderr(&output).contains("cove op show 0123456789ab"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_hangs_is_left_after_three_requests() {
    let fake = Fake::start();
    let mut child = cove(&fake.home, &["exec", "a", "--", "deaf"]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next_line().await.expect("reads").as_deref(), Some("ready"));
    // Different ones, because a signal that is pending already is not counted again.
    for request in [Signal::SIGQUIT, Signal::SIGINT, Signal::SIGTERM] {
        assert!(child.try_wait().expect("asked").is_none(), "it waits before {request}");
        signal(&child, request);
    }
    let left = status(&finish(child).await);
    assert!([130, 131, 143].contains(&left), "{left}");
}

#[test]
fn a_daemon_that_dies_meanwhile_is_unreachable() {
    for (arguments, expected) in [(&["start", "a"][..], 5), (&["run", "--", "both"], 125)] {
        let daemon = tokio::runtime::Runtime::new().expect("a runtime");
        let here = tokio::runtime::Runtime::new().expect("a runtime");
        let fake = {
            let _inside = daemon.enter();
            Fake::with(operation(None), Answers::new(), "")
        };
        let output = here.block_on(async {
            let child = cove(&fake.home, arguments).spawn().expect("starts");
            fake.called("op.show").await;
            daemon.shutdown_background();
            finish(child).await
        });
        assert_eq!(status(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("connection to the daemon was lost"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_command_and_rm_deletes_after_them() {
    let fake = Fake::start();
    for (sent, expected) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGUSR1, 138)]
    {
        let mut child = cove(&fake.home, &["run", "--rm", "--", "wait"]).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert_eq!(lines.next_line().await.expect("reads").as_deref(), Some("ready"));
        signal(&child, sent);
        let output = finish(child).await;
        assert_eq!(status(&output), expected, "{sent}: {}", stderr(&output));
    }
    assert_eq!(fake.calls("vm.delete").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_and_planned_runs_print_data_only() {
    let plan = json!({
        "machine": { "image": "debian", "vcpu": 1, "memory_mib": 512, "disk_bytes": 1 << 30,
            "root_disk_bytes": 1 << 30, "net": "user" },
        "publish": ["127.0.0.1:8080:80"],
        "workspace": { "source_path": "/src", "guest_path": "/root/src", "base_commit": null,
            "origin": null, "files": ["a", "b\n\u{1b}c"], "bytes": 300, "untracked_left_out": 2 },
        "hooks": [{ "plugin": "ssh-key", "log": ["no agent"], "steps": [
            { "action": "ensure-block", "path": ".ssh/authorized_keys", "mode": 384, "bytes": 80 }] }],
    });
    let mut answers = Answers::new();
    answers.insert("vm.plan", Box::new(move |_| Ok(plan.clone())));
    let fake = Fake::with(operation(Some(done())), answers, "");
    let output = run(&fake, &["run", "-d"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "a\n"));
    assert!(fake.calls("vm.exec").is_empty());

    let path = fake.home.to_str().expect("UTF-8").to_owned();
    let output = run(&fake, &["run", "--dry-run", &path, "--include-untracked"]).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output), @r#"
    machine: image debian, 1 vcpu, 512M memory, 1G work disk, 1G root disk, net user
    egress: open
    publish: 127.0.0.1:8080:80

    repository: /src -> /root/src
      base commit: none yet
      origin: none
      files: 2 (300 bytes)
        a
        b\n\u{1b}c
      left out: 2 untracked (take them with --include-untracked)

    hook ssh-key: 1 step
      ensure-block ~/.ssh/authorized_keys 0600 (80 bytes)
      log: no agent
    "#);
    let wanted = &fake.calls("vm.plan")[0]["workspace"];
    assert_eq!(*wanted, json!({ "path": path, "include_untracked": true, "full_history": false }));
    assert_eq!(fake.calls("vm.create").len(), 1, "only the detached run made a VM");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_125_for_run_and_exec_and_reaches_no_daemon() {
    let fake = Fake::start();
    for (arguments, expected) in [
        (&["run", "-d", "--rm"][..], 125),
        (&["run", "-d", "--", "true"], 125),
        (&["run", "--json"], 125),
        (&["run", "/there/is/no/such/path"], 125),
        (&["run", "/etc/passwd"], 125),
        (&["run", "--no-such-flag"], 125),
        (&["run", "--memory", "512"], 125),
        (&["run", "--memory", "1K"], 125),
        (&["run", "--name", "Web"], 125),
        (&["exec", "--cwd"], 125),
        (&["exec", "a", "-t", "--", "true"], 125),
        (&["create", "--disk", "lots"], 2),
        (&["stop"], 2),
        (&["list", "--no-such-flag"], 2),
        (&["help", "nonsense"], 2),
        (&[], 2),
    ] {
        let output = run(&fake, arguments).await;
        assert_eq!(status(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
        if expected == 125 {
            assert!(
                stderr(&output).contains("kind: invalid"),
                "{arguments:?}: {}",
                stderr(&output)
            );
        }
    }
    assert!(fake.script_was_not_asked());
    assert_eq!(status(&run(&fake, &["run", "--help"]).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_vms_are_served_in_order_even_when_some_do_not_exist() {
    let fake = Fake::start();
    let output = run(&fake, &["stop", "b", "nobody", "aaaaaaaaaaaa", "a", "b"]).await;
    assert_eq!((status(&output), stdout(&output)), (3, "b\na\n"));
    insta::assert_snapshot!(stderr(&output), @r#"
    error: there is no VM `nobody`

    hint: `cove list` shows the VMs there are
    "#);
    let output = run(&fake, &["delete", "a", "--json"]).await;
    let deleted: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(deleted, json!([{ "id": "aaaaaaaaaaaa", "name": "a" }]));
    let output = run(&fake, &["kill", "a"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "a\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_json_arrays_and_names_complete() {
    let mut answers = Answers::new();
    answers.insert("vm.list", Box::new(|_| Ok(json!({ "vms": [] }))));
    let empty = Fake::with(operation(None), answers, "");
    let output = run(&empty, &["list", "--json"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "[]\n"));

    // The path of this one's socket is longer than the kernel takes.
    let long = "long/".repeat(40);
    let fake = Fake::with(operation(None), Answers::new(), &long);
    for alias in ["list", "ls", "ps"] {
        let output = run(&fake, &[alias, "--json"]).await;
        let vms: Value = serde_json::from_str(stdout(&output)).expect("JSON");
        assert_eq!(vms[1]["name"], "b", "{}", stderr(&output));
    }
    let mut complete = cove(&fake.home, &["--", "cove", "stop", ""]);
    complete.env("COVE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2");
    let output = finish(complete.spawn().expect("starts")).await;
    let names: Vec<&str> = stdout(&output).split_whitespace().collect();
    assert!(names.contains(&"a") && names.contains(&"b"), "{names:?}");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&fake, &["completion", shell]).await;
        assert!(stdout(&output).contains("COVE_COMPLETE"), "{shell}");
    }
}
