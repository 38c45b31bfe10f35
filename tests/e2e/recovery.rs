//! What a daemon makes of what it finds: VMs that go on, pids that are somebody else's by now, handles that
//! are missing or wrong, a folder that is not for it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{QUICK, Who, World, as_everybody, tool};
use crate::watch;

as_everybody!(item_04_a_daemon_restart_keeps_vms_with_their_pid_and_boot_id);

fn item_04_a_daemon_restart_keeps_vms_with_their_pid_and_boot_id(who: Who) {
    let world = World::new(who);
    let before = world.start("kept", &[]);
    world.guest("kept", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > /run/sleeper");
    for end in ["asked", "killed"] {
        let first = world.json(["daemon", "status", "--json"])["pid"].clone();
        match end {
            "asked" => drop(world.cove(["daemon", "stop"]).success()),
            _ => drop(watch::kill_daemon(&world)),
        }
        let after = world.json(["show", "kept", "--json"]);
        assert_ne!(world.json(["daemon", "status", "--json"])["pid"], first, "another daemon");
        for key in ["state", "pid", "boot_id", "started_at"] {
            assert!(before[key] == after[key] && !after[key].is_null(), "{end}: {key}: {after}");
        }
        world.guest("kept", "kill -0 $(cat /run/sleeper)");
    }
    a_second_daemon_says_who_holds_the_home(&world);
    world.cove(["stop", "kept"]).success();
    world.finish();
}

fn a_second_daemon_says_who_holds_the_home(world: &World) {
    let pid = world.json(["daemon", "status", "--json"])["pid"].to_string();
    let refused = world.companion("coved", [""; 0]).deadline(QUICK).run().status(4);
    refused.says("another daemon").says(&pid).says(world.home.to_str().expect("UTF-8"));
}

as_everybody!(item_06_a_pid_that_names_somebody_elses_process_is_never_signalled);

fn item_06_a_pid_that_names_somebody_elses_process_is_never_signalled(who: Who) {
    let world = World::new(who);
    let vm = world.start("stale", &[]);
    let parts = world.processes(&[watch::id(&vm)]);
    let monitor = watch::monitor(&world, &vm);
    watch::kill_daemon(&world);
    for part in parts.iter().filter(|part| !part.is_daemon()) {
        // Some end by themselves when another has ended.
        tool("kill", &["-KILL", &part.pid.to_string()], &[]);
        watch::gone(part.pid);
    }
    // As if the kernel had given away all their pids again, to a process of the same user.
    let bystander = world.companion("/bin/sleep", ["1000"]).spawn();
    let pid = bystander.pid();
    fs::write(world.home.join("lock"), format!("{pid}\n")).expect("written");
    world.cove(["daemon", "stop"]).success();
    world.rewrite_rows(&[
        format!("UPDATE resource SET pid = {pid} WHERE pid IS NOT NULL"),
        format!("UPDATE vm SET state = replace(state, '\"pid\":{monitor}', '\"pid\":{pid}')"),
    ]);
    assert!(world.row(&watch::id(&vm)).is_some_and(|state| state.contains(&format!(":{pid}"))));

    let found = world.json(["show", "stale", "--json"]);
    assert_eq!(found["state"], "stopped", "{found}");
    assert!(found["cause"].as_str().is_some_and(|cause| cause.contains("monitor")), "{found}");
    for command in [["kill", "stale"], ["stop", "stale"], ["delete", "stale"]] {
        world.cove(command).success();
    }
    // Nothing but this ends it, and no other signal was there before.
    bystander.signal(Signal::SIGTERM);
    bystander.wait().status(1000 + Signal::SIGTERM as i32);
    world.assert_no_vm(&[watch::id(&vm)]);
    world.finish();
}

as_everybody!(item_07_tear_down_with_missing_or_corrupt_handles_removes_the_rest);

fn item_07_tear_down_with_missing_or_corrupt_handles_removes_the_rest(who: Who) {
    let world = World::new(who);
    let vm = world.start("torn", &[]);
    watch::kill_daemon(&world);
    let with = |kind: &str, pid: i32| {
        let id = watch::id(&vm);
        format!("INSERT OR REPLACE INTO resource VALUES ('{id}', '{kind}', {pid}, 1)")
    };
    world.rewrite_rows(&[
        // The monitor is known to be there, but not which process it is.
        "UPDATE resource SET pid = NULL, start_ticks = NULL WHERE kind = 'monitor'".to_owned(),
        // These can be nobody's.
        with("uplink", 0),
        with("network_keeper", i32::MAX),
    ]);
    assert_eq!(world.json(["show", "torn", "--json"])["state"], "running");
    // The ways to its processes, and what the next boot would need.
    for entry in fs::read_dir(world.vm_folder(&vm)).expect("readable") {
        let path = entry.expect("read").path();
        if path.extension().is_none_or(|extension| extension != "ext4") {
            fs::remove_file(path).expect("removed");
        }
    }
    world.cove(["delete", "torn"]).success();
    world.assert_no_vm(&[watch::id(&vm)]);
    assert!(world.row(&watch::id(&vm)).is_none() && world.resources(&watch::id(&vm)).is_empty());
    world.finish();
}

as_everybody!(a_folder_of_somebody_else_is_refused_and_left_alone);

fn a_folder_of_somebody_else_is_refused_and_left_alone(who: Who) {
    let mut world = World::new(who);
    let own = world.home.clone();
    // Another user's for root, root's for another user.
    world.home = match who {
        Who::Caller if nix::unistd::geteuid().is_root() => {
            let folder = world.folder().join("foreign");
            fs::create_dir(&folder).expect("made");
            chown(&folder, Some(Who::Ordinary.id()), None).expect("given away");
            folder
        }
        Who::Caller | Who::Ordinary => "/usr/share".into(),
    };
    let before = names(&world.home);
    let (path, asked) = (world.home.to_str().expect("UTF-8").to_owned(), world.who.id());
    for arguments in [&["list"][..], &["daemon", "start"], &["create"]] {
        let ran = world.command(arguments).deadline(QUICK).run().status(6).prints("");
        let ran = ran.says(&path).says("belongs to user").says("\nhint: set COVE_HOME");
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "as {asked}: {}", ran.told());
    }
    assert_eq!(names(&world.home), before, "nothing was written there");
    world.home = own;
    world.finish();
}

fn names(folder: &Path) -> String {
    tool("ls", &["-A", folder.to_str().expect("UTF-8")], &[]).success().stdout
}
