//! What happens to VMs when something ends that should not, or at the wrong moment.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{QUICK, Who, World, as_everybody};
use crate::still::{self, Still};
use crate::watch::{self, until};

as_everybody!(a_vm_outlives_its_client_its_daemon_and_its_monitor);

fn a_vm_outlives_its_client_its_daemon_and_its_monitor(who: Who) {
    let world = World::new(who);
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
    let refused = world.companion("coved", [""; 0]).deadline(QUICK).run().status(4);
    refused.says("another daemon").says(&pid).says(world.home.to_str().expect("UTF-8"));
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

as_everybody!(a_start_that_is_given_up_leaves_nothing);

fn a_start_that_is_given_up_leaves_nothing(who: Who) {
    let world = World::new(who);
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

as_everybody!(a_vm_with_a_lease_goes_with_its_client);

fn a_vm_with_a_lease_goes_with_its_client(who: Who) {
    let world = World::new(who);
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

as_everybody!(of_two_vms_with_one_name_one_is_made);

fn of_two_vms_with_one_name_one_is_made(who: Who) {
    let world = World::new(who);
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

as_everybody!(a_boot_without_life_is_tried_once_more_and_says_so);

fn a_boot_without_life_is_tried_once_more_and_says_so(who: Who) {
    let world = World::new(who);
    let monitor = still::monitor(world.folder(), &Still::Once);
    world.configure(&format!(
        "[monitor]\nqemu = \"{monitor}\"\naccel = \"tcg\"\nlife_seconds = 15\n"
    ));
    let ran = world.cove(["run", "--rm", "--name", "late", "--", "echo", "alive"]);
    ran.success().prints("alive\n").says("no sign of life for 15 s and is started once more");
    world.assert_no_vm(&[]);
    world.finish();
}

as_everybody!(a_guest_that_never_comes_up_is_kept_or_its_console_is_saved);

fn a_guest_that_never_comes_up_is_kept_or_its_console_is_saved(who: Who) {
    let world = World::new(who);
    let monitor = still::monitor(world.folder(), &Still::Always);
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
