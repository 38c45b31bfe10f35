//! What hooks have done and would do, as its owner sees it; and that no secret is told anywhere on the way.

use std::fs;
use std::path::Path;

use crate::harness::{Who, World, as_everybody};
use crate::plugins::install;

/// What must never be told.
const MARKER: &str = "m4rker-of-a-secret";

/// Files below a folder that have the marker in them. Disks are the guest's, and the database has the
/// environment of machines that are there.
fn leaks(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("there").filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let exempt =
            name.ends_with(".ext4") || name.starts_with("cove.db") || name == "plugin-state";
        if exempt || name == "config.toml" {
            continue;
        }
        if kind.is_dir() {
            found.extend(leaks(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let (text, digits) = (MARKER.as_bytes(), hex(MARKER.as_bytes()));
            let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
            if has(text) || has(digits.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

as_everybody!(runs_of_hooks_are_written_down_without_a_secret);

fn runs_of_hooks_are_written_down_without_a_secret(who: Who) {
    let world = World::new(who);
    fs::write(world.user_home.join("synced"), MARKER).expect("written");
    fs::write(world.user_home.join("guest.env"), format!("TOKEN={MARKER}\n")).expect("written");
    let mut config =
        install(&world, "env-file", &["host-files.read:env-file", "machine.env:@variables"]);
    config += "host_files = { env-file = [\"~/guest.env\"] }\n";
    config += &install(&world, "every-hook", &["work-disk:every-hook/**", "state"]);
    config += &format!(
        "[hooks.settings.env-file]\nvariables = [\"TOKEN\"]\n\
         [hooks.settings.every-hook]\nprepare-work-disk = [\"remember key={MARKER}\", \"say all is well\"]\n\
         [[file_sync]]\nhost = \"~/synced\"\nguest = \"~/synced\"\n"
    );
    world.configure(&config);
    let mut daemon = world.command(["daemon", "start"]).into_command();
    let started = daemon.env("COVE_LOG", "cove=debug").status().expect("it starts");
    assert!(started.success(), "{started}");
    let repository = world.repo();
    let plan = world.cove(["hook", "plan", repository.arg()]).success().told();
    repository.is_as_it_was_made();
    for expected in [
        "plugin file-sync",
        "copied from ~/synced",
        "set-env TOKEN",
        "+ ssh-",
        "plan ",
        "log: all is well",
    ] {
        assert!(plan.contains(expected), "{expected}: {plan}");
    }
    world.start("web", &[]);
    let inside = world.guest("web", "cat ~/synced; echo; echo $TOKEN");
    assert_eq!(inside.matches(MARKER).count(), 2, "{inside}");
    let again = world.cove(["hook", "plan", "web"]).success().told();
    let runs = world.cove(["hook", "runs", "--vm", "web"]).success().told();
    for expected in ["env-file", "file-sync", "configure-machine", "prepare-work-disk", "ok"] {
        assert!(runs.contains(expected), "{expected}: {runs}");
    }
    let json = world.cove(["hook", "runs", "--json", "--limit", "1000"]).success().told();
    let events = world.cove(["events", "--json"]).success().told();
    let shown = world.cove(["show", "web", "--json"]).success().told();
    let log = world.log();
    let mut lines = log.lines().filter(|line| line.contains("a hook logged"));
    let said = |line: &str| line.contains("every-hook") && line.contains("all is well");
    assert!(lines.any(said), "what a plugin logs is in the daemon's log");
    let told = format!("{plan}{again}{runs}{json}{events}{shown}{log}");
    assert!(!told.contains(MARKER), "{told}");
    assert_eq!(leaks(&world.home), [""; 0]);

    world.cove(["hook", "runs", "--verify"]).success().told();
    world.cove(["delete", "web"]).success();
    world.cove(["daemon", "stop"]).success();
    let file = world.home.join("hooks.jsonl");
    let mut bytes = fs::read(&file).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("written");
    let broken = world.cove(["hook", "runs", "--verify"]).status(1);
    broken
        .says("the records of hooks are damaged: line ")
        .says("To begin anew: `cove daemon stop`");
    // As it says.
    world.cove(["daemon", "stop"]).success();
    fs::rename(world.home.join("hooks.jsonl"), world.home.join("damaged")).expect("moved away");
    world
        .cove(["hook", "runs", "--verify"])
        .success()
        .prints("the chain holds: 0 records, from 0 to 0\n");
    world.finish();
}
