//! What is done to VMs that are there: restarts, signals, changes, looking, stopping by themselves.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Who, World, as_everybody};
use crate::watch::{self, until};

/// The size of a guest's home in MiB, as the guest sees it.
fn home_mib(world: &World, vm: &str) -> u64 {
    let blocks = world.guest(vm, "stat -f -c '%b %S' /root");
    let (count, size) = blocks.trim().split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    (number(count) * number(size)) >> 20
}

fn show(world: &World, vm: &str) -> Value {
    world.json(["show", vm, "--json"])
}

as_everybody!(a_vm_is_restarted_changed_looked_at_and_signalled);

fn a_vm_is_restarted_changed_looked_at_and_signalled(who: Who) {
    let world = World::new(who);
    world.json(["run", "-d", "--json", "--name", "web", "--disk", "256M"]);
    world.guest("web", "echo kept > kept && echo kept > /var/kept");
    let first = show(&world, "web");

    // Changes: the disk at once, the processors after a restart.
    assert!(home_mib(&world, "web") < 256);
    let set = ["set", "web", "--disk", "1G", "--vcpu", "2", "--label", "for=test", "--json"];
    let changes = world.json(set);
    let holds: Vec<_> = changes["changes"].as_array().expect("a list").iter().collect();
    assert_eq!(holds.len(), 3, "{changes}");
    assert_eq!(
        (&holds[0]["setting"], &holds[0]["holds"]),
        (&"vcpu".into(), &"after_restart".into())
    );
    assert_eq!((&holds[1]["setting"], &holds[1]["holds"]), (&"disk".into(), &"now".into()));
    let grown = home_mib(&world, "web");
    assert!((900..1024).contains(&grown), "{grown}");
    assert_eq!(world.guest("web", "nproc"), "1\n");
    world.cove(["set", "web", "--disk", "512M"]).status(2).says("cannot shrink").says("only grows");
    world.cove(["set", "web", "--memory", "1T"]).status(2).says("do not exist");
    world.cove(["set", "web", "--vcpu", "1000"]).status(2).says("1 to 64");
    world.cove(["set", "web"]).status(2).says("what is to change");
    assert_eq!(show(&world, "web")["restart_needed"], serde_json::json!(["vcpu"]));

    // A restart: another boot of the same machine.
    world.cove(["restart", "web"]).success().prints("web\n");
    let second = show(&world, "web");
    assert_ne!(first["boot_id"], second["boot_id"]);
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(second["restart_needed"], Value::Null);
    assert_eq!(world.guest("web", "cat kept /var/kept; nproc"), "kept\nkept\n2\n");
    assert_eq!(home_mib(&world, "web"), grown);

    looked_at(&world);
    signalled(&world, grown);
    world.cove(["stop", "web"]).success();
    world.finish();
}

/// What `stats`, `ports` and `console` tell.
fn looked_at(world: &World) {
    let stats = world.json(["stats", "web", "--json"]);
    let stats = &stats[0];
    assert!(stats["host"]["cpu_ms"].as_u64().is_some_and(|ms| ms > 100), "{stats}");
    assert!(stats["host"]["resident_bytes"].as_u64().is_some_and(|bytes| bytes > 64 << 20));
    assert!(stats["host"]["proportional_bytes"].as_u64().is_some_and(|bytes| bytes > 32 << 20));
    assert!(stats["host"]["work_disk_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
    let memory = stats["guest"]["memory_bytes"].as_u64().expect("a size");
    assert!((128 << 20..256 << 20).contains(&memory), "{stats}");
    assert!(stats["guest"]["load_1m"].is_number() && stats["guest"]["work_disk"]["bytes"].is_u64());
    world.cove(["stats"]).success().stdout.contains("web").then_some(()).expect("it is listed");
    let watched = world.command(["stats", "--watch", "--json"]).spawn();
    std::thread::sleep(Duration::from_secs(4));
    watched.signal(Signal::SIGINT);
    let watched = watched.wait();
    let told: Vec<Value> =
        watched.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(told.len() >= 2, "{}", watched.told());
    let cpu = |told: &Value| told["host"]["cpu_ms"].as_u64().expect("a number");
    assert!(cpu(&told[0]) <= cpu(&told[1]));

    // A listener that calls itself something that would clear a terminal.
    let listen = "use IO::Socket::INET; $0 = qq(\\x1b[2Jme); \
                  my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 8080) or die; sleep 1000";
    world.guest("web", &format!("setsid perl -e '{listen}' </dev/null >/dev/null 2>&1 &"));
    let socket = until("it listens", Duration::from_secs(30), || {
        let ports = world.json(["ports", "web", "--json"]);
        let sockets = ports["sockets"].as_array().expect("a list").clone();
        sockets.into_iter().find(|socket| socket["port"] == 8080)
    });
    assert_eq!((&socket["protocol"], &socket["address"]), (&"tcp".into(), &"0.0.0.0".into()));
    let shown = world.cove(["ports", "web"]).success();
    assert!(shown.stdout.contains("\\u{1b}[2Jme"), "{}", shown.told());
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.told());
}

fn signalled(world: &World, home: u64) {
    let console = world.command(["console", "web"]).spawn();
    world.guest("web", "echo 'seen on the \u{1b}[2Jconsole' > /dev/ttyS0");
    world.cove(["kill", "web", "--signal", "FOO"]).status(2).says("there is no signal `FOO`");
    world.cove(["kill", "web", "--signal", "USR1"]).status(2).says("means nothing to a machine");
    world.cove(["kill", "web", "--signal", "STOP"]).success();
    let pid = show(world, "web")["pid"].to_string();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state().contains(") T "), "{}", state());
    world.cove(["kill", "web", "--signal", "CONT"]).success();
    world.guest("web", "sync");
    // Time for the console to be asked for the last time while the machine runs.
    until("it goes on", Duration::from_secs(10), || (!state().contains(") T ")).then_some(()));
    world.cove(["kill", "web", "--signal", "TERM"]).success();
    let ended = show(world, "web");
    assert_eq!((&ended["state"], &ended["cause"]), (&"stopped".into(), &Value::Null));
    let console = console.wait().success();
    assert!(console.stdout.contains("seen on the \\u{1b}[2Jconsole"), "{}", console.told());
    world.cove(["console", "web"]).status(4).says("`cove logs web`");
    world.cove(["kill", "web", "--signal", "STOP"]).status(4).says("not running");
    world.cove(["ports", "web"]).status(4);

    // A disk that grows while nothing runs grows inside at the next start.
    world.cove(["set", "web", "--disk", "2G"]).success().prints("disk: 2G\n");
    world.cove(["start", "web"]).success();
    assert!(home_mib(world, "web") > home + 900);
    assert_eq!(world.guest("web", "cat kept"), "kept\n");
}

as_everybody!(idle_vms_stop_by_themselves_and_prune_spares_what_runs);

fn idle_vms_stop_by_themselves_and_prune_spares_what_runs(who: Who) {
    let world = World::new(who);
    world.start("idle", &[]);
    world.cove(["set", "idle", "--auto-stop-after", "soon"]).status(2);
    let set = world.cove(["set", "idle", "--auto-stop-after", "6s"]).success();
    assert_eq!(set.stdout, "auto-stop: after 6s without use\n");
    // A command that runs for longer is use until its end.
    world.cove(["exec", "idle", "--", "sleep", "9"]).success();
    assert_eq!(show(&world, "idle")["state"], "running");
    left_running(&world);
    let stopped = watch::state(&world, "idle", "stopped");
    let cause = stopped["cause"].as_str().expect("a cause");
    assert!(cause.contains("nobody used it for 6 s"), "{stopped}");

    // The time goes on over a daemon's death.
    world.cove(["start", "idle"]).success();
    let boot = show(&world, "idle")["boot_id"].clone();
    watch::kill_daemon(&world);
    assert_eq!(show(&world, "idle")["boot_id"], boot);
    let stopped = watch::state(&world, "idle", "stopped");
    assert!(stopped["cause"].as_str().is_some_and(|cause| cause.contains("nobody")), "{stopped}");

    world.cove(["create", "--name", "fresh"]).success();
    world.start("busy", &[]);
    // What it is made with, and some more.
    world.cove(["set", "busy", "--disk", "20G"]).success().prints("disk: 20G\n");
    assert!(home_mib(&world, "busy") > 19 << 10);
    world.cove(["prune"]).status(2).says("no terminal").says("--force");
    assert_eq!(world.vm_folders().len(), 3, "nothing is deleted unasked");
    let pruned = world.cove(["prune", "-f"]).success();
    let mut names: Vec<_> = pruned.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["fresh", "idle"]);
    assert_eq!(show(&world, "busy")["state"], "running");
    assert_eq!(world.json(["prune", "-f", "--json"]), serde_json::json!([]));

    // Of several, those that exist are served.
    let before = show(&world, "busy")["boot_id"].clone();
    world.cove(["touch", "busy", "none"]).status(3).prints("busy\n").says("`none`");
    world.cove(["restart", "none", "busy"]).status(3).prints("busy\n").says("`none`");
    assert_ne!(show(&world, "busy")["boot_id"], before);
    world.cove(["stop", "busy"]).success();
    world.finish();
}

/// A command that is left running outlives the daemon, and is use until its end, although nobody is there.
fn left_running(world: &World) {
    world.cove(["exec", "-d", "idle", "--", "no-such-program"]).status(127).says("no such program");
    let script = "echo early; echo wrong >&2; sleep 12; echo late; exit 7";
    let started = world.cove(["exec", "-d", "idle", "--", "sh", "-c", script]).success();
    let id = started.stdout.trim_end();
    watch::kill_daemon(world);
    let listed = world.json(["exec", "list", "idle", "--json"]);
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&id.into(), &"running".into()));
    // Longer than it may be idle.
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(show(world, "idle")["state"], "running");
    // To its end, and after it.
    for _ in 0..2 {
        let attached = world.cove(["exec", "attach", "idle", id]).status(7).says("wrong");
        assert_eq!(attached.stdout, "early\nlate\n");
    }
    world.cove(["exec", "attach", "idle", "ffffff"]).status(125).says("no detached command");
    let listed = world.json(["exec", "list", "idle", "--json"]);
    assert_eq!(listed[0]["state"], serde_json::json!({ "exited": 7 }));
}
