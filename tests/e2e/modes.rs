//! Repositories in other forms than files with git: without git, and without files; and what is odd in one with both.
//! Once, as the caller: what is looked at here does not depend on who asks.

mod odd;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Who, World, skipped};

/// A file system in memory, on every Linux.
const IN_MEMORY: &str = "/dev/shm";

/// Takes all room of the disk with everything but the home, and says it when there is some left.
const FILL: &str = "cd /opt && at=0; for size in 67108864 4194304 262144 16384; do \
                    while fallocate -o $at -l $size filler 2>/dev/null; do at=$((at + size)); done; \
                    done; cat /dev/zero 2>/dev/null >rest; \
                    if mkdir more 2>/dev/null; then echo 'there is room'; fi";

fn device(path: &Path) -> u64 {
    fs::metadata(path).expect("there").dev()
}

fn state(world: &World, vm: &str) -> Value {
    world.json(["workspace", "status", vm, "--json"])
}

#[test]
fn item_17_a_linked_worktree_elsewhere_goes_in_without_git_and_its_work_comes_out() {
    let world = World::new(Who::Caller);
    if !Path::new(IN_MEMORY).is_dir() || device(Path::new(IN_MEMORY)) == device(world.folder()) {
        return skipped("there is no other file system than the one of the world");
    }
    let folder = tempfile::Builder::new().prefix("cove-e2e").tempdir_in(IN_MEMORY).expect("made");
    let repository = world.repo_in(folder.path());
    let linked = folder.path().join("linked");
    let path = linked.to_str().expect("UTF-8");
    repository.git(&["worktree", "add", "--quiet", "-b", "other", path]);
    fs::write(linked.join("README.md"), "# Edited in the linked tree\n").expect("written");
    let git_folder = repository.path.join(".git");
    let before = (world.fingerprint(&git_folder), world.fingerprint(&linked));

    let vm = world.start("song", &[path, "--mode", "full", "--root-disk", "1G"]);
    assert_eq!(vm["workspace"]["mode"], "full");
    let inside = "cd /root/linked && cat README.md && ls -A | tr '\\n' ' '";
    let expected = "# Edited in the linked tree\n.gitignore README.md link run.sh verses ";
    assert_eq!(world.guest("song", inside), expected);
    assert_eq!(state(&world, "song")["unexported"], json!(false));
    let work = "cd /root/linked && echo new >new.txt && echo built >x.log && rm verses/three.txt";
    world.guest("song", work);
    world.cove(["delete", "song"]).status(4).says("2 files have changed");
    world.cove(["workspace", "prepare", "song"]).status(4).says("`new.txt`, `verses/three.txt`");
    let bundle = folder.path().join("bundle");
    let words = ["workspace", "export", "song", "--bundle", bundle.to_str().expect("UTF-8")];
    world.cove(words).status(4).says("without its git");
    let patch = world.cove(["workspace", "export", "song"]).success().stdout;
    assert!(patch.contains("b/new.txt") && !patch.contains("x.log"), "{patch}");
    a_full_disk_is_no_matter(&world, &patch);
    let after = (world.fingerprint(&git_folder), world.fingerprint(&linked));
    assert_eq!(after, before, "the source is as it was");
    world.cove(["workspace", "export", "song", "--apply"]).success().says("applied 2 files");
    assert_eq!(fs::read_to_string(linked.join("new.txt")).expect("applied"), "new\n");
    assert!(!linked.join("verses/three.txt").exists());
    // Brought up to date with that, it stays without git, and so after a restart.
    world.cove(["workspace", "prepare", "song", "--include-untracked"]).success();
    world.cove(["restart", "song"]).success();
    assert_eq!(state(&world, "song")["unexported"], json!(false));
    let there = world.guest("song", "cd /root/linked && ls -A | tr '\\n' ' '");
    assert_eq!(there, ".gitignore README.md link new.txt run.sh verses x.log ");
    world.cove(["delete", "song"]).success();

    // The other way round: git without files.
    let vm = world.start("git", &[repository.arg(), "--mode", "metadata"]);
    assert_eq!(vm["workspace"]["mode"], "metadata");
    let git = "cd /root/song && ls -A && git status --short && git log --format=%s | wc -l";
    assert_eq!(world.guest("git", git), ".git\n2\n");
    assert_eq!(state(&world, "git")["changes_total"], json!(0));
    world.cove(["workspace", "export", "git", "--base", "HEAD"]).success().prints("");
    world.guest("git", "cd /root/song && git sparse-checkout disable && rm run.sh");
    let state = state(&world, "git");
    let deleted = json!([{ "path": "run.sh", "change": "deleted" }]);
    assert_eq!((&state["changes"], &state["unexported"]), (&deleted, &json!(true)));
    world.cove(["workspace", "prepare", "git", "--discard-work"]).success();
    assert_eq!(world.guest("git", git), ".git\n2\n");
    odd::comes_and_goes(&world);
    world.cove(["delete", "git"]).success();
    world.finish();
}

/// Where there is no git, a look needs an empty one. It lies in memory, so that a full disk is in no one's way.
fn a_full_disk_is_no_matter(world: &World, patch: &str) {
    assert_eq!(world.guest("song", FILL), "", "the guest's disk is not full");
    assert_eq!(state(world, "song")["unexported"], json!(false));
    world.cove(["workspace", "export", "song"]).success().prints(patch);
    world.guest("song", "rm /opt/filler /opt/rest");
}
