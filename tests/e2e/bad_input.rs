//! Bad input: one clear sentence with a hint on stderr, the right exit status, and nothing left behind.

use std::fs;

use crate::harness::{QUICK, Ran, Who, World, as_everybody, tool};

/// Runs `cove`, which must refuse with this status, say this and one error, and leave nothing.
#[track_caller]
fn refused(world: &World, arguments: &[&str], status: i32, said: &str) -> Ran {
    let ran = world.command(arguments).deadline(QUICK).run().status(status).prints("").says(said);
    assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
    let hinted = ["\nhint: ", "tip: ", "try '--help'"].iter().any(|hint| ran.stderr.contains(hint));
    assert!(hinted, "no hint: {}", ran.told());
    assert_eq!(world.json(["list", "--json"]), serde_json::json!([]), "{}", ran.told());
    assert_eq!(world.vm_folders(), [""; 0], "{}", ran.told());
    ran
}

as_everybody!(requests_that_cannot_be_are_refused);

fn requests_that_cannot_be_are_refused(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    let folder = |name: &str| world.folder().join(name).to_str().expect("UTF-8").to_owned();
    fs::create_dir(folder("plain")).expect("made");
    fs::write(folder("file"), "no folder\n").expect("written");
    tool("git", &["init", "--quiet", "--bare", &folder("bare.git")], &[]).success();
    let long = "x".repeat(64);
    let [missing, plain, file, bare, inside] = [
        folder("missing"),
        folder("plain"),
        folder("file"),
        folder("bare.git"),
        folder("work/song/.git"),
    ];
    let with = |flags: &[&'static str]| [&["run"][..], flags, &["--", "true"]].concat();
    for (arguments, said) in [
        (vec!["run", &missing, "--rm", "--", "true"], "does not exist"),
        (vec!["run", &plain, "--rm", "--", "true"], "is not in a git repository"),
        (vec!["run", &file, "--rm", "--", "true"], "is not a folder"),
        (vec!["run", &bare, "--rm", "--", "true"], "is bare"),
        (vec!["run", &inside, "--rm", "--", "true"], "`.git` folder"),
        (vec!["run", "--dry-run", &missing], "does not exist"),
        (with(&["--name", "Bad_Name"]), "Bad_Name"),
        (with(&["--name", "-a"]), "-a"),
        (with(&["--name", "a-"]), "a-"),
        (with(&["--name", "../up"]), "../up"),
        (with(&["--name", ""]), "name"),
        (vec!["run", "--name", &long, "--", "true"], &long),
        (with(&["--vcpu", "0"]), "0 virtual processors"),
        (with(&["--vcpu", "1000"]), "1000 virtual processors"),
        (with(&["--vcpu", "two"]), "two"),
        (with(&["--memory", "1K"]), "whole MiB"),
        (with(&["--memory", "64M"]), "64 MiB of memory"),
        (with(&["--memory", "lots"]), "lots"),
        (with(&["--disk", "1M"]), "work disk"),
        (with(&["--root-disk", "1K"]), "root disk"),
        (with(&["--image", "no-such-image"]), "no-such-image"),
        (with(&["--image", "../image"]), "../image"),
        (with(&["--net", "everything"]), "everything"),
        (with(&["--env", "NOVALUE"]), "NOVALUE"),
        (vec!["run", "-d", "--rm"], "`--detach` and `--rm`"),
        (with(&["-d"]), "`--detach` cannot run a command"),
        (with(&["--no-such-flag"]), "--no-such-flag"),
        (vec!["run", "--include-untracked", "--", "true"], "PATH"),
    ] {
        refused(&world, &arguments, 125, said).says("kind: ");
    }
    drop(repository);
    other_commands(&world);
    world.finish();
}

/// The same faults where the exit status tells the kind.
fn other_commands(world: &World) {
    for (arguments, status, said) in [
        (&["create", "--name", "Bad_Name"][..], 2, "Bad_Name"),
        (&["create", "--vcpu", "0"], 2, "0 virtual processors"),
        (&["create", "--memory", "1K"], 2, "whole MiB"),
        (&["create", "--memory", "64M"], 2, "64 MiB of memory"),
        (&["create", "--image", "no-such-image"], 3, "no-such-image"),
        (&["start", "nobody"], 3, "nobody"),
        (&["stop", "nobody"], 3, "nobody"),
        (&["kill", "nobody"], 3, "nobody"),
        (&["delete", "nobody"], 3, "nobody"),
        (&["show", "nobody"], 3, "nobody"),
        (&["logs", "nobody"], 3, "nobody"),
        (&["op", "show", "00000000"], 2, "00000000"),
        (&["no-such-command"], 2, "no-such-command"),
    ] {
        refused(world, arguments, status, said);
    }
    world.cove(["create", "--name", "taken"]).success();
    let vms = world.json(["list", "--json"]);
    for (arguments, status) in [
        (&["create", "--name", "taken"][..], 4),
        (&["run", "--name", "taken", "--", "true"], 125),
        (&["run", "--dry-run", "--name", "taken"], 125),
    ] {
        world
            .cove(arguments)
            .status(status)
            .prints("")
            .says("named `taken` already")
            .says("\nhint: ");
    }
    world.cove(["exec", "taken", "--", "true"]).status(125).says("kind: conflict");
    assert_eq!(world.json(["list", "--json"]), vms, "the first one is as it was");
    world.cove(["delete", "taken"]).success();
    world.assert_no_vm(&[]);
}

as_everybody!(a_configuration_that_is_wrong_is_named_and_no_daemon_stays);

fn a_configuration_that_is_wrong_is_named_and_no_daemon_stays(who: Who) {
    let world = World::new(who);
    let entry = |rest: &str| format!("[[file_sync]]\nhost = \"~/.tokens\"\n{rest}\n");
    for (text, said) in [
        ("memroy = \"1G\"\n".to_owned(), "memroy"),
        ("[monitor]\nqmeu = \"x\"\n".to_owned(), "qmeu"),
        ("[vm\n".to_owned(), "config.toml"),
        (entry("guest = \"/etc/shadow\""), "entry 1 (host `~/.tokens`)"),
        (entry("guest = \"~/../../etc/shadow\""), "`..`"),
        (entry("guest = \"\""), "empty"),
        (entry("guest = \"~root/x\""), "`~/`"),
        (entry("guest = \"~/x\"\nmode = \"rw\""), "octal"),
        (entry("guest = \"~/x\"\nmode = \"04755\""), "0777"),
    ] {
        fs::write(world.home.join("config.toml"), &text).expect("written");
        for (arguments, status) in
            [(&["run", "--rm", "--", "true"][..], 125), (&["create"], 2), (&["list"], 2)]
        {
            let ran = world.command(arguments).deadline(QUICK).run().status(status).prints("");
            let ran = ran.says(said).says("\nhint: ");
            assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
        }
        world.assert_no_process(&[]);
    }
    world.configure("");
    assert_eq!(world.json(["list", "--json"]), serde_json::json!([]));
    world.finish();
}
