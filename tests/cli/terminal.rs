//! Shells on a real terminal: a pseudo-terminal whose master the test holds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use cove::wire::guest::TtySize;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::json;

use super::fake::Fake;
use super::{cove, finish, signal, status};

fn terminal() -> OpenptyResult {
    let size = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    openpty(&size, None).expect("a terminal")
}

fn stdio(terminal: &OwnedFd) -> Stdio {
    Stdio::from(terminal.try_clone().expect("duplicated"))
}

fn is_raw(terminal: &OwnedFd) -> bool {
    let modes = tcgetattr(terminal.as_fd()).expect("its modes");
    !modes.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
}

/// Reads the terminal until this text has come.
async fn wait_for(mut screen: File, text: &'static str) -> File {
    tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut byte = [0];
            screen.read_exact(&mut byte).expect("the terminal is open");
            seen.extend(byte);
        }
        screen
    })
    .await
    .expect("read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_gets_a_terminal_that_is_restored_however_it_ends() {
    for (arguments, end) in [
        (&["exec", "a"][..], None),
        (&["exec", "a", "-t", "--", "wait"], None),
        (&["run", "--rm"], Some((Signal::SIGTERM, 143))),
        (&["exec", "a"], Some((Signal::SIGHUP, 129))),
        // Forwarded: the shell ends by it.
        (&["exec", "a"], Some((Signal::SIGQUIT, 131))),
    ] {
        let fake = Fake::start();
        let pty = terminal();
        let mut command = cove(&fake.home, arguments);
        let command = command.stdin(stdio(&pty.slave)).stdout(stdio(&pty.slave));
        let child = command.spawn().expect("starts");
        let screen = wait_for(File::from(pty.master), "ready").await;
        assert!(is_raw(&pty.slave), "{arguments:?}");
        let exec = &fake.calls("vm.exec")[0];
        assert_eq!(exec["tty"], json!(TtySize { cols: 111, rows: 33 }), "{arguments:?}");
        assert_eq!(exec["env"], json!({ "TERM": "cove-test" }), "{arguments:?}");
        signal(&child, Signal::SIGWINCH);
        let mut screen = wait_for(screen, "111x33").await;
        let expected = match end {
            None => {
                screen.write_all(b"q").expect("typed");
                0
            }
            Some((sent, expected)) => {
                signal(&child, sent);
                expected
            }
        };
        let output = finish(child).await;
        assert_eq!(status(&output), expected, "{arguments:?} {end:?}: {output:?}");
        assert!(!is_raw(&pty.slave), "{arguments:?} {end:?}");
        let deletes = usize::from(arguments.contains(&"--rm"));
        assert_eq!(fake.calls("vm.delete").len(), deletes, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_no_terminal_unless_asked_for() {
    let fake = Fake::start();
    let pty = terminal();
    let mut command = cove(&fake.home, &["exec", "a", "--", "both"]);
    let command = command.stdin(stdio(&pty.slave)).stdout(stdio(&pty.slave));
    let output = finish(command.spawn().expect("starts")).await;
    assert_eq!(status(&output), 0);
    assert_eq!(fake.calls("vm.exec")[0].get("tty"), None);
    assert_eq!(output.stderr, b"err\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_keys_leave_a_detached_command_where_it_is() {
    let fake = Fake::start();
    let pty = terminal();
    let mut command = cove(&fake.home, &["exec", "attach", "a", "ffffff"]);
    let command = command.stdin(stdio(&pty.slave)).stdout(stdio(&pty.slave));
    let child = command.spawn().expect("starts");
    let screen = wait_for(File::from(pty.master), "ready").await;
    assert!(is_raw(&pty.slave));
    // The command's terminal gets the size of this one.
    let mut screen = wait_for(screen, "111x33").await;
    screen.write_all(b"\x10\x11").expect("typed");
    let output = finish(child).await;
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(!is_raw(&pty.slave));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`cove exec attach a ffffff` attaches to it again"), "{said}");
}
