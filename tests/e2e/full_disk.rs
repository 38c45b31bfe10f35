//! A full disk: one clear sentence with a hint, nothing left behind, and work as before once there is
//! room again.

use crate::harness::{Repository, SmallDisk, Who, World, as_everybody, skipped};

/// Room for all that the test makes.
const ROOM: u64 = 2 << 30;

/// Bytes that are free when a disk is full: none, or enough for what is written first, and next.
const FREE: [u64; 4] = [0, 64 << 10, 1 << 20, 4 << 20];

as_everybody!(item_28_a_full_disk_at_any_write_is_named_and_loses_nothing);

fn item_28_a_full_disk_at_any_write_is_named_and_loses_nothing(who: Who) {
    if let Some(reason) = SmallDisk::unavailable() {
        return skipped(&reason);
    }
    let world = World::on_small_disk(who);
    // Every write is to fail by itself.
    world.configure("keep_free = \"0K\"\n");
    let disk = world.disk.as_ref().expect("a disk of its own");
    let repository = world.repo();
    let before = world.fingerprint(&repository.path);

    // The image is larger than the whole disk.
    refused(&world, &repository);
    disk.leave(ROOM);
    world.cove(["run", "--dry-run", repository.arg()]).success();

    // At the first start, what all VMs share is made as well.
    for _ in ["first start", "later start"] {
        for free in FREE {
            disk.leave(free);
            refused(&world, &repository);
        }
        disk.leave(ROOM);
        works(&world, &repository);
    }

    // A daemon cannot begin on a full disk, and says so.
    world.cove(["daemon", "stop"]).success();
    disk.leave(0);
    is_about_the_disk(&world, &["list"], 1);
    disk.leave(ROOM);
    works(&world, &repository);
    almost_full(&world, &repository, disk);
    assert_eq!(world.fingerprint(&repository.path), before, "the source is as it was");
    world.finish();
}

/// Nothing is started without some room to run in, whatever it would write.
fn almost_full(world: &World, repository: &Repository, disk: &SmallDisk) {
    world.cove(["daemon", "stop"]).success();
    world.configure("");
    world.cove(["create", "--name", "kept"]).success();
    disk.leave(200 << 20);
    let ran = world.cove(["run", repository.arg(), "--rm", "--", "true"]).status(125).prints("");
    ran.says("disk space: 200M free").says("make room");
    world.cove(["start", "kept"]).status(1).says("make room");
    let row = world.cove(["doctor"]).status(1);
    assert!(row.stdout.contains("FAIL     disk space"), "{}", row.told());
    disk.leave(ROOM);
    world.cove(["start", "kept"]).success();
    world.cove(["delete", "kept"]).success();
    world.assert_no_vm(&[]);
}

/// `cove run` fails, and nothing is there of its VM.
#[track_caller]
fn refused(world: &World, repository: &Repository) {
    is_about_the_disk(world, &["run", repository.arg(), "--rm", "--", "true"], 125);
    world.assert_no_vm(&[]);
}

/// `cove` fails with this status, one error that names the reason, and a hint.
#[track_caller]
fn is_about_the_disk(world: &World, arguments: &[&str], status: i32) {
    let ran = world.cove(arguments).status(status).prints("").says("make room");
    assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
    assert_eq!(ran.stderr.matches("\nhint: ").count(), 1, "{}", ran.told());
    let reasons = ["No space left on device", "database or disk is full", "disk I/O error"];
    assert!(reasons.iter().any(|reason| ran.stderr.contains(reason)), "{}", ran.told());
}

/// The main job is done.
#[track_caller]
fn works(world: &World, repository: &Repository) {
    let ran =
        world.cove(["run", repository.arg(), "--rm", "--", "git", "log", "-1", "--format=%s"]);
    ran.success().prints(&format!("{}\n", repository.subject()));
    world.assert_no_vm(&[]);
}
