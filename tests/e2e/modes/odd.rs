//! What is odd in a repository, in a guest and back: names that differ in little, a submodule with its git, an object of
//! git-lfs. Nothing of it is lost, nor takes the place of something else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::state;
use crate::harness::{Ran, Repository, World};

/// The machine; whatever is in it, the repository takes its place.
const VM: &str = "git";

/// Files whose names differ in case only, or in how their characters are put together only, and one whose name is no
/// text at all.
const FILES: [(&[u8], &str); 5] = [
    (b"Case/README", "upper\n"),
    (b"Case/readme", "lower\n"),
    (b"\xc3\xa9.txt", "composed\n"),
    (b"e\xcc\x81.txt", "decomposed\n"),
    (b"odd \"it's\"\nname \xff\xfe.txt", "odd\n"),
];

/// What a pointer of git-lfs stands for.
const LARGE: &str = "what is large\n";

/// What git says of the guest's checkout and of its submodule's, as [`assert_same`] asks of the source's.
const GIT: &str = "cd /root/song && git ls-files --stage && git rev-parse HEAD 'HEAD^{tree}' && \
                   cd vendor/lib && git ls-files --stage && git log --format='%H %s' && \
                   git status --porcelain";

/// The tree of the files that lie there, without the index being touched.
const TREE: &str = "cd /root/song && cp .git/index /tmp/index && export GIT_INDEX_FILE=/tmp/index && \
                    git -c core.fileMode=true add -A && git write-tree";

/// Work on all that is odd.
const WORK: &str = r#"cd /root/song && mv Case/ReadMe Case/README && echo again >Case/readme && \
    echo more >>"$(printf '\303\251.txt')" && rm e*.txt && mv odd* "$(printf 'other\n\351.txt')" && \
    ln -sfn 'no where' link && chmod -x run.sh && echo '#!/bin/sh' >new.sh && chmod +x new.sh && \
    echo deep >>vendor/lib/README.md"#;

/// The names of what that has changed.
const NAMES: &str = r#"Case/README
Case/ReadMe
Case/readme
"e\314\201.txt"
link
new.sh
"odd \"it's\"\nname \377\376.txt"
"other\n\351.txt"
run.sh
vendor/lib/README.md
"\303\251.txt"
"#;

/// The whole way.
pub(super) fn comes_and_goes(world: &World) {
    let repository = source(world);
    let before = world.fingerprint(&repository.path);
    world.guest(VM, "rm -r /root/song");
    let ran = prepare(world, &[repository.arg(), "--mode", "shallow", "--discard-work"]);
    let ran = ran.success().prints("/root/song\n");
    ran.says("1 object of git-lfs (14 bytes) put in");
    assert!(world.fingerprint(&repository.path) == before, "the source has changed");
    assert_same(world, &repository);
    let look = format!(
        "cd /root/song && cat Case/README Case/readme && readlink link && stat -c %a run.sh && \
         cat {} && test ! -e empty",
        object()
    );
    let expected = format!("upper\nlower\nREADME.md\n755\n{LARGE}");
    assert_eq!(world.guest(VM, &look), expected);
    commits_in_the_submodule(world, &repository);
    another_in_its_place(world, &repository);
    back(world, &repository);
}

/// A repository with all of that.
fn source(world: &World) -> Repository {
    let library = world.repo_in(&world.folder().join("library"));
    let repository = world.repo();
    for folder in ["Case", "empty"] {
        fs::create_dir(repository.path.join(folder)).expect("made");
    }
    for (name, text) in FILES {
        fs::write(repository.path.join(OsStr::from_bytes(name)), text).expect("written");
    }
    repository.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        hash(),
        LARGE.len()
    );
    repository.write("large.bin", &pointer);
    repository.write(&object(), LARGE);
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q"];
    repository.git(&[&add[..], &[library.arg(), "vendor/lib"]].concat());
    repository.git(&["add", "."]);
    repository.git(&["commit", "--quiet", "-m", "Add what is odd"]);
    repository
}

fn hash() -> String {
    Sha256::digest(LARGE).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the object of git-lfs is, in either checkout.
fn object() -> String {
    let hash = hash();
    format!(".git/lfs/objects/{}/{}/{hash}", &hash[..2], &hash[2..4])
}

fn prepare(world: &World, more: &[&str]) -> Ran {
    world.cove([&["workspace", "prepare", VM], more].concat())
}

/// Asserts that git says the same of both checkouts and of their submodules, in which nothing has changed, and that the
/// guest's files are those of the commit.
#[track_caller]
fn assert_same(world: &World, repository: &Repository) {
    let questions = [
        &["ls-files", "--stage"][..],
        &["rev-parse", "HEAD", "HEAD^{tree}"],
        &["-C", "vendor/lib", "ls-files", "--stage"],
        &["-C", "vendor/lib", "log", "--format=%H %s"],
    ];
    let here = questions.map(|words| repository.git(words).stdout).concat();
    assert_eq!(world.guest(VM, GIT), here, "what git says in the guest, and in the source");
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]).stdout;
    assert_eq!(world.guest(VM, TREE), tree, "the guest's files are not those of the commit");
}

/// Commits of the guest in the submodule are in the way until they are exported, and stay there when the source goes on:
/// here by a name of which only the case is another.
fn commits_in_the_submodule(world: &World, repository: &Repository) {
    let work = "cd /root/song/vendor/lib && git checkout -q -b mine && echo mine >README.md && \
                git commit -qam 'In the guest' && git log -1 --format=%s && git rev-parse HEAD";
    let said = world.guest(VM, work);
    let mine = said.strip_prefix("In the guest\n").unwrap_or_else(|| panic!("{said}")).trim();
    prepare(world, &[]).status(4).says("`vendor/lib/README.md`");
    let exported = world.cove(["workspace", "export", VM]).success();
    let exported = exported.says("the submodule `vendor/lib` has another commit checked out");
    let told = exported.told();
    assert!(exported.stdout.contains("\n+++ b/vendor/lib/README.md\n"), "{told}");

    repository.git(&["mv", "Case/README", "Case/ReadMe"]);
    repository.write("Case/readme", "otherwise\n");
    repository.git(&["commit", "--quiet", "-am", "Write it in another case"]);
    let kept = format!("refs/cove/before-{}", &mine[..12]);
    let ran = prepare(world, &[]).success();
    ran.says(&format!("in the submodule `vendor/lib` stay there as `{kept}`"));
    assert_same(world, repository);
    let look = format!("cd /root/song && ls Case && git -C vendor/lib rev-parse {kept} mine");
    assert_eq!(world.guest(VM, &look), format!("ReadMe\nreadme\n{mine}\n{mine}\n"));
}

/// Another repository in the submodule's place is somebody's, and stays also when work is given up.
fn another_in_its_place(world: &World, repository: &Repository) {
    let replace = "cd /root/song && rm -r vendor/lib && git init -q vendor/lib && cd vendor/lib && \
                   echo own >own.txt && git add . && git commit -qm Own && git rev-parse HEAD";
    let own = world.guest(VM, replace);
    prepare(world, &[]).status(4).says("`vendor/lib/own.txt`");
    let refused = prepare(world, &["--discard-work"]).status(1);
    refused.says("`vendor/lib/.git` is not as the host knows it, and would be lost: move it away");
    let look = "cd /root/song/vendor/lib && ls -A && git rev-parse HEAD && git status --porcelain && \
                ls -A /root | grep -c '^.cove' || true";
    assert_eq!(world.guest(VM, look), format!(".git\nown.txt\n{own}0\n"), "it is as it was");
    world.guest(VM, "mv /root/song/vendor/lib /root/theirs");
    prepare(world, &["--discard-work"]).success();
    assert_same(world, repository);
    assert_eq!(world.guest(VM, "git -C /root/theirs rev-parse HEAD"), own);
}

/// Work comes back into the source as it is in the guest.
fn back(world: &World, repository: &Repository) {
    world.guest(VM, WORK);
    world.cove(["workspace", "export", VM, "--name-only"]).success().prints(NAMES);
    let ran = world.cove(["workspace", "export", VM, "--apply", "--yes"]).success();
    ran.says("applied 11 files to");
    repository.git(&["add", "--all"]);
    let questions = [&["ls-files", "--stage"][..], &["write-tree"]];
    let here = questions.map(|words| repository.git(words).stdout).concat();
    let add = "cd /root/song && git -c core.fileMode=true add --all && git ls-files --stage && \
               git write-tree && cat vendor/lib/README.md";
    let inside = fs::read_to_string(repository.path.join("vendor/lib/README.md")).expect("read");
    assert_eq!(world.guest(VM, add), here + &inside, "the guest, and the source with its work");
    assert!(inside.ends_with("deep\n"), "{inside}");
    assert_eq!(state(world, VM)["unexported"], json!(false));
}
