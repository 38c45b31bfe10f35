//! The way to a guest under bad conditions: a daemon that pauses, connections that are given up.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Who, World, as_everybody, skipped};

/// How often a connection is given up at every stage.
const GIVEN_UP: usize = 25;

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
