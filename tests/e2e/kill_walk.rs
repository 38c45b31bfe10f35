//! A daemon that is killed in the middle of what it does to real guests: the next one finds all of
//! a VM or nothing, and no process, socket, file or row too many.

use std::time::Duration;

use cove::report::Report;
use cove::rpc::client::Client;
use cove::wire::rpc::{
    CreateVm, CreateWorkspace, NetMode, OpSubscription, Operation, OperationRef, VmCreate,
    VmRestart, VmStart, VmWait,
};
use serde_json::Value;

use crate::harness::{BOOT, Repository, Who, World, skipped};
use crate::internet::{Internet, unavailable};
use crate::watch;

/// The stages of every start. Some come and go between two events, and are met on the way.
/// `tests/tidy.rs` looks that no stage is missing in this file that an operation can have.
const START: [&str; 8] =
    ["preflight", "configure", "hooks", "accelerator", "monitor", "boot", "setup", "post-start"];

/// Those of a create besides: what is made, and the repository's way in.
const CREATE: [&str; 3] = ["disks", "pack", "workspace"];

/// That of machines with a network.
const NETWORK: &str = "network";

/// Those of a restart at which it is neither what it was nor what it will be.
const RESTART: [&str; 2] = ["stop", "monitor"];

/// How long after its request a delete is cut short, in microseconds: before it, in it, after it.
const INTO_DELETE: [u64; 6] = [0, 300, 1_000, 3_000, 10_000, 30_000];

// As the caller only: who runs it makes no difference to what a killed daemon leaves, and the client here
// is this process, which another user's daemon refuses.
#[test]
fn item_05_a_daemon_killed_at_any_stage_leaves_all_or_nothing() {
    let mut world = World::new(Who::Caller);
    let internet = internet(&mut world);
    let repository = world.repo();
    let network = internet.as_ref().map(|_| NETWORK);
    let mut points = 0;
    for stage in CREATE.into_iter().chain(START).chain(network) {
        killed_in_create(&world, &repository, stage, network.is_some());
        points += 1;
    }
    let net = if network.is_some() { "user" } else { "none" };
    world.start("kept", &[repository.arg(), "--net", net]);
    world.guest("kept", "echo work > work.txt; echo root > /etc/kept; sync");
    points += killed_while_running(&world);
    points += killed_in_stop(&world);
    for stage in START.into_iter().chain(network) {
        killed_in_start(&world, stage);
        points += 1;
    }
    for stage in RESTART {
        killed_in_restart(&world, stage);
        points += 1;
    }
    world.cove(["start", "kept"]).success();
    assert_eq!(
        world.guest("kept", "cat work.txt /etc/kept; git status --short"),
        "work\nroot\n M README.md\n?? work.txt\n"
    );
    for delay in INTO_DELETE {
        killed_in_delete(&world, Duration::from_micros(delay));
        points += 1;
    }
    points += killed_in_delete_of_what_runs(&world);
    show(points);
    repository.is_as_it_was_made();
    world.finish();
}

/// The small internet in which the world's daemons run, if there can be one: then its VMs have networks.
fn internet(world: &mut World) -> Option<Internet> {
    if let Some(reason) = unavailable() {
        skipped(&format!("no daemon is killed at the stage `{NETWORK}`: {reason}"));
        return None;
    }
    let internet = Internet::new();
    world.prefix = internet.prefix();
    Some(internet)
}

#[expect(clippy::print_stderr, reason = "tests report to people")]
fn show(points: usize) {
    eprintln!("the daemon was killed at {points} points");
}

/// A VM whose maker never heard of it is gone, or whole when it was ready before the kill.
fn killed_in_create(world: &World, repository: &Repository, stage: &str, networked: bool) {
    let workspace =
        CreateWorkspace { path: repository.arg().to_owned(), ..CreateWorkspace::default() };
    let create = CreateVm {
        name: Some("made".to_owned()),
        workspace: Some(workspace),
        net: networked.then_some(NetMode::User),
        ..CreateVm::default()
    };
    let seen = killed(world, stage, async |client| client.call::<VmCreate>(create).await);
    let list = world.json(["list", "--json"]);
    match list.as_array().expect("a list").as_slice() {
        [] => nothing_is_left(world, &seen.vm.to_string()),
        [vm] => {
            assert_eq!(vm["state"], "running", "{stage}: {vm}");
            assert_eq!(
                world.guest("made", "git log -1 --format=%s"),
                format!("{}\n", repository.subject())
            );
            world.cove(["delete", "made"]).success();
            nothing_is_left(world, &watch::id(vm));
        }
        several => panic!("{stage}: {several:?}"),
    }
}

/// A VM that was at rest is at rest again, or runs when it was ready before the kill.
fn killed_in_start(world: &World, stage: &str) {
    let wait = VmWait { vm: "kept".to_owned(), wait: false, client: Default::default() };
    killed(world, stage, async |client| client.call::<VmStart>(wait).await);
    let vm = world.json(["show", "kept", "--json"]);
    match vm["state"].as_str() {
        Some("stopped") => at_rest(world, &vm),
        Some("running") => {
            world.cove(["stop", "kept"]).success();
        }
        other => panic!("{stage}: {other:?}"),
    }
}

/// A VM that was running has been stopped; or it runs: as before when that had not begun before the kill, or
/// again when it was done.
fn killed_in_restart(world: &World, stage: &str) {
    world.cove(["start", "kept"]).success();
    let before = world.json(["show", "kept", "--json"]);
    let wait = VmWait { vm: "kept".to_owned(), wait: false, client: Default::default() };
    killed(world, stage, async |client| client.call::<VmRestart>(wait).await);
    let vm = world.json(["show", "kept", "--json"]);
    match vm["state"].as_str() {
        Some("stopped") => at_rest(world, &vm),
        Some("running") => {
            let (boot, process) = (vm["boot_id"] == before["boot_id"], vm["pid"] == before["pid"]);
            assert_eq!(boot, process, "{stage}: {vm}");
            world.cove(["stop", "kept"]).success();
        }
        other => panic!("{stage}: {other:?}"),
    }
}

/// A running VM does not notice.
fn killed_while_running(world: &World) -> usize {
    let before = world.json(["show", "kept", "--json"]);
    let monitor = watch::monitor(world, &before);
    watch::kill_daemon(world);
    let after = world.json(["show", "kept", "--json"]);
    assert_eq!(after["boot_id"], before["boot_id"]);
    assert_eq!(
        (after["state"].as_str(), watch::monitor(world, &after)),
        (Some("running"), monitor)
    );
    assert_eq!(world.guest("kept", "cat work.txt"), "work\n");
    1
}

/// What was to be stopped is stopped.
fn killed_in_stop(world: &World) -> usize {
    let stop = world.command(["stop", "kept"]).spawn();
    watch::state(world, "kept", "stopping");
    watch::kill_daemon(world);
    stop.wait();
    let vm = world.json(["show", "kept", "--json"]);
    assert_eq!(vm["state"], "stopped", "{vm}");
    at_rest(world, &vm);
    1
}

/// A VM is there as it was, or nothing of it is.
fn killed_in_delete(world: &World, delay: Duration) {
    world.cove(["create", "--name", "doomed"]).success();
    let vm = world.json(["show", "doomed", "--json"]);
    let pid = daemon(world);
    let delete = world.command(["delete", "--discard-work", "doomed"]).spawn();
    std::thread::sleep(delay);
    watch::end(pid);
    delete.wait();
    let list = world.json(["list", "--json"]);
    let left = list.as_array().expect("a list").iter().find(|vm| vm["name"] == "doomed");
    match left {
        Some(left) => {
            assert_eq!(left["state"], "created", "{delay:?}: {left}");
            world.check_disks(left);
            world.cove(["delete", "--discard-work", "doomed"]).success();
        }
        None => assert!(!world.vm_folder(&vm).exists(), "{delay:?}: its folder is left"),
    }
    assert_eq!(world.vm_folders().len(), 1, "{delay:?}");
    assert!(world.resources(&watch::id(&vm)).is_empty(), "{delay:?}");
}

/// A VM that was to be deleted is deleted, with all that runs of it.
fn killed_in_delete_of_what_runs(world: &World) -> usize {
    let vm = world.json(["show", "kept", "--json"]);
    let pid = daemon(world);
    let delete = world.command(["delete", "--discard-work", "kept"]).spawn();
    watch::until("it is being deleted, or gone", BOOT, || {
        world.row(&watch::id(&vm)).is_none_or(|state| state.contains("deleting")).then_some(())
    });
    watch::end(pid);
    delete.wait();
    nothing_is_left(world, &watch::id(&vm));
    1
}

/// No process, folder or row of a VM is there.
fn nothing_is_left(world: &World, vm: &str) {
    world.assert_no_vm(&[vm.to_owned()]);
    assert_eq!((world.row(vm), world.resources(vm)), (None, Vec::new()));
}

/// Nothing runs of a VM at rest.
fn at_rest(world: &World, vm: &Value) {
    // A program that the killed daemon had asked for something ends by itself.
    world.wait_for_no(|found| !found.is_daemon(), &[watch::id(vm)]);
    assert_eq!(world.vm_folders(), [watch::id(vm)]);
    let sockets = ["qmp.sock", "vsock.sock", "console.sock", "network.sock"];
    let there = |name: &&str| world.vm_folder(vm).join(name).exists();
    assert_eq!(sockets.into_iter().filter(there).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(world.resources(&watch::id(vm)), ["folder"], "of all it had, its disks are left");
}

fn daemon(world: &World) -> i32 {
    let status = world.json(["daemon", "status", "--json"]);
    status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid")
}

/// Begins an operation and kills the daemon as soon as it tells of the stage. Returns what was seen last.
pub(crate) fn killed(
    world: &World,
    stage: &str,
    begin: impl AsyncFnOnce(&Client) -> Result<Operation, Report>,
) -> Operation {
    killed_after(world, stage, Duration::ZERO, begin)
}

/// The same, so long after it has told of the stage.
pub(crate) fn killed_after(
    world: &World,
    stage: &str,
    delay: Duration,
    begin: impl AsyncFnOnce(&Client) -> Result<Operation, Report>,
) -> Operation {
    world.cove(["daemon", "start"]).success();
    let pid = daemon(world);
    let socket = world.home.join("run/coved.sock");
    let watched = async {
        let client = Client::connect(&socket).await.expect("the daemon listens");
        let mut seen = begin(&client).await.expect("an operation");
        let reference = OperationRef { operation: seen.id.clone() };
        let mut events = client.subscribe::<OpSubscription>(reference).await.expect("subscribed");
        while seen.end.is_none() && seen.stages.iter().all(|known| known.name != stage) {
            seen = events.next().await.expect("an event").expect("understood");
        }
        std::thread::sleep(delay);
        watch::end(pid);
        seen
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let seen = runtime.enable_all().build().expect("a runtime").block_on(watched);
    let reached = seen.stages.iter().any(|known| known.name == stage);
    assert!(reached, "the operation has the stage `{stage}`: {seen:?}");
    seen
}
