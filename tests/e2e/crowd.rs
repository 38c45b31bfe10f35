//! Twenty VMs at once.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Who, World, as_everybody};
use crate::watch;

const VMS: usize = 20;

/// How long twenty boots may take that share two processors, and others beside them.
const BOOTS: Duration = Duration::from_secs(480);

/// The daemon's memory with twenty VMs, in KiB. The goal of 60 MiB is for ten and the release build; the
/// build of the tests is larger.
const RESIDENT_KIB: u64 = 120 * 1024;

as_everybody!(twenty_vms_start_answer_stop_and_go_together);

fn twenty_vms_start_answer_stop_and_go_together(who: Who) {
    let world = World::new(who);
    // Twenty boots share the processors of one.
    world.configure("[monitor]\nlife_seconds = 300\nboot_seconds = 450\nstop_seconds = 120\n");
    world.cove(["daemon", "start"]).success();
    let names: Vec<String> = (0..VMS).map(|number| format!("crowd-{number}")).collect();
    together(&names, |name| world.command(["create", "--name", name, "--memory", "128M"]).spawn());

    // Neither the order of their making nor that of their ends.
    let order: Vec<&str> = (0..VMS).map(|number| names[number * 7 % VMS].as_str()).collect();
    let in_order = order.join("\n") + "\n";
    let all = |command| [&[command][..], &order].concat();
    let start = world.command(all("start")).deadline(BOOTS).spawn();
    watch::until("all are starting at the same time", Duration::from_secs(120), || {
        (count(&world, "starting") == VMS).then_some(())
    });
    start.wait().success().prints(&in_order);
    assert_eq!(count(&world, "running"), VMS);

    let answers = together(&names, |name| world.command(["exec", name, "--", "hostname"]).spawn());
    for (name, answer) in names.iter().zip(answers) {
        assert_eq!(answer, format!("{name}\n"));
    }
    let status = world.json(["daemon", "status", "--json"]);
    let resident = status["resident_kib"].as_u64().expect("a number");
    assert!(resident < RESIDENT_KIB, "{status}");

    let list = world.json(["list", "--json"]);
    let ids: Vec<String> = list.as_array().expect("a list").iter().map(watch::id).collect();
    let (rest, half) = (order.split_at(VMS / 2).1, order.split_at(VMS / 2).0);
    world.cove([&["stop"][..], half].concat()).success().prints(&(half.join("\n") + "\n"));
    assert_eq!((count(&world, "stopped"), count(&world, "running")), (half.len(), rest.len()));
    // At rest and running alike.
    world.cove(all("delete")).success().prints(&in_order);
    world.assert_no_vm(&ids);
    world.finish();
}

/// How many VMs are in a state.
fn count(world: &World, state: &str) -> usize {
    let list = world.json(["list", "--json"]);
    list.as_array().expect("a list").iter().filter(|vm: &&Value| vm["state"] == state).count()
}

/// Begins a command for every name, and returns what all have printed in the end.
fn together(names: &[String], begin: impl Fn(&str) -> crate::harness::Running) -> Vec<String> {
    let begun: Vec<_> = names.iter().map(|name| begin(name)).collect();
    begun.into_iter().map(|running| running.wait().success().stdout).collect()
}
