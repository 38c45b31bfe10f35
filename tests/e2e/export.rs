//! Work on its way out of a guest: all of what was done, nothing else, and nothing touched on either side.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Repository, Who, World, as_everybody};

/// What is done in the guest: edits, commits, a merge, modes, links, odd names, binary files, ignored ones.
const WORK: &str = r##"set -e
cd /root/song
git config user.email guest@example.org && git config user.name Guest
echo "# Edited again" >README.md
git commit -qam "In the guest"
git checkout -qb side && head -c 70000 /dev/urandom >noise.bin && git add . && git commit -qm "Noise"
git checkout -q main && git mv "verses/one two.txt" "verses/ü
new" && git commit -qm "Renamed" && git merge -q --no-edit side
chmod -x run.sh
ln -sfn /etc/hostname link
rm verses/three.txt
mkdir -p deep/er && printf 'no end' >deep/er/file
echo ignored >more.log
"##;

/// The guest's tree as git would commit it, without its index being touched.
const TREE: &str = "cd /root/song && cp .git/index /tmp/index && \
                    GIT_INDEX_FILE=/tmp/index git -c core.fileMode=true add -A && \
                    GIT_INDEX_FILE=/tmp/index git write-tree";

/// A fresh clone of the repository, with the patch applied; its tree.
fn tree_with(world: &World, repository: &Repository, name: &str, patch: &Path) -> String {
    let clone = world.folder().join("work").join(name);
    repository.git(&[
        "clone",
        "-q",
        "--no-local",
        repository.arg(),
        clone.to_str().expect("UTF-8"),
    ]);
    let inside = |arguments: &[&str]| {
        let clone = ["-C", clone.to_str().expect("UTF-8")];
        repository.git(&[&clone[..], arguments].concat()).stdout.trim().to_owned()
    };
    inside(&["apply", "--whitespace=nowarn", patch.to_str().expect("UTF-8")]);
    inside(&["add", "-A"]);
    inside(&["write-tree"])
}

fn out(world: &World, name: &str) -> PathBuf {
    world.folder().join("work").join(name)
}

as_everybody!(item_16_18_an_export_is_all_of_the_work_and_touches_nothing);

fn item_16_18_an_export_is_all_of_the_work_and_touches_nothing(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    let before = world.fingerprint(&repository.path);
    world.start("song", &[repository.arg()]);

    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!(state["changes_total"], 0, "{state}");
    assert_eq!(
        (&state["unexported"], &state["source_moved"], &state["commits_ahead"]),
        (&json!(false), &json!(false), &json!(0))
    );
    let ran = world.cove(["workspace", "export", "song"]).success().prints("");
    ran.says("nothing has changed");

    world.guest("song", WORK);
    let sums = "cd /root/song && find . -type f -not -name index -print0 | sort -z | \
                xargs -0 sha256sum | sha256sum && sha256sum .git/index && git status --short";
    let untouched = world.guest("song", sums);
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!((&state["unexported"], &state["commits_ahead"]), (&json!(true), &json!(4)));
    let kept = world.cove(["delete", "song"]).status(4).says("work that was not exported");
    kept.says("8 files have changed, such as `README.md`").says("delete --discard-work song");
    let names = world.cove(["workspace", "export", "song", "--name-only"]).success().stdout;
    let expected = "README.md\ndeep/er/file\nlink\nnoise.bin\nrun.sh\nverses/one two.txt\n\
                    verses/three.txt\n\"verses/\\303\\274\\nnew\"\n";
    assert_eq!(names, expected);
    let text = world.cove(["workspace", "status", "song"]).success().stdout;
    assert!(text.contains("not exported") && text.contains("A deep/er/file"), "{text}");

    // To the base commit, it makes the guest's tree of a fresh clone.
    let (patch, base) = (out(&world, "work.patch"), out(&world, "base.patch"));
    let to = |patch: &Path| format!("--output={}", patch.to_str().expect("UTF-8"));
    world.cove(["workspace", "export", "song", "--base", "HEAD", &to(&base)]).success().prints("");
    world.cove(["workspace", "export", "song", &to(&patch)]).success().prints("");
    let same = world.cove(["workspace", "export", "song"]).success().stdout;
    assert!(same.contains("GIT binary patch") && !same.contains("more.log"), "{same}");
    assert_eq!(
        world.guest("song", sums),
        untouched,
        "the guest's files and index are as they were"
    );
    assert_eq!(world.fingerprint(&repository.path), before, "the source is as it was");
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!(state["unexported"], json!(false), "{state}");

    // It is there after another boot, and so is what is known of it.
    world.cove(["restart", "song"]).success();
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!((&state["unexported"], &state["changes_total"]), (&json!(false), &json!(8)));
    let tree = world.guest("song", TREE);
    assert_eq!(tree_with(&world, &repository, "clone", &base), tree.trim());

    commits(&world, &repository);

    // What went in was edited: the patch to that fits only there.
    repository.git(&["apply", "--check", patch.to_str().expect("UTF-8")]);
    applied(&world, &repository, &patch);
    refused(&world, &repository);
    world.finish();
}

/// The commits come as they are, as a bundle.
fn commits(world: &World, repository: &Repository) {
    let bundle = out(world, "work.bundle");
    let words = ["workspace", "export", "song", "--bundle", bundle.to_str().expect("UTF-8")];
    world.cove(words).success().prints("");
    let clone = out(world, "clone");
    let clone = clone.to_str().expect("UTF-8");
    let fetch = ["-C", clone, "fetch", "-q", bundle.to_str().expect("UTF-8"), "main", "side"];
    repository.git(&fetch);
    let fetched = repository.git(&["-C", clone, "log", "-1", "--format=%s", "FETCH_HEAD"]).stdout;
    assert_eq!(fetched, "Merge branch 'side'\n");
}

/// Applied, the source's files are the guest's, and nothing else of it is touched.
fn applied(world: &World, repository: &Repository, patch: &Path) {
    let apply = |more: &[&str]| {
        world.cove([&["workspace", "export", "song", "--apply"], more].concat()).prints("")
    };
    let git_folder = repository.path.join(".git");
    let before = world.fingerprint(&git_folder);
    apply(&[]).success().says("applied 8 files to");
    apply(&[]).success().says("nothing to apply");
    assert_eq!(world.fingerprint(&git_folder), before, "index, refs and configuration");
    repository.git(&["apply", "--check", "--reverse", patch.to_str().expect("UTF-8")]);
    // More work, on top of what was applied, of which something runs by itself.
    let more = "cd /root/song && echo 'touch /tmp/ran' >.envrc && echo 'And again' >>README.md";
    world.guest("song", more);
    apply(&[]).status(2).says(".envrc (direnv runs it)").says("--yes");
    repository.write("README.md", "# Edited on the host\n");
    apply(&["--yes"]).status(4).says("`README.md`").says("--3way");
    assert!(!repository.path.join(".envrc").exists(), "all or nothing");
    apply(&["--yes", "--3way"]).status(1).says("`README.md`");
    let merged = std::fs::read_to_string(repository.path.join("README.md")).expect("read");
    for line in ["# Edited on the host", "# Edited again", "And again"] {
        assert!(merged.lines().any(|merged| merged == line), "{merged}");
    }
    assert!(repository.path.join(".envrc").exists());
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!(state["unexported"], json!(true), "{state}");
}

fn refused(world: &World, repository: &Repository) {
    let export = |arguments: &[&str]| world.cove([&["workspace", "export"], arguments].concat());
    export(&["nobody"]).status(3).says("nobody");
    export(&["song", "--base", "v9"]).status(3).says("there is no commit `v9`");
    export(&["song", "--output", "/nowhere/x"]).status(1).says("cannot write `/nowhere/x`");
    world.json(["run", "-d", "--json", "--name", "bare"]);
    export(&["bare"]).status(4).says("no repository was put into it");
    // A repository in the workspace is not of it, and is said to be left out.
    world.guest("song", "git init -q /root/song/inside && touch /root/song/inside/file");
    export(&["song"]).success().says("the repository `inside/` inside it left out");
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!(state["unexported"], json!(true));
    // The guest's git is the only one that knows what is ignored.
    world.guest("song", "mv /root/song/.git /root/song/.tig");
    export(&["song"]).status(1).says("not a git repository").says("cove exec song");
    world.guest("song", "mv /root/song/.tig /root/song/.git; rm -r /root/song/inside");
    // The source may go away meanwhile; what went in is on the host.
    let away = repository.path.with_extension("away");
    std::fs::rename(&repository.path, &away).expect("renamed");
    export(&["song"]).success();
    export(&["song", "--base", "HEAD"]).status(3);
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert!(state["source_moved"].is_null(), "{state}");
    std::fs::rename(&away, &repository.path).expect("renamed");
    world.cove(["stop", "song"]).success();
    // What was there when it stopped is known; its git cannot be asked.
    export(&["song"]).success();
    let state = world.json(["workspace", "status", "song", "--json"]);
    assert_eq!((&state["unexported"], &state["commits_ahead"]), (&json!(false), &json!(null)));
    let bundle = out(world, "late.bundle");
    export(&["song", "--bundle", bundle.to_str().expect("UTF-8")])
        .status(4)
        .says("is not running, and a bundle is made by its git")
        .says("cove start song");
    // Exported before it stopped: nothing is lost. The other one runs on.
    world.cove(["prune", "-f"]).success().prints("song\n");
    world.cove(["delete", "bare"]).success();
}
