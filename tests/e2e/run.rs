//! `cove run` and `cove exec`: what comes out, the exit status, and how little is left. Looking at what
//! runs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::tcgetattr;
use serde_json::{Value, json};

use crate::harness::{BOOT, QUICK, Ran, Who, World, as_everybody, wait_until};
use crate::watch::{self, until};

as_everybody!(a_commits_subject_comes_out_and_nothing_else);

fn a_commits_subject_comes_out_and_nothing_else(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    let arguments = ["run", repository.arg(), "--rm", "--", "git", "log", "-1", "--format=%s"];
    let ran = world.cove(arguments).success();
    let ran = ran.prints(&format!("{}\n", repository.subject()));
    assert!(!ran.stderr.contains("cove stop"), "`--rm` leaves nothing to stop: {}", ran.stderr);
    world.assert_no_vm(&[]);

    // The VM goes whatever the exit status is, without a repository as well.
    world.cove(["run", "--rm", "--", "sh", "-c", "exit 42"]).status(42).prints("");
    world.assert_no_vm(&[]);
    repository.is_as_it_was_made();
    world.finish();
}

as_everybody!(streams_and_arguments_are_those_of_the_command);

fn streams_and_arguments_are_those_of_the_command(who: Who) {
    let world = World::new(who);
    let ran = world.cove(["run", "--name", "one", "--env", "SONG=la la", "--", "env"]).success();
    assert!(ran.stdout.contains("SONG=la la\n"), "{}", ran.told());
    let line = "`one` keeps running; stop it with `cove stop one`";
    assert_eq!(ran.stderr.matches(line).count(), 1, "{}", ran.told());
    let vm = world.json(["show", "one", "--json"]);

    arguments(&world);
    streams(&world);
    looking(&world, &vm);

    world.cove(["delete", "one"]).success();
    world.assert_no_vm(&[vm["id"].as_str().expect("an id").to_owned()]);
    world.finish();
}

as_everybody!(item_12_a_local_failure_never_masquerades_as_the_remote_status);

fn item_12_a_local_failure_never_masquerades_as_the_remote_status(who: Who) {
    let world = World::new(who);
    let vm = world.start("one", &[]);
    remote_statuses(&world);
    for wrong in [
        &["exec", "nobody", "--", "true"][..],
        &["exec", "one", "--no-such-flag", "--", "true"],
        &["exec"],
        &["run", "--no-such-flag"],
        &["run", "/no/such/path", "--", "true"],
    ] {
        local(world.cove(wrong));
    }
    // What breaks while the command runs: the daemon, then the machine.
    let sleeping = |seconds: &str| {
        let exec = world.command(["exec", "one", "--", "sleep", seconds]).spawn();
        until("the command runs", QUICK, || {
            let seen = world.guest("one", "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '");
            seen.contains(&format!("sleep {seconds}")).then_some(exec.pid())
        });
        exec
    };
    let exec = sleeping("1001");
    watch::kill_daemon(&world);
    local(exec.wait());
    let exec = sleeping("1002");
    watch::end(watch::monitor(&world, &vm));
    local(exec.wait());
    watch::state(&world, "one", "stopped");
    local(world.cove(["exec", "one", "--", "true"]));
    world.finish();
}

/// A failure of cove's own has a status and words of its own.
#[track_caller]
fn local(ran: Ran) {
    ran.status(125).prints("").says("error: ").says("kind: ");
}

/// The status of a command is shown as it is, and without a word of cove's unless it could not run.
fn remote_statuses(world: &World) {
    for (command, expected) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "exit 125"], 125),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
    ] {
        let ran = world.cove([&["exec", "one", "--"], command].concat());
        assert_eq!(ran.status(expected).prints("").stderr, "");
    }
    for (command, expected) in
        [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126), ("/", 126)]
    {
        world.cove(["exec", "one", "--", command]).status(expected).prints("").says("cannot run");
    }
}

/// Awkward arguments arrive as they are: no shell, no quoting.
fn arguments(world: &World) {
    let long = "x".repeat(100_000);
    let awkward = [
        "",
        " ",
        "  a  b ",
        "'",
        "\"",
        "\\",
        "\\n",
        "a'b\"c\\d",
        "$HOME",
        "${HOME}",
        "$(id)",
        "`id`",
        "*",
        "~",
        "!!",
        "a;b|c&d>e<f",
        "#",
        "line\nbreak\n",
        "\t\r\u{1b}[31m",
        "--",
        "--rm",
        "-t",
        "%s%n",
        "größer 歌 🎵",
        &long,
        "",
    ];
    let command = [&["exec", "one", "--", "printf", "%s\\0"][..], &awkward].concat();
    let expected: String = awkward.iter().map(|argument| format!("{argument}\0")).collect();
    world.cove(command).success().prints(&expected);
}

fn streams(world: &World) {
    let both = "echo to stdout; echo to stderr >&2; exit 7";
    let ran = world.cove(["exec", "one", "--", "sh", "-c", both]).status(7);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("to stdout\n", "to stderr\n"));

    let mut noise = vec![0; 4 << 20];
    getrandom::fill(&mut noise).expect("random bytes");
    let counted = world.command(["exec", "one", "--", "wc", "-c"]).stdin(noise.clone());
    counted.run().success().prints("4194304\n");
    let ran = world.command(["exec", "one", "--", "cat"]).stdin(noise.clone()).run().success();
    assert!(ran.bytes == noise, "{} bytes came back, and not the same", ran.bytes.len());
    // A command that does not read its input ends all the same.
    world.command(["exec", "one", "--", "true"]).stdin(noise).run().success();

    world.cove(["exec", "one", "--", "pwd"]).success().prints("/root\n");
    assert_eq!(world.guest("one", "test -e /root/root || echo none"), "none\n");
}

/// `list`, `show`, `logs`, `op` and `daemon status` on a running VM.
fn looking(world: &World, vm: &Value) {
    let list = world.json(["list", "--json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    for shown in [vm, &list[0]] {
        for (key, expected) in [
            ("name", json!("one")),
            ("state", json!("running")),
            ("image", json!("default")),
            ("vmm", json!("qemu")),
            ("vcpu", json!(1)),
            ("memory_mib", json!(256)),
            ("net", json!({ "mode": "none" })),
            ("labels", json!({})),
        ] {
            assert_eq!(shown[key], expected, "{key}: {shown}");
        }
        for key in ["id", "kernel", "accel", "created_at", "started_at", "last_touched_at"] {
            assert!(shown[key].is_string(), "{key}: {shown}");
        }
        assert!(shown["boot_id"].is_string() && shown["disk_bytes"].is_u64(), "{shown}");
    }
    let id = vm["id"].as_str().expect("an id");
    let by_prefix = world.json(["show", &id[..6], "--json"]);
    assert_eq!(by_prefix["name"], "one");
    let text = world.cove(["list"]).success().stdout;
    assert!(text.contains("one") && text.contains("running"), "{text}");
    world.cove(["show", "nobody"]).status(3).says("nobody");

    world.guest("one", "echo a line for the console > /dev/ttyS0");
    let logged = wait_until(QUICK, || {
        let logs = world.cove(["logs", "one"]).success().stdout;
        if logs.contains("a line for the console") { Ok(()) } else { Err(logs) }
    });
    logged.expect("the console is in the logs");

    let operations = world.json(["op", "list", "--json"]);
    let operation = operations.as_array().and_then(|all| all.last()).expect("an operation");
    assert_eq!((&operation["action"], &operation["vm"]), (&json!("create"), &vm["id"]));
    assert_eq!(operation["end"]["result"], "done");
    let stages = operation["stages"].as_array().expect("stages");
    assert!(stages.iter().any(|stage| stage["name"] == "boot"), "{operation}");

    let status = world.json(["daemon", "status", "--json"]);
    assert_eq!(
        (&status["vms"], &status["version"]),
        (&json!(1), &json!(env!("CARGO_PKG_VERSION")))
    );
    let pid = status["pid"].as_i64().expect("a pid");
    let found = world.processes(&[id.to_owned()]);
    assert!(found.iter().any(|one| i64::from(one.pid) == pid && one.is_daemon()), "{found:#?}");
    assert!(found.iter().any(|one| vm["pid"] == json!(one.pid)), "{found:#?}");
    let home = world.home.to_str().expect("UTF-8");
    for key in ["socket", "database"] {
        assert!(status[key].as_str().is_some_and(|path| path.starts_with(home)), "{status}");
    }
    assert!(status["started_at"].is_string(), "{status}");
}

/// What a terminal has shown so far.
struct Screen {
    seen: Arc<Mutex<Vec<u8>>>,
    keyboard: File,
}

impl Screen {
    fn of(master: OwnedFd) -> Self {
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().expect("duplicated");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal ends when its last user does.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                shared.lock().expect("no panic").extend_from_slice(&bytes[..count]);
            }
        });
        Self { seen, keyboard }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic")).into_owned()
    }

    fn wait_for(&self, text: &str) {
        let seen = wait_until(BOOT, || {
            let seen = self.text();
            if seen.contains(text) { Ok(()) } else { Err(seen) }
        });
        assert!(seen.is_ok(), "`{text}` did not come; the screen shows:\n{}", self.text());
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }
}

as_everybody!(a_shell_on_a_terminal_has_a_prompt_and_leaves_the_terminal_as_it_was);

fn a_shell_on_a_terminal_has_a_prompt_and_leaves_the_terminal_as_it_was(who: Who) {
    let world = World::new(who);
    let size = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
    let modes = tcgetattr(slave.as_fd()).expect("its modes");
    let stdio = || Stdio::from(slave.try_clone().expect("duplicated"));
    let mut command = world.command(["run", "--name", "shell"]).into_command();
    command.stdin(stdio()).stdout(stdio()).stderr(Stdio::piped());
    let child = command.spawn().expect("starts");
    let mut screen = Screen::of(master);
    screen.wait_for("root@shell:~#");
    // Written apart from what is typed, so that its echo is not taken for its output.
    screen.press("stty size; tty; echo $((6*7)) $0 in $(pwd) on $(hostname)\r");
    screen.wait_for("33 111");
    screen.wait_for("/dev/pts/");
    screen.wait_for("42 -bash in /root on shell");
    screen.press("exit 3\r");
    let output = child.wait_with_output().expect("it can be waited for");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert_eq!(stderr.matches("`shell` keeps running").count(), 1, "{stderr}");
    assert_eq!(tcgetattr(slave.as_fd()).expect("its modes"), modes, "as it was");
    world.cove(["stop", "shell"]).success();
    assert_eq!(world.json(["show", "shell", "--json"])["state"], "stopped");
    world.finish();
}
