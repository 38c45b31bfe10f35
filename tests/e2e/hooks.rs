//! Plugins of the user's own: how they come and go, granted ones that misbehave, and files that are none.
//! Each failure is one sentence with a hint, and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

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

/// Puts the files of a built plugin where the user can read them.
fn package(world: &World) -> PathBuf {
    let folder = world.home.join("incoming/hostile");
    fs::create_dir_all(&folder).expect("made");
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(hostile().join(file), folder.join(file)).expect("copied");
    }
    folder
}

/// The plugin's settings.
fn set(world: &World, settings: &str) {
    world.configure(&format!("[hooks.settings.hostile]\n{settings}\n"));
    // The daemon reads its configuration when it starts.
    world.cove(["daemon", "stop"]);
}

/// Installs the hostile plugin and grants it what it asks for.
fn install(world: &World, settings: &str) {
    set(world, settings);
    let folder = package(world);
    world.cove(["hook", "install", folder.to_str().expect("UTF-8")]).success();
    world.cove(["hook", "grant", "hostile"]).success();
}

/// The file of the installed component.
fn installed(world: &World) -> PathBuf {
    let details = world.json(["hook", "inspect", "hostile", "--json"]);
    let release = details["release"].as_str().expect("a digest");
    world.home.join("plugins/hostile/releases").join(release).join("plugin.wasm")
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
    world.cove(["hook", "remove", "hostile"]).success();
    world.cove(["start", "kept"]).success();
    world.cove(["exec", "kept", "--", "test", "-e", "/root/allowed"]).status(1);
}

as_everybody!(plugins_that_cannot_run_stop_a_start_and_leave_nothing);

fn plugins_that_cannot_run_stop_a_start_and_leave_nothing(who: Who) {
    let world = World::new(who);
    install(&world, "misbehaviour = \"error\"");
    let wasm = installed(&world);

    fs::write(&wasm, b"#!/bin/sh\necho not a component\n").expect("written");
    refused(&world, 2, "is not a WebAssembly component", "invalid");

    // Another component under the name of the granted one.
    let other = fs::read(hostile().with_file_name("ssh-key").join("plugin.wasm")).expect("read");
    fs::write(&wasm, other).expect("written");
    refused(&world, 6, "is not the one that was granted", "refused");
    let void = world.json(["hook", "list", "--json"]);
    let hooks = void.as_array().expect("a list");
    assert_eq!(hooks.len(), 4);
    let (own, standard): (Vec<_>, Vec<_>) =
        hooks.iter().partition(|hook| hook["plugin"] == "hostile");
    assert_eq!(
        (&own[0]["state"], &own[0]["standard"]),
        (&"void".into(), &false.into()),
        "{}",
        own[0]
    );
    assert!(own[0]["problem"].as_str().expect("why").contains("cove hook grant hostile"));
    for (hook, name) in standard.iter().zip(["file-sync", "git-identity", "ssh-key"]) {
        assert_eq!((&hook["plugin"], &hook["standard"]), (&name.into(), &true.into()), "{hook}");
    }

    // Switched off, it is in nobody's way; nor is it without any grant.
    world.configure("[hooks]\ndisabled = [\"hostile\"]\n");
    world.cove(["daemon", "stop"]).success();
    world.cove(["run", "--dry-run"]).success();
    world.configure("");
    world.cove(["daemon", "stop"]).success();
    world.cove(["hook", "revoke", "hostile"]).success();
    world.cove(["run", "--dry-run"]).success();
    world.finish();
}

as_everybody!(a_plugin_is_looked_at_installed_granted_and_removed);

fn a_plugin_is_looked_at_installed_granted_and_removed(who: Who) {
    let world = World::new(who);
    set(&world, "misbehaviour = \"write\"");
    let folder = package(&world);
    let folder = folder.to_str().expect("UTF-8");
    let looked = world.json(["hook", "inspect", folder, "--json"]);
    let exports = looked["exports"].as_array().expect("a list");
    assert_eq!(exports.len(), 7, "{looked}");
    assert!(exports.contains(&"cove:hooks/prepare-work-disk@0.2.0".into()), "{looked}");
    world.cove(["hook", "inspect", "hostile"]).status(3).says("there is no plugin `hostile`");

    let ran = world.cove(["hook", "install", folder]).success();
    let ran = ran.says("note: it does not take part before you grant it");
    assert!(ran.stdout.starts_with("hostile 0.1.0: installed, pending-grant\n"), "{}", ran.told());
    let planned = || world.cove(["run", "--dry-run"]).success().stdout;
    assert!(!planned().contains("allowed/file"), "it does not take part");
    let doctor = world.json(["doctor", "--json"]);
    let row = doctor.as_array().expect("rows").iter().find(|row| row["name"] == "plugin hostile");
    assert_eq!(row.expect("it is told")["verdict"], "warn", "{doctor}");

    let ran = world.cove(["hook", "grant", "hostile"]).success().says("hostile 0.1.0 asks for:");
    assert!(ran.stdout.starts_with("hostile 0.1.0: active\n"), "{}", ran.told());
    assert!(planned().contains("allowed/file"));
    let ran = world.cove(["hook", "grant", "hostile", "git-config:user.name"]).status(2);
    ran.says("does not ask for `git-config:user.name`");
    world.cove(["hook", "revoke", "hostile", "work-disk:allowed/**"]).success();
    let ran = world.cove(["run", "--dry-run"]).status(125);
    ran.says("hint: not granted; grant it with `cove hook grant hostile 'work-disk:allowed/**'`");
    world.cove(["hook", "grant", "hostile", "work-disk:allowed/**"]).success();
    assert!(planned().contains("allowed/file"));

    // Another version, which asks for more, waits while the old one runs.
    let manifest = Path::new(folder).join("plugin.toml");
    let text = fs::read_to_string(&manifest).expect("read").replace("0.1.0", "0.2.0");
    let more = "[[need]]\nkind = \"git-config\"\nname = \"user.name\"\nreason = \"greet\"\n";
    fs::write(&manifest, format!("{text}\n{more}")).expect("written");
    let ran = world.cove(["hook", "install", manifest.to_str().expect("UTF-8")]).success();
    ran.says("note: 0.2.0 does not take part before you grant it; 0.1.0 goes on until then");
    assert!(planned().contains("allowed/file"));
    world.cove(["hook", "grant", "hostile"]).success().says("hostile 0.2.0 asks for this besides:");
    let details = world.json(["hook", "inspect", "hostile", "--json"]);
    assert_eq!((&details["version"], &details["state"]), (&"0.2.0".into(), &"active".into()));

    fs::write(Path::new(folder).join("plugin.wasm.minisig"), "no signature").expect("written");
    world.cove(["hook", "install", folder]).status(6).says("is no signature of minisign");
    world.cove(["hook", "remove", "hostile"]).success().prints("hostile is removed\n");
    world.cove(["hook", "remove", "hostile"]).status(3);
    world.cove(["hook", "remove", "ssh-key"]).status(6).says("came with cove");
    let events = world.json(["events", "--json"]);
    let kinds: Vec<_> = events.as_array().expect("a list").iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds.last(), Some(&&"hook_removed".into()), "{events}");
    assert!(fs::read_dir(world.home.join("plugins")).expect("there").next().is_none());
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
