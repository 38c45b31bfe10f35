//! The way to a guest under bad conditions: a daemon that pauses, connections that are given up.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{QUICK, Who, World, as_everybody, skipped};
use crate::watch;

/// A `COVE_HOME` under which no socket path fits into the 108 bytes that the kernel has for one.
const LONG: &str = "a-folder-with-a-name-that-goes-on-and-on-and-on/and-another-one-below-it-that-goes-on-\
                    just-as-long/and-a-third-one-so-that-no-socket-path-fits/cove home, with a comma";

/// A client that speaks HTTP.
const CURL: &str = "/usr/bin/curl";

/// How often a connection is given up at every stage.
const GIVEN_UP: usize = 25;

as_everybody!(item_26_sockets_whose_paths_are_longer_than_108_bytes_work);

fn item_26_sockets_whose_paths_are_longer_than_108_bytes_work(who: Who) {
    let world = World::at(who, LONG);
    assert!(world.home.as_os_str().len() > 108);
    let repository = world.repo();
    let vm = world.start("deep", &[repository.arg()]);
    let subject = format!("{}\n", repository.subject());
    let log = ["exec", "deep", "--", "git", "log", "-1", "--format=%s"];
    world.cove(log).success().prints(&subject);
    // The daemon's own socket, those of the monitor, and those that another daemon takes up.
    let status = world.json(["daemon", "status", "--json"]);
    assert!(status["socket"].as_str().is_some_and(|path| path.len() > 108), "{status}");
    world.json(["set", "deep", "--disk", "20G", "--json"]);
    watch::kill_daemon(&world);
    world.cove(log).success().prints(&subject);
    let console = world.command(["console", "deep"]).spawn();
    world.guest("deep", "echo 'a line for the console' > /dev/ttyS0");
    world.cove(["stop", "deep"]).success();
    let console = console.wait().success();
    assert!(console.stdout.contains("a line for the console"), "{}", console.told());
    watch::nothing_runs(&world, &vm);
    repository.is_as_it_was_made();
    world.finish();
}

as_everybody!(item_27_a_client_that_disconnects_mid_call_leaves_the_call_to_its_end);

fn item_27_a_client_that_disconnects_mid_call_leaves_the_call_to_its_end(who: Who) {
    if !Path::new(CURL).exists() {
        return skipped("`curl` is not installed");
    }
    let world = World::new(who);
    world.cove(["create", "--name", "left"]).success();
    // In a call that waits for its end, by HTTP.
    let call = r#"{"jsonrpc": "2.0", "id": 1, "method": "vm.start", "params": {"vm": "left", "wait": true}}"#;
    let socket = world.home.join("run/coved.sock");
    let socket = socket.to_str().expect("UTF-8");
    let json = "Content-Type: application/json";
    let curl = ["-s", "--unix-socket", socket, "-H", json, "-d", call, "http://localhost/"];
    let curl = world.companion(CURL, curl).spawn();
    watch::state(&world, "left", "starting");
    curl.signal(Signal::SIGKILL);
    curl.wait();
    watch::state(&world, "left", "running");

    // In a command, which gets a hangup. (What it says then has no reader, and would end it at once.)
    let script = "exec >/dev/null 2>&1; trap 'echo hung up > /root/end; exit' HUP; \
                  echo > /root/begun; while :; do sleep 0.1; done";
    let exec = world.command(["exec", "left", "--", "sh", "-c", script]).spawn();
    let there = |file: &str| world.cove(["exec", "left", "--", "test", "-s", file]).status == 0;
    watch::until("it runs", QUICK, || there("/root/begun").then_some(()));
    exec.signal(Signal::SIGKILL);
    exec.wait();
    watch::until("it has ended", QUICK, || there("/root/end").then_some(()));

    // In what goes on for ever, and in a stop.
    let following = [&["logs", "-f", "left"][..], &["events", "-f"], &["stats", "--watch"]];
    for follow in following.map(|arguments| world.command(arguments).spawn()) {
        follow.signal(Signal::SIGKILL);
        follow.wait();
    }
    world.guest("left", "echo kept > /root/kept");
    let stop = world.command(["stop", "left"]).spawn();
    watch::state(&world, "left", "stopping");
    stop.signal(Signal::SIGKILL);
    stop.wait();
    let vm = watch::state(&world, "left", "stopped");
    watch::nothing_runs(&world, &vm);
    world.check_disks(&vm);
    world.finish();
}

as_everybody!(a_guest_stays_within_reach);

fn a_guest_stays_within_reach(who: Who) {
    let world = World::new(who);
    let vm = world.start("one", &[]);

    let socket = world.vm_folder(&vm).join("vsock.sock");
    if socket.exists() {
        give_connections_up(&socket);
        assert_eq!(world.guest("one", "echo still here"), "still here\n");
    } else {
        skipped("the vsock device is the kernel's, which has no socket to be closed early");
    }
    pause_the_daemon(&world);
    world.finish();
}

/// As a client does that is interrupted, or a daemon that is killed, between its request and the answer.
fn give_connections_up(socket: &Path) {
    for request in [&b""[..], b"CONN", b"CONNECT 1024\n", b"CONNECT 1024\n", b"CONNECT 7\n"] {
        for number in 0..GIVEN_UP {
            let mut stream = UnixStream::connect(socket).expect("the device listens");
            stream.write_all(request).expect("it reads");
            // Before the device has read, while the guest is being asked, after it has answered.
            std::thread::sleep(Duration::from_millis(number as u64 % 5));
        }
    }
}

/// The data of both directions pile up while the daemon does not pass them on.
fn pause_the_daemon(world: &World) {
    let status = world.json(["daemon", "status", "--json"]);
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    let mut noise = vec![0; 4 << 20];
    getrandom::fill(&mut noise).expect("random bytes");
    for _ in 0..4 {
        let cat = world.command(["exec", "one", "--", "cat"]).stdin(noise.clone()).spawn();
        for _ in 0..4 {
            for (signal, milliseconds) in [(Signal::SIGSTOP, 250), (Signal::SIGCONT, 150)] {
                kill(Pid::from_raw(pid), signal).expect("the daemon runs");
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
        }
        let ran = cat.wait().success();
        assert!(ran.bytes == noise, "{} bytes came back, and not the same", ran.bytes.len());
    }
}
