//! Ten VMs at once.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Who, World, as_everybody};
use crate::watch;

const VMS: usize = 10;

/// The daemon's memory with ten VMs, in KiB. The goal of 60 MiB is for the release build; the build of
/// the tests is larger.
const RESIDENT_KIB: u64 = 120 * 1024;

as_everybody!(ten_vms_start_answer_and_go_together);

fn ten_vms_start_answer_and_go_together(who: Who) {
    let world = World::new(who);
    // Ten boots share the processors of one.
    world.configure("[monitor]\nlife_seconds = 120\n");
    world.cove(["daemon", "start"]).success();
    let names: Vec<String> = (0..VMS).map(|number| format!("crowd-{number}")).collect();
    let clients: Vec<_> =
        names.iter().map(|name| world.command(["run", "-d", "--name", name]).spawn()).collect();
    watch::until("all are starting at the same time", Duration::from_secs(120), || {
        let list = world.json(["list", "--json"]);
        let vms = list.as_array().expect("a list");
        let starting = vms.iter().filter(|vm| vm["state"] == "starting").count();
        (starting == VMS).then_some(())
    });
    for client in clients {
        client.wait().success();
    }
    let list = world.json(["list", "--json"]);
    let vms: Vec<Value> = list.as_array().expect("a list").clone();
    assert_eq!(vms.len(), VMS);
    assert!(vms.iter().all(|vm| vm["state"] == "running" && vm["memory_mib"] == 256), "{list}");

    let answers: Vec<_> =
        names.iter().map(|name| world.command(["exec", name, "--", "hostname"]).spawn()).collect();
    for (name, answer) in names.iter().zip(answers) {
        answer.wait().success().prints(&format!("{name}\n"));
    }
    let status = world.json(["daemon", "status", "--json"]);
    let resident = status["resident_kib"].as_u64().expect("a number");
    assert!(resident < RESIDENT_KIB, "{status}");

    let ids: Vec<String> = vms.iter().map(watch::id).collect();
    let deletes: Vec<_> =
        names.iter().map(|name| world.command(["delete", name]).spawn()).collect();
    for delete in deletes {
        delete.wait().success();
    }
    world.assert_no_vm(&ids);
    world.finish();
}
