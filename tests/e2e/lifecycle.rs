//! What happens to VMs when something ends that should not, or at the wrong moment.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{QUICK, Who, World, as_everybody};
use crate::still::{self, Still};
use crate::watch::{self, until};

as_everybody!(item_02_stop_of_a_guest_that_ignores_shutdown_ends_within_its_deadline);

fn item_02_stop_of_a_guest_that_ignores_shutdown_ends_within_its_deadline(who: Who) {
    let world = World::new(who);
    world.configure("[monitor]\nstop_seconds = 3\n");
    let vm = world.start("deaf", &[]);
    let init = "rm -f /sbin/init; printf '#!/bin/sh\\nwhile :; do sleep 1; done\\n' > /sbin/init; \
                chmod 755 /sbin/init; sync";
    world.guest("deaf", init);
    let stop = || {
        world.command(["stop", "deaf"]).deadline(QUICK).run().success().prints("deaf\n");
        assert_eq!(world.json(["show", "deaf", "--json"])["state"], "stopped");
        watch::nothing_runs(&world, &vm);
    };
    // Its processors stand still: it does not even hear.
    world.cove(["kill", "deaf", "--signal", "STOP"]).success();
    stop();
    assert!(world.log().contains("did not take a connection"), "it was asked first");
    // Its init is taken for one that can be asked to power off, and does nothing of the kind.
    world.cove(["start", "deaf"]).success();
    world.guest("deaf", "mkdir -p /run/systemd/system");
    stop();
    assert!(world.log().contains("did not power off in time"), "it was waited for");
    world.finish();
}

as_everybody!(item_03_a_vm_outlives_the_client_and_the_daemon_that_started_it);

fn item_03_a_vm_outlives_the_client_and_the_daemon_that_started_it(who: Who) {
    let world = World::new(who);
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

    // Its monitor it does not outlive, but what is on its disks does.
    watch::end(monitor);
    let stopped = watch::state(&world, "long", "stopped");
    assert!(stopped["cause"].as_str().expect("a cause").contains("monitor"), "{stopped}");
    world.cove(["exec", "long", "--", "true"]).status(125);
    world.cove(["start", "long"]).success();
    world.cove(["exec", "long", "--", "cat", "kept", "/var/kept"]).success().prints("kept\nkept\n");
    world.cove(["delete", "long"]).success();
    world.finish();
}

as_everybody!(commands_on_one_vm_are_carried_out_in_the_order_in_which_they_come);

fn commands_on_one_vm_are_carried_out_in_the_order_in_which_they_come(who: Who) {
    let world = World::new(who);
    world.cove(["create", "--name", "queue"]).success();
    let start = world.command(["start", "queue"]).spawn();
    let vm = watch::state(&world, "queue", "starting");
    // None of these cuts the start short; each finds what the one before has made.
    let stop = world.command(["stop", "queue"]).spawn();
    start.wait().success().prints("queue\n");
    stop.wait().success().prints("queue\n");
    assert_eq!(world.json(["show", "queue", "--json"])["state"], "stopped");
    let events = world.json(["events", "--json"]);
    let of_vm = events.as_array().expect("a list").iter().filter(|event| event["vm"] == vm["id"]);
    let states: Vec<_> = of_vm.filter_map(|event| event["state"].as_str()).collect();
    assert_eq!(states, ["starting", "running", "stopping", "stopped"], "{events}");
    world.finish();
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

as_everybody!(a_vm_that_hangs_in_its_start_can_be_killed_and_deleted_at_once);

fn a_vm_that_hangs_in_its_start_can_be_killed_and_deleted_at_once(who: Who) {
    let world = World::new(who);
    // Nothing but a kill or a delete ends these starts before the test is over.
    let monitor = still::monitor(world.folder(), &Still::Always);
    world.configure(&format!(
        "[monitor]\nqemu = \"{monitor}\"\naccel = \"tcg\"\nlife_seconds = 3000\n\
         boot_seconds = 3000\n"
    ));
    let at_once = |arguments: [&str; 2]| world.command(arguments).deadline(QUICK).run().success();
    let hanging = |client: [&str; 4], name: &str| {
        let client = world.command(client.iter().filter(|word| !word.is_empty())).spawn();
        let vm = watch::state(&world, name, "starting");
        watch::monitor(&world, &vm);
        (client, vm)
    };
    // One that is being made goes with its first start.
    for command in ["kill", "delete"] {
        let (client, vm) = hanging(["run", "-d", "--name", "new"], "new");
        let ran = world.command([command, "new"]).deadline(QUICK).run();
        assert!(ran.status == 0 || command == "kill", "{}", ran.told());
        client.wait().status(125).says("is being killed or deleted");
        world.assert_no_vm(&[watch::id(&vm)]);
    }
    // One that was there stays after a kill, and can be started and deleted.
    world.cove(["create", "--name", "old"]).success();
    let (client, vm) = hanging(["start", "old", "", ""], "old");
    at_once(["kill", "old"]);
    client.wait().status(130).says("is being killed or deleted");
    assert_ne!(world.json(["show", "old", "--json"])["state"], "starting");
    watch::nothing_runs(&world, &vm);
    let (client, vm) = hanging(["start", "old", "", ""], "old");
    at_once(["delete", "old"]);
    client.wait().status(130).says("is being killed or deleted");
    world.assert_no_vm(&[watch::id(&vm)]);
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

as_everybody!(item_09_of_two_creates_with_one_name_one_wins);

fn item_09_of_two_creates_with_one_name_one_wins(who: Who) {
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

as_everybody!(item_13_the_wait_for_a_guest_is_bounded_and_its_error_says_what_to_do);

fn item_13_the_wait_for_a_guest_is_bounded_and_its_error_says_what_to_do(who: Who) {
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
    watch::nothing_runs(&world, &vm);
    world.cove(["delete", "never"]).success();

    let ran = world.cove(["run", "--rm", "--name", "gone", "--", "true"]).status(125);
    let saved = fs::read_dir(world.home.join("consoles")).expect("a folder");
    let saved: Vec<_> = saved.map(|entry| entry.expect("read").path()).collect();
    let [path] = &saved[..] else { panic!("one console is saved: {saved:?}") };
    ran.says(path.to_str().expect("UTF-8"));
    world.assert_no_vm(&[]);
    world.finish();
}
