//! Processes that are not ours, under pids that rows of ours still name.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::harness::{Who, World, as_everybody};

/// The kinds of processes that rows stand for.
const KINDS: [&str; 4] = ["network_keeper", "uplink", "vsock_device", "monitor"];

/// A start time that no living process has.
const LONG_AGO: i64 = 1;

as_everybody!(item_06_a_stale_row_never_has_somebody_elses_process_signalled);

fn item_06_a_stale_row_never_has_somebody_elses_process_signalled(who: Who) {
    let world = World::new(who);
    world.cove(["create", "--name", "web"]).success();
    let vm = world.json(["show", "web", "--json"]);
    let id = vm["id"].as_str().expect("an id").to_owned();
    let mut foreign = Foreign::start(&id);
    // In the row of a VM that runs, in one that is being started, and in one that is at rest.
    for (state, expected) in [
        (running(foreign.pid()), "stopped"),
        (json!({"state": "stopping", "boot": running(foreign.pid())["boot"]}), "stopped"),
        (
            json!({"state": "starting", "operation": "0123456789ab", "before": {"rest": "created"}}),
            "created",
        ),
        (json!({"state": "created"}), "created"),
    ] {
        for pid in [Some(foreign.pid()), None] {
            world.cove(["daemon", "stop"]).success();
            write(&world, &id, &state, pid);
            let shown = world.json(["show", "web", "--json"]);
            assert_eq!(shown["state"], expected, "{state}: {shown}");
            foreign.assert_alive();
            for command in
                [&["stop", "web"][..], &["kill", "web"], &["kill", "--signal", "TERM", "web"]]
            {
                world.cove(command).success();
                foreign.assert_alive();
            }
        }
    }
    world.cove(["daemon", "stop"]).success();
    write(&world, &id, &running(foreign.pid()), Some(foreign.pid()));
    world.cove(["delete", "web"]).success();
    foreign.assert_alive();
    foreign.end();
    world.finish();
}

/// The state of a VM whose monitor had this pid.
fn running(pid: i32) -> Value {
    json!({"state": "running", "boot": {
        "id": "0123456789abcdef", "key": "00".repeat(32), "accel": "tcg",
        "size": {"vcpu": 1, "memory_mib": 256, "disk_bytes": 1 << 30},
        "monitor": {"pid": pid, "start_ticks": LONG_AGO},
        "vsock": {"vsock": "context", "cid": 77}, "network": null,
    }})
}

/// Writes a state, and a row for a process of each kind: with this pid, or with none yet.
fn write(world: &World, vm: &str, state: &Value, pid: Option<i32>) {
    let database = Connection::open(world.home.join("cove.db")).expect("opens");
    let set = "UPDATE vm SET state = ?2 WHERE id = ?1";
    assert_eq!(database.execute(set, params![vm, state.to_string()]).expect("written"), 1);
    for kind in KINDS {
        let insert =
            "INSERT OR REPLACE INTO resource (vm, kind, pid, start_ticks) VALUES (?1, ?2, ?3, ?4)";
        let ticks = pid.map(|_| LONG_AGO);
        database.execute(insert, params![vm, kind, pid, ticks]).expect("written");
    }
}

/// A process of whoever runs the tests, which names the VM among its arguments as an editor might.
struct Foreign(Child);

impl Foreign {
    #[expect(clippy::disallowed_methods, reason = "a process that cove has nothing to do with")]
    fn start(vm: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", vm]).current_dir("/").env_clear();
        Self(command.stdin(Stdio::piped()).spawn().expect("starts"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// It has neither ended nor been stopped.
    #[track_caller]
    fn assert_alive(&mut self) {
        assert_eq!(self.0.try_wait().expect("known"), None, "it was ended");
        kill(Pid::from_raw(self.pid()), None).expect("it is there");
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it is there");
        assert!(stat.contains(") S "), "it waits as ever: {stat}");
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends by itself");
    }
}
