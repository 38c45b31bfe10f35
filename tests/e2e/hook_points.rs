//! A plugin at every hook point of a real guest's life: what it gives, what it runs there, what it hears of, and
//! what is left when it fails or the daemon dies in it.

use cove::wire::rpc::{CreateVm, VmCreate};
use serde_json::Value;

use crate::harness::{Who, World, as_everybody};
use crate::kill_walk::killed;
use crate::plugins::install;

const NEEDS: [&str; 5] = [
    "machine.env:EVERY_*",
    "machine.label:every/*",
    "work-disk:every-hook/**",
    "guest.run:sh",
    "state",
];

/// The steps of a plugin that does something everywhere.
const STEPS: &str = r#"
preflight = ["say {vm} may start"]
configure-machine = ["env EVERY_MARK=m4rk", "env EVERY_OWN=p1ugin", "label every/hook=yes", "try env PATH=/tmp"]
prepare-work-disk = ["write every-hook/name={vm}"]
post-start = ["shell echo \"$EVERY_MARK $(cat every-hook/name)\" >ran.txt", "count starts"]
pre-stop = ["remember stopped={vm}"]
cleanup = ["remember gone={vm}"]
doctor = ["warn the moon is full"]
"#;

/// Puts something into the guest that says what it is called with, and asks for tools of it.
const MISE: &str = r#"
printf '#!/bin/sh\necho "$PWD $* $MISE_TRUSTED_CONFIG_PATHS" >~/mise-ran\n' >/usr/local/bin/mise
chmod 755 /usr/local/bin/mise
touch ~/song/mise.toml
"#;

/// The plugin with these steps; the daemon reads its configuration when it starts.
fn configure(world: &World, steps: &str) {
    let grant = install(world, "every-hook", &NEEDS);
    world.configure(&format!("{grant}[hooks.settings.every-hook]\n{steps}\n"));
    world.cove(["daemon", "stop"]);
}

/// A value that the plugin remembers.
fn remembered(world: &World, key: &str) -> Option<String> {
    let file = std::fs::read(world.home.join("plugin-state/every-hook.json")).ok()?;
    let values: Value = serde_json::from_slice(&file).expect("JSON");
    let digits = values[key].as_str()?.as_bytes();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("two digits"));
    let bytes = pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"));
    Some(String::from_utf8(bytes.collect()).expect("a text"))
}

as_everybody!(a_plugin_takes_part_in_the_whole_life_of_a_machine);

fn a_plugin_takes_part_in_the_whole_life_of_a_machine(who: Who) {
    let world = World::new(who);
    let tools = install(&world, "mise", &["guest.run:ls", "guest.run:mise"]);
    let always = "[hooks.settings.mise]\nenabled = \"always\"";
    configure(&world, &format!("{STEPS}\n{tools}{always}"));
    let plan = world.cove(["run", "--dry-run", "--name", "web"]).success().told();
    for expected in [
        "web may start",
        "set-env EVERY_MARK",
        "set-label every/hook=yes",
        "no plugin may set `PATH`",
    ] {
        assert!(plan.contains(expected), "{expected}: {plan}");
    }
    assert_eq!(remembered(&world, "starts"), None, "nothing has happened");

    let repository = world.repo();
    let vm = world.start("web", &[repository.arg(), "--env", "EVERY_OWN=mine"]);
    assert_eq!(vm["labels"]["every/hook"], "yes", "{vm}");
    let script = "cat ~/ran.txt; echo $EVERY_MARK $EVERY_OWN $PATH";
    let said = world.guest("web", script);
    assert!(said.starts_with("m4rk web\nm4rk mine /"), "{said}");
    world.cove(["daemon", "stop"]).success();
    assert_eq!(world.guest("web", script), said, "another daemon knows it, too");
    assert_eq!(remembered(&world, "starts").as_deref(), Some("1"));
    let doctor = world.cove(["doctor"]).told();
    assert!(
        doctor.contains("plugin every-hook") && doctor.contains("the moon is full"),
        "{doctor}"
    );

    assert_eq!(remembered(&world, "stopped"), None);
    world.guest("web", MISE);
    world.cove(["restart", "web"]).success();
    assert_eq!(world.guest("web", "cat ~/mise-ran"), "/root/song install ~/song\n");
    assert_eq!(remembered(&world, "stopped").as_deref(), Some("web"));
    assert_eq!(remembered(&world, "starts").as_deref(), Some("2"));
    world.cove(["delete", "--discard-work", "web"]).success();
    assert_eq!(remembered(&world, "gone").as_deref(), Some("web"));
    let told = format!("{plan}{doctor}{}", world.log());
    assert!(!told.contains("m4rk") && !told.contains("p1ugin"), "a value was told: {told}");
    repository.is_as_it_was_made();
    world.finish();
}

// As the caller only: see `kill_walk`.
#[test]
fn nothing_is_left_of_a_start_that_a_plugin_ended_or_the_daemon_died_in() {
    let world = World::new(Who::Caller);
    configure(&world, "preflight = [\"fail ask for it first\"]");
    world.cove(["run", "-d", "--name", "web"]).status(125).says("ask for it first");
    world.assert_no_vm(&[]);
    configure(&world, "post-start = [\"fail no luck\"]\ncleanup = [\"remember gone={vm}\"]");
    world.cove(["run", "-d", "--name", "web"]).status(125).says("no luck");
    world.assert_no_vm(&[]);
    assert_eq!(remembered(&world, "gone").as_deref(), Some("web"));

    configure(&world, "post-start = [\"shell sleep 600\"]\ncleanup = [\"remember gone={vm}\"]");
    let create = CreateVm { name: Some("made".to_owned()), ..CreateVm::default() };
    let seen = killed(&world, "post-start", async |client| client.call::<VmCreate>(create).await);
    world.assert_no_vm(&[seen.vm.to_string()]);
    assert_eq!(remembered(&world, "gone").as_deref(), Some("made"), "told by the next daemon");
    world.finish();
}
