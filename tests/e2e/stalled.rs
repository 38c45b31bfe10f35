//! A guest that writes until the host's disk is full: it stands still, says so, and goes on where it was.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::files::now;
use crate::harness::{BOOT, SmallDisk, Who, World, as_everybody, skipped, tool};
use crate::watch::{self, until};

/// Room for all that the test makes.
const ROOM: u64 = 2 << 30;

/// Room that is less than the guest writes.
const TOO_LITTLE: u64 = 8 << 20;

/// What the guest writes: some 23 MB, of which every byte is known.
const WRITTEN: &str = "seq 1 3000000";

/// How long it stands still at least: later than this its clock would be noticed to be.
const LATE: Duration = Duration::from_secs(5);

const FULL: &str = "the host's disk is full";

as_everybody!(a_guest_that_fills_the_hosts_disk_stands_still_and_goes_on);

fn a_guest_that_fills_the_hosts_disk_stands_still_and_goes_on(who: Who) {
    if let Some(reason) = SmallDisk::unavailable() {
        return skipped(&reason);
    }
    let world = World::on_small_disk(who);
    world.configure("keep_free = \"0K\"\n");
    let disk = world.disk.as_ref().expect("a disk of its own");
    disk.leave(ROOM);
    let first = world.start("web", &["--disk", "1G"]);

    stall(&world, disk, "data");
    asked_while_it_stands_still(&world);
    let monitor = watch::monitor(&world, &first);
    watch::kill_daemon(&world);
    let shown = show(&world);
    assert_eq!((&shown["state"], &shown["stalled"]), (&"running".into(), &FULL.into()), "{shown}");
    assert_eq!((watch::monitor(&world, &first), &shown["boot_id"]), (monitor, &first["boot_id"]));
    world.cove(["start", "web"]).status(1).says(FULL).says("make room");
    assert_eq!(show(&world)["stalled"], FULL, "as it was");

    // So long that a clock which stands still with the guest is late.
    std::thread::sleep(LATE);
    disk.leave(ROOM);
    world.cove(["start", "web"]).success().prints("web\n");
    let (before, guest) = (now(), world.guest("web", "date +%s"));
    let guest: u64 = guest.trim().parse().expect("a number");
    assert!((before - 2..=now() + 1).contains(&guest), "{guest} is not {before}");
    let shown = show(&world);
    assert_eq!((&shown["stalled"], &shown["boot_id"]), (&Value::Null, &first["boot_id"]));
    world.cove(["start", "web"]).status(4).says("is running");
    whole(&world, "data");
    let events = world.cove(["events"]).success().stdout;
    assert!(events.contains("vm web goes on"), "{events}");

    // Without room it cannot power off, and whoever stops it hears what that costs.
    stall(&world, disk, "more");
    world.cove(["stop", "web"]).success().prints("web\n").says("what it had not written is lost");
    let stopped = show(&world);
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(stopped["cause"].as_str().is_some_and(|cause| cause.contains(FULL)), "{stopped}");
    disk.leave(ROOM);
    world.cove(["start", "web"]).success();
    whole(&world, "data");

    // With room again it powers off, and all of it is on the disk.
    stall(&world, disk, "last");
    disk.leave(ROOM);
    world.cove(["restart", "web"]).success();
    assert_eq!(show(&world)["stalled"], Value::Null);
    whole(&world, "data");
    let mut copier = Copier::start(&world);
    stall(&world, disk, "doomed");
    copier.say("said while it stood still\n");
    disk.leave(ROOM);
    world.cove(["start", "web"]).success();
    whole(&world, "doomed");
    copier.heard("said while it stood still\n");
    world.cove(["stop", "web"]).success();
    world.finish();
}

/// A program in the guest that says what it is told.
struct Copier {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Copier {
    fn start(world: &World) -> Self {
        let mut command =
            world.command(["exec", "web", "--", "sh", "-c", "echo ready; cat"]).into_command();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let mut says = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        says.read_line(&mut line).expect("it is read");
        assert_eq!(line, "ready\n");
        Self { child, says }
    }

    /// Tells it the last that it is told.
    fn say(&mut self, text: &str) {
        let mut input = self.child.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).expect("it is taken");
    }

    /// All that it says until it ends.
    fn heard(mut self, expected: &str) {
        let mut said = String::new();
        self.says.read_to_string(&mut said).expect("it is read");
        assert_eq!(said, expected);
        assert!(self.child.wait().expect("it ends").success());
    }
}

fn show(world: &World) -> Value {
    world.json(["show", "web", "--json"])
}

/// Has the guest write more than there is room for, and waits until it stands still.
fn stall(world: &World, disk: &SmallDisk, file: &str) {
    disk.leave(TOO_LITTLE);
    let write = format!("{WRITTEN} >{file} && sync && touch {file}.whole");
    world.guest("web", &format!("setsid sh -c '{write}' </dev/null >/dev/null 2>&1 &"));
    until("the guest stands still", BOOT, || (show(world)["stalled"] == FULL).then_some(()));
    disk.leave(0);
}

/// Waits until the guest has written everything, and compares what is on its disk.
fn whole(world: &World, file: &str) {
    until("the guest has written everything", BOOT, || {
        let ran = world.cove(["exec", "web", "--", "test", "-e", &format!("{file}.whole")]);
        (ran.status == 0).then_some(())
    });
    let read = format!("sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum <{file}");
    let expected = tool("sh", &["-c", &format!("{WRITTEN} | sha256sum")], &[]).success().stdout;
    assert_eq!(world.guest("web", &read), expected);
}

/// It is shown; nothing that needs the guest waits for it; and without room it does not go on.
fn asked_while_it_stands_still(world: &World) {
    let list = world.cove(["list"]).success().stdout;
    assert!(list.contains("running (stalled)"), "{list}");
    let shown = world.cove(["show", "web"]).success().stdout;
    assert!(shown.contains(FULL), "{shown}");
    let events = world.cove(["events"]).success().stdout;
    assert!(events.contains(&format!("vm web stalled: {FULL}")), "{events}");
    for (arguments, status) in
        [(&["exec", "web", "--", "true"][..], 125), (&["ports", "web"], 4), (&["start", "web"], 1)]
    {
        let ran = world.command(arguments).deadline(Duration::from_secs(60)).run().status(status);
        ran.says(FULL).says("make room").says("`cove start web`");
    }
    let stats = world.cove(["stats", "web", "--json"]).success().stdout;
    assert!(stats.contains(FULL) && stats.contains("make room"), "{stats}");
}
