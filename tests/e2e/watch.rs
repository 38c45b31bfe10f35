//! Waiting for what a test looks for: nothing tells of these events, so they are asked for again and
//! again, with a deadline.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{BOOT, World, wait_until};

/// Waits until `ask` has an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let Ok(found) = wait_until(deadline, || ask().ok_or(())) else {
        panic!("not within {deadline:?}: {what}");
    };
    found
}

/// Waits until there is a VM of this name in this state.
#[track_caller]
pub(crate) fn state(world: &World, name: &str, state: &str) -> Value {
    until(&format!("`{name}` is {state}"), BOOT, || {
        let list = world.json(["list", "--json"]);
        let mut vms = list.as_array().expect("a list").iter();
        vms.find(|vm| vm["name"] == name && vm["state"] == state).cloned()
    })
}

/// Waits until there is no VM.
#[track_caller]
pub(crate) fn empty(world: &World, deadline: Duration) {
    until("there is no VM", deadline, || {
        world.json(["list", "--json"]).as_array().expect("a list").is_empty().then_some(())
    });
}

/// The process id of a VM's monitor.
#[track_caller]
pub(crate) fn monitor(world: &World, vm: &Value) -> i32 {
    let name = format!("-name cove-{}", id(vm));
    until("its monitor runs", BOOT, || {
        let found = world.processes(&[id(vm)]).into_iter();
        found.filter(|found| found.arguments.contains(&name)).map(|found| found.pid).next()
    })
}

/// Asserts that no process of a VM is there.
#[track_caller]
pub(crate) fn nothing_runs(world: &World, vm: &Value) {
    let left = world.processes(&[id(vm)]);
    assert!(left.iter().all(|found| found.is_daemon()), "{left:?}");
}

/// A VM's id.
pub(crate) fn id(vm: &Value) -> String {
    vm["id"].as_str().expect("an id").to_owned()
}

/// Kills a process of the test's.
pub(crate) fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
}

/// Kills the daemon, and returns its process id.
pub(crate) fn kill_daemon(world: &World) -> i32 {
    let status = world.json(["daemon", "status", "--json"]);
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    end(pid);
    gone(pid);
    pid
}

/// Waits until a process is gone.
#[track_caller]
pub(crate) fn gone(pid: i32) {
    until("the process is gone", Duration::from_secs(10), || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie waits for its parent only.
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}
