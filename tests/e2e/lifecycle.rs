//! What happens to VMs when something ends that should not, or at the wrong moment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{World, tool};
use crate::watch::{self, until};

/// How often a monitor shows no life.
enum Still {
    /// At its first start.
    Once,
    /// Always.
    Always,
}

/// A monitor whose guest stands still: QEMU itself, with a firmware that is one endless loop.
fn still_monitor(folder: &Path, still: &Still) -> String {
    let [program, mark, firmware] =
        ["monitor", "mark", "firmware"].map(|name| folder.join(name).display().to_string());
    let mut loops = vec![0; 64 * 1024];
    // `jmp $`, where the processor begins.
    loops[0xfff0..0xfff2].copy_from_slice(&[0xeb, 0xfe]);
    fs::write(&firmware, loops).expect("written");
    fs::write(&mark, "").expect("written");
    let take = match still {
        Still::Once => format!("rm {mark}; "),
        Still::Always => String::new(),
    };
    let script = format!(
        "#!/bin/sh\nif [ -e {mark} ] && [ \"$1\" != --version ]; then {take}\
         set -- \"$@\" -bios {firmware}; fi\nexec qemu-system-x86_64 \"$@\"\n"
    );
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    program
}

#[test]
fn a_vm_outlives_its_client_its_daemon_and_its_monitor() {
    let world = World::new();
    world.configure("[monitor]\nstop_seconds = 3\n");
    let client = world.command(["run", "-d", "--name", "long"]).spawn();
    let vm = watch::state(&world, "long", "starting");
    client.signal(Signal::SIGKILL);
    drop(client);
    let running = watch::state(&world, "long", "running");
    let monitor = watch::monitor(&world, &vm);
    world.guest("long", "echo kept > kept && echo kept > /var/kept && sync");

    let first = watch::kill_daemon(&world);
    let shown = world.json(["show", "long", "--json"]);
    assert_ne!(world.json(["daemon", "status", "--json"])["pid"], first, "another daemon");
    assert_eq!(shown["boot_id"], running["boot_id"]);
    assert!(shown["boot_id"].is_string() && shown["state"] == "running", "{shown}");
    assert_eq!(watch::monitor(&world, &vm), monitor);
    world.cove(["exec", "long", "--", "cat", "kept"]).success().prints("kept\n");
    second_daemon_says_who_holds_the_home(&world);

    watch::end(monitor);
    let stopped = watch::state(&world, "long", "stopped");
    assert!(stopped["cause"].as_str().expect("a cause").contains("monitor"), "{stopped}");
    world.cove(["exec", "long", "--", "true"]).status(125);
    world.cove(["start", "long"]).success();
    world.cove(["exec", "long", "--", "cat", "kept", "/var/kept"]).success().prints("kept\nkept\n");
    stop_of_a_deaf_guest_ends(&world, &vm);
    world.cove(["delete", "long"]).success();
    world.finish();
}

fn second_daemon_says_who_holds_the_home(world: &World) {
    let pid = world.json(["daemon", "status", "--json"])["pid"].to_string();
    let coved = world.program.with_file_name("coved");
    let [home, cache, user] = [&world.home, &world.cache, &world.user_home]
        .map(|path| path.to_str().expect("UTF-8").to_owned());
    let variables = [("COVE_HOME", &*home), ("COVE_CACHE", &*cache), ("HOME", &*user)];
    let refused = tool(coved.to_str().expect("UTF-8"), &[], &variables).status(4);
    refused.says("another daemon").says(&pid).says(&home);
}

fn stop_of_a_deaf_guest_ends(world: &World, vm: &Value) {
    let monitor = nix::unistd::Pid::from_raw(watch::monitor(world, vm));
    nix::sys::signal::kill(monitor, Signal::SIGSTOP).expect("it runs");
    let begun = Instant::now();
    world.cove(["stop", "long"]).success();
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
    assert_eq!(world.json(["show", "long", "--json"])["state"], "stopped");
}

#[test]
fn a_start_that_is_given_up_leaves_nothing() {
    let world = World::new();
    let started = |name: &str| {
        let client = world.command(["run", "-d", "--name", name]).spawn();
        (client, watch::state(&world, name, "starting"))
    };
    let (client, vm) = started("interrupted");
    client.signal(Signal::SIGINT);
    client.wait().status(130);
    world.assert_no_vm(&[watch::id(&vm)]);

    let (client, vm) = started("deleted");
    world.cove(["delete", "deleted"]).success();
    client.wait().status(125).says("deleted");
    world.assert_no_vm(&[watch::id(&vm)]);

    let (client, vm) = started("killed");
    world.cove(["kill", "killed"]);
    client.wait().status(125).says("killed");
    world.assert_no_vm(&[watch::id(&vm)]);

    // At some moment of the start, once before and once after the monitor is there.
    for wait in [false, true] {
        let (client, vm) = started("orphan");
        if wait {
            watch::monitor(&world, &vm);
        }
        watch::kill_daemon(&world);
        client.wait().status(125);
        world.assert_no_vm(&[watch::id(&vm)]);
    }
    world.finish();
}

#[test]
fn a_vm_with_a_lease_goes_with_its_client() {
    let world = World::new();
    let client = world.command(["run", "--rm", "--name", "leased", "--", "sleep", "1000"]).spawn();
    let vm = watch::state(&world, "leased", "running");
    client.signal(Signal::SIGKILL);
    drop(client);
    watch::empty(&world, Duration::from_secs(15));
    world.assert_no_vm(&[watch::id(&vm)]);

    let client = world.command(["run", "--rm", "--name", "stopped", "--", "sleep", "1000"]).spawn();
    let vm = watch::state(&world, "stopped", "running");
    until("the program runs", Duration::from_secs(30), || {
        let seen = world.cove(["exec", "stopped", "--", "sh", "-c", "cat /proc/*/cmdline"]);
        seen.stdout.contains("sleep\u{0}1000").then_some(())
    });
    client.signal(Signal::SIGINT);
    client.wait().status(130);
    world.assert_no_vm(&[watch::id(&vm)]);
    world.finish();
}

#[test]
fn of_two_vms_with_one_name_one_is_made() {
    let world = World::new();
    world.cove(["daemon", "start"]).success();
    let both = [(), ()].map(|()| world.command(["create", "--name", "same"]).spawn());
    let mut ended = both.map(|client| client.wait());
    ended.sort_by_key(|ran| ran.status);
    let [made, refused] = ended;
    made.success().prints("same\n");
    refused.status(4).says("`same`");
    assert_eq!(world.json(["list", "--json"]).as_array().map(Vec::len), Some(1));
    assert_eq!(world.vm_folders().len(), 1);
    world.finish();
}

#[test]
fn a_boot_without_life_is_tried_once_more_and_says_so() {
    let world = World::new();
    let monitor = still_monitor(world.folder(), &Still::Once);
    world.configure(&format!(
        "[monitor]\nqemu = \"{monitor}\"\naccel = \"tcg\"\nlife_seconds = 15\n"
    ));
    let ran = world.cove(["run", "--rm", "--name", "late", "--", "echo", "alive"]);
    ran.success().prints("alive\n").says("no sign of life for 15 s and is started once more");
    world.assert_no_vm(&[]);
    world.finish();
}

#[test]
fn a_guest_that_never_comes_up_is_kept_or_its_console_is_saved() {
    let world = World::new();
    let monitor = still_monitor(world.folder(), &Still::Always);
    world.configure(&format!(
        "[monitor]\nqemu = \"{monitor}\"\naccel = \"tcg\"\nlife_seconds = 1\n"
    ));
    let ran = world.cove(["run", "--name", "never", "--", "true"]).status(125);
    ran.says("started once more").says("`cove logs never`");
    let vm = world.json(["show", "never", "--json"]);
    assert_eq!(vm["state"], "error");
    assert!(vm["cause"].as_str().expect("a cause").contains("no sign of life"), "{vm}");
    world.cove(["logs", "never"]).success();
    let left = world.processes(&[watch::id(&vm)]);
    assert!(left.iter().all(|found| found.is_daemon()), "its processes are gone: {left:?}");
    world.cove(["delete", "never"]).success();

    let ran = world.cove(["run", "--rm", "--name", "gone", "--", "true"]).status(125);
    let saved = fs::read_dir(world.home.join("consoles")).expect("a folder");
    let saved: Vec<_> = saved.map(|entry| entry.expect("read").path()).collect();
    let [path] = &saved[..] else { panic!("one console is saved: {saved:?}") };
    ran.says(path.to_str().expect("UTF-8"));
    world.assert_no_vm(&[]);
    world.finish();
}
