//! `cove ssh` in front of a scripted ssh, and `cove proxy` in front of a scripted guest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use cove::wire::rpc::VmState;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake::{Answers, Fake, done, operation, vm};
use super::{cove, finish, run, signal, status, stderr, stdout};

/// A folder with an `ssh` in it that prints its arguments, one a line, and ends with this status.
fn scripted_ssh(fake: &Fake, ends_with: i32) -> PathBuf {
    let folder = fake.home.join("bin");
    fs::create_dir_all(&folder).expect("made");
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit {ends_with}\n");
    fs::write(folder.join("ssh"), script).expect("written");
    fs::set_permissions(folder.join("ssh"), fs::Permissions::from_mode(0o755)).expect("set");
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_gets_the_way_to_the_vm_and_its_own_arguments_as_they_are() {
    let fake = Fake::start();
    let path = scripted_ssh(&fake, 42);
    let given = ["-L", "8080:localhost:80", "echo  'a b'", "$HOME", "-o ProxyCommand=x"];
    for name in ["a", "aaaaaaaaaaaa"] {
        let mut command = cove(&fake.home, &[&["ssh", name, "--"][..], &given].concat());
        let output = finish(command.env("PATH", &path).spawn().expect("starts")).await;
        assert_eq!((status(&output), stderr(&output)), (42, ""));
        let lines: Vec<_> = stdout(&output).lines().collect();
        let (options, rest) = lines.split_at(lines.len() - given.len() - 1);
        assert_eq!(rest, [&["a.cove"][..], &given].concat());
        assert!(options.chunks(2).all(|pair| pair[0] == "-o"), "{options:#?}");
        let home = fake.home.display();
        let proxy = format!(
            "ProxyCommand=/usr/bin/env 'COVE_HOME={home}' {} proxy -- '%h'",
            env!("CARGO_BIN_EXE_cove")
        );
        assert!(options.contains(&proxy.as_str()), "{proxy}\n{options:#?}");
        assert!(options.contains(&"StrictHostKeyChecking=yes"), "{options:#?}");
    }
    let mode =
        |path: &str| fs::metadata(fake.home.join(path)).expect(path).permissions().mode() & 0o777;
    assert_eq!((mode("ssh"), mode("ssh/id_ed25519")), (0o700, 0o600));
    assert!(!fake.home.join(".ssh").exists(), "nothing of the user's is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_ssh_is_125_and_ssh_is_not_run() {
    let fake = Fake::start();
    let path = scripted_ssh(&fake, 0);
    let mut command = cove(&fake.home, &["ssh", "none"]);
    let output = finish(command.env("PATH", &path).spawn().expect("starts")).await;
    assert_eq!((status(&output), stdout(&output)), (125, ""));
    assert!(stderr(&output).contains("there is no VM `none`"), "{}", stderr(&output));

    let mut command = cove(&fake.home, &["ssh", "a"]);
    let empty = fake.home.join("run");
    let output = finish(command.env("PATH", &empty).spawn().expect("starts")).await;
    assert_eq!(status(&output), 125);
    assert!(stderr(&output).contains("there is no `ssh` in PATH"), "{}", stderr(&output));

    let output = run(&fake, &["ssh", "--no-such-flag"]).await;
    assert_eq!(status(&output), 125);

    let mut answers = Answers::new();
    let mut stopped = vm("a", "aaaaaaaaaaaa");
    stopped.state = VmState::Stopped;
    answers.insert("vm.show", Box::new(move |_| Ok(json!(stopped))));
    let fake = Fake::with(operation(Some(done())), answers, "");
    let path = scripted_ssh(&fake, 0);
    let mut command = cove(&fake.home, &["ssh", "a"]);
    let output = finish(command.env("PATH", &path).spawn().expect("starts")).await;
    assert_eq!((status(&output), stdout(&output)), (125, ""));
    insta::assert_snapshot!(stderr(&output), @r"
    error: the VM `a` is stopped, not running
      kind: conflict

    hint: start it with `cove start a`
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_carries_bytes_and_says_what_kept_it_from_that() {
    let fake = Fake::start();
    let mut child = cove(&fake.home, &["proxy", "a.cove"]);
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
    let warning = "warning: too long together, and not in ssh sessions: LONG\\u{1b}\n";
    assert_eq!(stderr(&output), warning);
    let asked = fake.calls("vm.ssh").pop().expect("called");
    assert_eq!(asked["vm"], "a");
    assert!(asked["authorized_key"].as_str().is_some_and(|key| key.starts_with("ssh-ed25519 ")));

    let output = run(&fake, &["proxy", "b"]).await;
    assert_eq!((status(&output), stdout(&output)), (3, ""));
    let said = stderr(&output).strip_prefix(warning).expect("the same");
    insta::assert_snapshot!(said, @r#"
    error: there is no ssh server in `b`
      cause: sh: exec: \u{1b}[2Jsshd: not found

    hint: install `openssh-server` in it (/usr/sbin/sshd), or use `cove exec b`
    "#);

    let output = run(&fake, &["proxy", "--known-hosts", "a.cove"]).await;
    assert_eq!((status(&output), stdout(&output)), (0, "* ssh-ed25519 AAAA web\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_ends_with_ssh() {
    let fake = Fake::start();
    for how in ["it hangs up", "it is killed", "it reads no more"] {
        let mut child = cove(&fake.home, &["proxy", "a"]);
        let mut child = child.stdin(Stdio::piped()).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"SSH-2.0-x").await.expect("taken");
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut [0; 9]).await.expect("reads");
        match how {
            "it hangs up" => signal(&child, Signal::SIGHUP),
            "it is killed" => drop(stdin),
            _ => {
                drop(stdout);
                stdin.write_all(b"more").await.expect("taken");
            }
        }
        let output = finish(child).await;
        assert_eq!((status(&output), stderr(&output).contains("error")), (0, false), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_printed_put_in_and_taken_out() {
    let fake = Fake::with(operation(Some(done())), Answers::new(), "a home");
    let printed = run(&fake, &["ssh-config"]).await;
    assert_eq!((status(&printed), stderr(&printed)), (0, ""));
    assert!(stdout(&printed).starts_with("Host *.cove "), "{}", stdout(&printed));
    let path = fake.home.join(".ssh/config");
    assert!(!path.exists());
    for _ in 0..2 {
        let output = run(&fake, &["ssh-config", "--install"]).await;
        assert_eq!((status(&output), stdout(&output)), (0, ""), "{}", stderr(&output));
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text.matches(stdout(&printed)).count(), 1, "{text}");
        assert_eq!(text.matches("# >>> cove >>>").count(), 1, "{text}");
    }
    assert!(fake.home.join("ssh/id_ed25519").exists(), "ssh looks for it before there is a proxy");
    let output = run(&fake, &["ssh-config", "--uninstall"]).await;
    assert_eq!((status(&output), path.exists()), (0, false), "{}", stderr(&output));
    let output = run(&fake, &["ssh-config", "--install", "--uninstall"]).await;
    assert_eq!(status(&output), 2);
    assert!(fake.script_was_not_asked(), "no daemon is needed");
}
