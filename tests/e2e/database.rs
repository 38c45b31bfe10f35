//! A database that is damaged, in one row or as a whole: what is lost by it, and what is not.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{Who, World, as_everybody};
use crate::watch;

as_everybody!(a_corrupt_row_costs_its_vm_and_no_other);

fn a_corrupt_row_costs_its_vm_and_no_other(who: Who) {
    let world = World::new(who);
    let bad = world.start("bad", &[]);
    world.guest("bad", "echo kept >kept; sync");
    world.cove(["create", "--name", "good"]).success();
    let monitor = watch::monitor(&world, &bad);
    world.cove(["daemon", "stop"]).success();
    // Closed again before the daemon opens it as somebody else.
    let database = || Connection::open(world.home.join("cove.db")).expect("opens");
    let state: String = database()
        .query_row("SELECT state FROM vm WHERE name = 'bad'", [], |row| row.get(0))
        .expect("its state");
    let write = |state: &str| {
        let set = "UPDATE vm SET state = ?1 WHERE name = 'bad'";
        assert_eq!(database().execute(set, [state]).expect("written"), 1);
    };

    write(&state[..state.len() / 2]);
    let list = world.json(["list", "--json"]);
    let names: Vec<_> = list.as_array().expect("a list").iter().map(|vm| &vm["name"]).collect();
    assert_eq!(names, ["good"], "the daemon runs, with the others");
    world.cove(["set", "good", "--label", "still=works"]).success();
    world.cove(["create", "--name", "bad"]).status(4).says("`bad`");
    for command in ["show", "start", "stop", "kill", "touch", "delete"] {
        world.cove([command, "bad"]).status(1).says("cannot be read").says("`cove doctor`");
    }
    let doctor = world.cove(["doctor"]).status(1);
    let folder = world.vm_folder(&bad);
    for said in ["database row", "`bad`", "`state`", folder.to_str().expect("UTF-8"), "sqlite3"] {
        assert!(doctor.stdout.contains(said), "no `{said}`: {}", doctor.told());
    }
    assert_eq!(watch::monitor(&world, &bad), monitor, "it runs on");
    assert!(folder.join("work.ext4").exists() && !world.home.join("lost").exists());

    // Whole again it is taken up as if nothing had been.
    world.cove(["daemon", "stop"]).success();
    write(&state);
    let shown = world.json(["show", "bad", "--json"]);
    assert_eq!((&shown["state"], &shown["boot_id"]), (&"running".into(), &bad["boot_id"]));
    assert_eq!(world.guest("bad", "cat kept"), "kept\n");
    world.cove(["stop", "bad"]).success();
    world.finish();
}

as_everybody!(a_damaged_database_is_refused_and_kept_and_one_can_begin_anew);

fn a_damaged_database_is_refused_and_kept_and_one_can_begin_anew(who: Who) {
    let world = World::new(who);
    world.cove(["create", "--name", "web"]).success();
    let vm = world.json(["show", "web", "--json"]);
    world.cove(["daemon", "stop"]).success();
    let path = world.home.join("cove.db");
    // What is in the log only would make up for what is cut off.
    let database = Connection::open(&path).expect("opens");
    let written_back = database.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    written_back.expect("written back");
    drop(database);
    let sound = fs::read(&path).expect("reads");
    let mut torn = sound.clone();
    // Its first page is fine: the damage is met when it is looked through.
    torn[4096..8192].fill(0xa5);
    let nonsense = b"no database at all".as_slice();
    for damaged in [&sound[..sound.len() / 2], &sound[..10], nonsense, &torn] {
        refused(&world, &path, damaged);
        assert!(world.vm_folder(&vm).join("work.ext4").exists());
        world.assert_no_process(&[]);
    }

    // With the sound one everything is as it was.
    fs::write(&path, &sound).expect("written");
    assert_eq!(world.json(["show", "web", "--json"]), vm);
    world.cove(["daemon", "stop"]).success();

    // As the hint says: moved away, and nothing of the disks is deleted.
    for name in ["cove.db", "cove.db-wal"] {
        fs::rename(world.home.join(name), world.home.join(format!("{name}.old"))).ok();
    }
    assert_eq!(world.json(["list", "--json"]), Value::Array(Vec::new()));
    let lost: Vec<_> = fs::read_dir(world.home.join("lost")).expect("a folder").collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    let doctor = world.cove(["doctor"]).stdout;
    assert!(doctor.contains("lost disks"), "{doctor}");
    world.finish();
}

/// The daemon does not begin, says why and how to go on, and leaves the file as it is.
#[track_caller]
fn refused(world: &World, path: &Path, damaged: &[u8]) {
    fs::write(path, damaged).expect("written");
    for command in [&["list"][..], &["create", "--name", "second"]] {
        let ran = world.cove(command).status(1).prints("");
        let ran = ran.says("is damaged").says("\nhint: ").says("begin anew").says("not deleted");
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
    }
    assert_eq!(fs::read(path).expect("there"), damaged, "it is as it was");
}
