//! A client that is not ours: `examples/client.rs`, which stands on the library alone.

use std::path::Path;

use crate::harness::{Ran, Who, World, as_everybody};

/// Runs the example as the world's user. It is built by `cargo build --example client`, in the profile of
/// the tests.
fn example(world: &World) -> Ran {
    let programs = Path::new(env!("CARGO_BIN_EXE_cove")).parent().expect("a folder");
    let built = programs.join("examples/client");
    assert!(built.exists(), "run `cargo build --example client` first: no {}", built.display());
    // Where that user can read it.
    let copy = world.folder().join("client");
    std::fs::copy(built, &copy).expect("copied");
    let socket = world.home.join("run/coved.sock");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    world.companion(&text(&copy), [text(&socket)]).run()
}

as_everybody!(the_example_makes_a_vm_runs_a_command_and_deletes_it);

fn the_example_makes_a_vm_runs_a_command_and_deletes_it(who: Who) {
    let world = World::new(who);
    example(&world).status(5).says("cove daemon start");
    world.cove(["daemon", "start"]).success();
    let ran = example(&world).success();
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
