//! Plugins of the user's own: granted ones that misbehave, ungranted ones, and files that are none. Each
//! failure is one sentence with a hint, and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::harness::{BOOT, Who, World, as_everybody, wait_until};

/// The example plugin that misbehaves as its setting says.
fn hostile() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let folder = target.join("test-plugins");
    let plugin = folder.join("hostile");
    assert!(
        plugin.join("plugin.wasm").is_file(),
        "`hostile` is not built: run `scripts/build-plugins.sh --examples {}` first",
        folder.display()
    );
    plugin
}

/// Puts the hostile plugin into the user's folder, with a grant for what it may do.
fn install(world: &World, settings: &str) {
    let folder = world.home.join("plugins/hostile");
    fs::create_dir_all(&folder).expect("made");
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(hostile().join(file), folder.join(file)).expect("copied");
    }
    let component = Sha256::digest(fs::read(folder.join("plugin.wasm")).expect("readable"));
    let component: String = component.iter().map(|byte| format!("{byte:02x}")).collect();
    world.configure(&format!(
        "[hooks.grants.hostile]\ncomponent = \"{component}\"\n\
         needs = [\"work-disk:allowed\", \"work-disk:allowed/**\"]\n\
         [hooks.settings.hostile]\n{settings}\n"
    ));
}

/// Nothing is there of a VM whose start failed. The daemon is asked anew until it is so, because it
/// takes a start back after it has told of the failure.
fn assert_nothing(world: &World) {
    world.assert_no_vm(&[]);
}

as_everybody!(a_hook_that_misbehaves_stops_the_start_and_leaves_nothing);

fn a_hook_that_misbehaves_stops_the_start_and_leaves_nothing(who: Who) {
    let world = World::new(who);
    let escape = "misbehaviour = \"write\"\npath = \"../../etc/shadow\"";
    for (settings, said) in [
        ("misbehaviour = \"loop\"", "it used more than 1000 ms of processor time"),
        ("misbehaviour = \"allocate\"", "it wanted more than"),
        (escape, "../../etc/shadow"),
    ] {
        install(&world, settings);
        let dry = world.cove(["run", "--dry-run"]).status(125).prints("");
        let run = world.cove(["run", "--rm", "--", "true"]).status(125).prints("");
        for ran in [dry, run] {
            let ran = ran.says("plugin `hostile` failed in hook `prepare-work-disk`").says(said);
            let ran = ran.says("\nhint: ").says("kind: failed");
            assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
        }
        assert_nothing(&world);
        // The daemon reads its configuration when it starts.
        world.cove(["daemon", "stop"]).success();
    }
    a_start_that_a_hook_stops(&world);
    world.finish();
}

/// `start` of a VM that is there: the start fails, the VM stays, and starts once the plugin is gone.
fn a_start_that_a_hook_stops(world: &World) {
    install(world, "misbehaviour = \"error\"");
    world.cove(["create", "--name", "kept"]).success();
    world.cove(["start", "kept"]).status(1).says("redo from start").says("\nhint: ");
    let vm = wait_until(BOOT, || {
        let vm = world.json(["show", "kept", "--json"]);
        if vm["state"] == "starting" { Err(vm) } else { Ok(vm) }
    });
    let vm = vm.expect("the start is taken back");
    assert!(vm["state"] == "created" || vm["state"] == "stopped", "{vm}");
    assert!(vm.get("pid").is_none(), "{vm}");
    fs::remove_dir_all(world.home.join("plugins/hostile")).expect("removed");
    world.cove(["start", "kept"]).success();
    world.cove(["exec", "kept", "--", "test", "-e", "/root/allowed"]).status(1);
}

as_everybody!(plugins_that_cannot_run_stop_a_start_and_leave_nothing);

fn plugins_that_cannot_run_stop_a_start_and_leave_nothing(who: Who) {
    let world = World::new(who);
    install(&world, "misbehaviour = \"error\"");
    let wasm = world.home.join("plugins/hostile/plugin.wasm");

    fs::write(&wasm, b"#!/bin/sh\necho not a component\n").expect("written");
    refused(&world, 2, "is not a WebAssembly component", "invalid");

    // Another component under the name of the granted one, and one without any grant.
    fs::copy(hostile().with_file_name("ssh-key").join("plugin.wasm"), &wasm).expect("copied");
    refused(&world, 6, "is not the one that was granted", "refused");
    world.configure("");
    world.cove(["daemon", "stop"]).success();
    refused(&world, 6, "plugin `hostile` is not granted", "refused");
    let hooks = world.json(["hook", "list", "--json"]);
    let hooks = hooks.as_array().expect("a list");
    assert_eq!(hooks.len(), 4);
    let (own, standard): (Vec<_>, Vec<_>) =
        hooks.iter().partition(|hook| hook["plugin"] == "hostile");
    assert!(own[0]["problem"].is_string() && own[0]["standard"] == false, "{}", own[0]);
    for (hook, name) in standard.iter().zip(["file-sync", "git-identity", "ssh-key"]) {
        assert_eq!((&hook["plugin"], &hook["standard"]), (&name.into(), &true.into()), "{hook}");
    }

    // Switched off, it is in nobody's way.
    world.configure("[hooks]\ndisabled = [\"hostile\"]\n");
    world.cove(["daemon", "stop"]).success();
    world.cove(["run", "--dry-run"]).success();
    world.finish();
}

fn refused(world: &World, expected: i32, said: &str, kind: &str) {
    let kind = format!("kind: {kind}");
    for arguments in [&["run", "--rm", "--", "true"][..], &["run", "-d"], &["run", "--dry-run"]] {
        let ran = world.cove(arguments).status(125).prints("");
        let ran = ran.says(said).says(&kind).says("\nhint: ");
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
    }
    let made = world.cove(["create", "--name", "made"]);
    if made.status == 0 {
        world.cove(["start", "made"]).status(expected).says(said);
        world.cove(["delete", "made"]).success();
    } else {
        made.status(expected).says(said);
    }
    assert_nothing(world);
}
