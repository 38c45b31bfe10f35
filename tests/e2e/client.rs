//! A client that is not ours: `examples/client.rs`, which stands on the library alone.

use crate::harness::{World, tool};

/// The example, built by `cargo build --example client` in the profile of the tests.
fn example(world: &World) -> String {
    let programs = world.program.parent().expect("a folder");
    let example = programs.join("examples/client");
    assert!(example.exists(), "run `cargo build --example client` first: no {}", example.display());
    example.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_example_makes_a_vm_runs_a_command_and_deletes_it() {
    let world = World::new();
    let example = example(&world);
    let socket = world.home.join("run/coved.sock");
    let socket = socket.to_str().expect("UTF-8");
    tool(&example, &[socket], &[]).status(5).says("cove daemon start");
    world.cove(["daemon", "start"]).success();
    let ran = tool(&example, &[socket], &[]).success();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"0 VMs"), "{lines:?}");
    for line in ["stage boot", "status 0", "stdout Linux x86_64"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let events: Vec<_> = lines.iter().filter(|line| line.starts_with("event ")).collect();
    let ends = |word: &str| events.iter().any(|line| line.ends_with(word));
    assert!(ends("Starting") && ends("Running") && ends("deleted"), "{events:?}");
    // What the command line knows of it afterwards.
    let known = world.json(["events", "--json"]);
    let kinds: Vec<_> = known.as_array().expect("a list").iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds.first().map(|kind| kind.as_str()), Some(Some("vm_created")), "{known}");
    assert_eq!(kinds.last().map(|kind| kind.as_str()), Some(Some("vm_deleted")), "{known}");
    world.finish();
}
