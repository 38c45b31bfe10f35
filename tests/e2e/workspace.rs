//! A repository on its way into a guest: all of what should go in, nothing else, and nothing of the
//! source changed.

use std::fs;

use crate::harness::{QUICK, Repository, Who, World, as_everybody, tool};

/// What a script prints about one checkout, a line for each question.
fn answers(world: &World, vm: &str, script: &str) -> Vec<String> {
    world.guest(vm, script).lines().map(str::to_owned).collect()
}

as_everybody!(a_repository_goes_in_as_it_is_and_stays_as_it_was);

fn a_repository_goes_in_as_it_is_and_stays_as_it_was(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    let before = world.fingerprint(&repository.path);
    // A folder below the root stands for the repository.
    let below = repository.path.join("verses");
    let vm = world.start("song", &[below.to_str().expect("UTF-8")]);
    assert_eq!(vm["workspace"]["guest_path"], "/root/song");
    assert_eq!(vm["workspace"]["source_path"], repository.arg());
    let head = repository.git(&["rev-parse", "HEAD"]).stdout;
    assert_eq!(vm["workspace"]["base_commit"], head.trim());

    let script = "pwd; cat README.md; stat -c %a run.sh README.md; readlink link; ./run.sh; \
        cat 'verses/one two.txt'; git status --short; git rev-parse HEAD; \
        git config --local user.email; git remote get-url origin; git log --format=%s | wc -l";
    let expected = [
        "/root/song",
        "# A song, edited and not committed",
        "755",
        "644",
        "README.md",
        "la",
        "one",
        " M README.md",
        head.trim(),
        "ada@example.org",
        "https://git.example/songs/song.git",
        "2",
    ];
    assert_eq!(answers(&world, "song", script), expected);
    for absent in ["/root/song/.env", "/root/song/debug.log", "/root/song/target", "/root/root"] {
        world.cove(["exec", "song", "--", "test", "-e", absent]).status(1);
    }
    let leaked = "grep -r -l s3cret /root /etc /tmp /run 2>/dev/null; \
                  grep -r -l 'must never leave' /root; echo end";
    assert_eq!(world.guest("song", leaked), "end\n", "no token, no ignored file, no private key");
    assert_eq!(world.fingerprint(&repository.path), before, "the source is as it was");

    world.cove(["stop", "song"]).success();
    world.finish();
}

/// A linked worktree of the repository, on a branch of its own, in a state like the repository's.
fn linked_worktree(world: &World, repository: &Repository) -> std::path::PathBuf {
    let path = world.folder().join("work/linked tree");
    let text = path.to_str().expect("UTF-8");
    repository.git(&["worktree", "add", "--quiet", "-b", "other", text]);
    fs::write(path.join("README.md"), "# Edited in the linked tree\n").expect("written");
    fs::write(path.join(".env"), "TOKEN=of the linked tree\n").expect("written");
    fs::write(path.join("debug.log"), "ignored\n").expect("written");
    path
}

as_everybody!(untracked_files_go_in_from_a_linked_worktree_when_asked_for);

fn untracked_files_go_in_from_a_linked_worktree_when_asked_for(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    let linked = linked_worktree(&world, &repository);
    let before = (world.fingerprint(&repository.path), world.fingerprint(&linked));
    let script = "pwd; cat README.md .env; ls -A | tr '\\n' ' '; git status --short; \
                  git branch --show-current; git log -1 --format=%s";
    let path = linked.to_str().expect("UTF-8");
    let arguments = ["run", path, "--rm", "--include-untracked", "--", "sh", "-c", script];
    let ran = world.cove(arguments).success();
    let expected = format!(
        "/root/linked tree\n# Edited in the linked tree\nTOKEN=of the linked tree\n\
         .env .git .gitignore README.md link run.sh verses  M README.md\n?? .env\nother\n{}\n",
        repository.subject()
    );
    let ran = ran.prints(&expected);
    assert!(!ran.stderr.contains("left out"), "{}", ran.told());
    let after = (world.fingerprint(&repository.path), world.fingerprint(&linked));
    assert_eq!(after, before, "the sources are as they were");
    world.finish();
}

as_everybody!(a_dry_run_tells_everything_and_makes_nothing);

fn a_dry_run_tells_everything_and_makes_nothing(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    fs::write(world.user_home.join("notes.txt"), "notes\n").expect("written");
    let sync =
        "[[file_sync]]\nhost = \"~/notes.txt\"\nguest = \"~/.notes/today.txt\"\nmode = \"0640\"\n";
    world.configure(sync);
    let before = world.fingerprint(&repository.path);
    let dry = ["run", "--dry-run", repository.arg()];
    let text = world.command(dry).deadline(QUICK).run().success().stdout;
    for expected in [
        "repository: ",
        "-> ~/song",
        "README.md",
        "verses/one two.txt",
        "left out: 1 untracked",
        "https://git.example/songs/song.git",
        "hook file-sync",
        "~/.notes/today.txt 0640 (6 bytes)",
        "hook git-identity",
        "~/.gitconfig",
        "hook ssh-key",
        "~/.ssh/authorized_keys 0600",
    ] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    for unexpected in [".env", "debug.log", "s3cret"] {
        assert!(!text.contains(unexpected), "`{unexpected}` in\n{text}");
    }
    let plan = world.json([&dry[..], &["--json"]].concat());
    let plugins: Vec<_> = plan["hooks"].as_array().expect("hooks").iter().collect();
    let plugins: Vec<_> = plugins.iter().map(|hook| hook["plugin"].as_str()).collect();
    assert_eq!(plugins, [Some("file-sync"), Some("git-identity"), Some("ssh-key")]);
    assert_eq!(plan["machine"]["memory_mib"], 256);
    assert_eq!(plan["workspace"]["untracked_left_out"], 1);
    let files = plan["workspace"]["files"].as_array().expect("files").len();
    let tracked = repository.git(&["ls-files"]).stdout.lines().count();
    assert_eq!(files, tracked);

    assert_eq!(world.fingerprint(&repository.path), before);
    world.assert_no_vm(&[]);
    let names = tool("ls", &["-A", world.home.to_str().expect("UTF-8")], &[]).stdout;
    assert!(!names.contains("vms") || world.vm_folders().is_empty(), "{names}");
    assert_eq!(world.json(["op", "list", "--json"]), serde_json::json!([]));
    world.finish();
}
