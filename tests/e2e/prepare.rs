//! A repository on its way into a machine that runs, and what changes in it later.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Repository, Who, World};

/// Runs `cove workspace prepare`, which must succeed, and returns the VM.
fn prepare(world: &World, more: &[&str]) -> Value {
    world.json([&["workspace", "prepare", "song", "--json"], more].concat())
}

/// What git says of a checkout, and what is in its files.
const CHECKOUT: &str = "git status --short && git log --format=%s && git symbolic-ref HEAD && \
                        git ls-files -z | sort -z | xargs -0 sh -c 'for f; do if [ -e \"$f\" ]; \
                        then sha256sum \"$f\"; fi; done' sh";

/// Asserts that the guest's checkout is the repository's, but for what is untracked.
fn assert_same(world: &World, repository: &Repository) {
    let there = world.guest("song", &format!("cd /root/song && {CHECKOUT}"));
    let here = crate::harness::tool(
        "sh",
        &["-c", &format!("cd '{}' && {CHECKOUT}", repository.arg())],
        &[("HOME", world.user_home.to_str().expect("UTF-8"))],
    );
    let here = here.success().stdout;
    let here: Vec<&str> = here.lines().filter(|line| !line.starts_with("?? ")).collect();
    assert_eq!(there.lines().collect::<Vec<_>>(), here);
}

#[test]
fn a_repository_goes_into_a_machine_that_runs_and_follows_its_source() {
    let world = World::new(Who::Caller);
    let repository = world.repo();
    let before = world.fingerprint(&repository.path);
    let vm = world.start("song", &[]);
    assert_eq!(vm["workspace"], Value::Null);
    let none = world.cove(["workspace", "prepare", "song"]).status(2);
    none.says("cove workspace prepare song PATH");

    // The first one, of a folder below the root.
    let below = repository.path.join("verses");
    let vm = prepare(&world, &[below.to_str().expect("UTF-8")]);
    let head = repository.git(&["rev-parse", "HEAD"]).stdout;
    let expected = json!({ "guest_path": "/root/song", "source_path": repository.arg(),
        "base_commit": head.trim(), "mode": "shallow" });
    assert_eq!(vm["workspace"], expected);
    assert_eq!(world.json(["show", "song", "--json"])["workspace"], expected);
    // Git there knows what is unchanged by the index alone, before it has looked at any file.
    let differing = world.guest("song", "cd /root/song && git diff-files --name-only");
    assert_eq!(differing, "README.md\n");
    // Before somebody asks git for its state there, which writes the index.
    assert_eq!(world.fingerprint(&repository.path), before, "the source is as it was");
    assert_same(&world, &repository);
    let absent = world.cove(["exec", "song", "--", "test", "-e", ".env"]).status(1);
    absent.prints("");

    // It stays in the mode that it went in.
    world.cove(["workspace", "prepare", "song", "--mode", "full"]).status(4).says("`shallow`");
    let both = ["workspace", "prepare", "song", "--mode", "full", "--depth", "3"];
    world.cove(both).status(2).says("`--depth` and `--mode full` exclude each other");

    // The source goes on; what is only in the guest stays.
    world.guest("song", "cd /root/song && mkdir target && echo built >target/out && echo x >a.log");
    repository.git(&["commit", "--quiet", "-am", "Edit the song"]);
    repository.git(&["checkout", "--quiet", "-b", "other"]);
    repository.git(&["mv", "verses/one two.txt", "verses/first.txt"]);
    repository.git(&["commit", "--quiet", "-m", "Rename the first verse"]);
    repository.write("run.sh", "#!/bin/sh\necho lala\n");
    fs::remove_file(repository.path.join("verses/three.txt")).expect("removed");
    let before = world.fingerprint(&repository.path);
    let ran = world.cove(["workspace", "prepare", "song"]).success().prints("/root/song\n");
    assert_eq!(world.fingerprint(&repository.path), before, "the source is as it was");
    ran.says("note: song: 2 files put in").says("2 files taken out");
    assert_same(&world, &repository);
    assert_eq!(world.guest("song", "cat /root/song/target/out /root/song/a.log"), "built\nx\n");
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!((&state["unexported"], &state["source_moved"]), (&json!(false), &json!(false)));

    // Work in the guest is not written over, unless it is given up.
    world.guest("song", "cd /root/song && echo mine >>run.sh && echo new >new.txt");
    let refused = world.cove(["workspace", "prepare", "song"]).status(4);
    refused.says("`new.txt`, `run.sh`").says("--discard-work");
    assert_eq!(world.guest("song", "tail -n 1 /root/song/run.sh"), "mine\n");
    let before = world.fingerprint(&repository.path);
    prepare(&world, &["--discard-work", "--branch", "agent"]);
    assert_eq!(world.fingerprint(&repository.path), before, "the source is as it was");
    let gone = "cd /root/song && cat run.sh && test ! -e new.txt && git symbolic-ref HEAD";
    assert_eq!(world.guest("song", gone), "#!/bin/sh\necho lala\nrefs/heads/agent\n");

    // What went in is there after a restart, and no half of an update.
    world.cove(["restart", "song"]).success();
    assert_eq!(world.guest("song", gone), "#!/bin/sh\necho lala\nrefs/heads/agent\n");
    assert_eq!(world.guest("song", "ls -A /root | grep cove || echo none"), "none\n");
    let operations = world.json(["op", "list", "--json"]);
    let operations = operations.as_array().expect("operations").iter();
    let prepares = operations.filter(|operation| operation["action"] == "prepare").count();
    assert_eq!(prepares, 6, "with those that were refused");
    world.cove(["delete", "song"]).success();
    world.finish();
}
