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
        (with(&["--vcpu", "0"]), "0 virtual processors"),
        (with(&["--vcpu", "1000"]), "1000 virtual processors"),
        (with(&["--vcpu", "two"]), "two"),
        (with(&["--memory", "1K"]), "whole MiB"),
        (with(&["--memory", "64M"]), "64 MiB of memory"),
        (with(&["--memory", "lots"]), "lots"),
        (with(&["--memory", "1T"]), "do not exist"),
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
    repository.is_as_it_was_made();
    other_commands(&world);
    world.finish();
}

/// The same faults where the exit status tells the kind.
fn other_commands(world: &World) {
    for (arguments, status, said) in [
        (&["create", "--vcpu", "0"][..], 2, "0 virtual processors"),
        (&["create", "--memory", "1K"], 2, "whole MiB"),
        (&["create", "--memory", "64M"], 2, "64 MiB of memory"),
        (&["create", "--image", "no-such-image"], 3, "no-such-image"),
        (&["create", "--memory", "1T"], 2, "do not exist"),
        (&["kill", "nobody", "--signal", "FOO"], 2, "there is no signal `FOO`"),
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

as_everybody!(item_24_bad_names_stop_at_the_edge);

fn item_24_bad_names_stop_at_the_edge(who: Who) {
    let world = World::new(who);
    let [longest, long, path] = [63, 64, 5000].map(|length| "x".repeat(length));
    for bad in [
        "",
        " ",
        "a b",
        "-",
        "-a",
        "a-",
        "Web",
        "web_1",
        "a.b",
        ".",
        "..",
        "../up",
        "/etc",
        "a/b",
        "a\\b",
        "größe",
        "a\u{0301}",
        "☃",
        "a\n",
        "a\t",
        "\u{1b}[31m",
        "$(id)",
        "`id`",
        "a;b",
        "'a'",
        "*",
        &long,
        &path,
    ] {
        let name = format!("--name={bad}");
        for (arguments, status) in [
            (&["create", &name][..], 2),
            (&["run", &name, "--", "true"], 125),
            (&["run", "--dry-run", &name], 125),
        ] {
            let ran = refused(&world, arguments, status, "name");
            assert!(!ran.stderr.contains('\u{1b}'), "it is shown escaped: {}", ran.told());
        }
    }
    let good = ["a", "0", "a-b", "0-0", "xn--n3h", &longest];
    for name in good {
        world.cove(["create", "--name", name]).success().prints(&format!("{name}\n"));
    }
    world.cove([&["delete"][..], &good].concat()).success().prints(&(good.join("\n") + "\n"));
    world.assert_no_vm(&[]);
    world.finish();
}

/// Commands that take a VM, and what else they need.
const ON_A_VM: [&[&str]; 13] = [
    &["start"],
    &["stop"],
    &["restart"],
    &["kill"],
    &["delete"],
    &["touch"],
    &["show"],
    &["logs"],
    &["console"],
    &["ports"],
    &["stats"],
    &["set", "--vcpu=1"],
    &["exec", "--", "true"],
];

as_everybody!(unknown_ambiguous_and_malformed_names_are_said_to_be_that);

fn unknown_ambiguous_and_malformed_names_are_said_to_be_that(who: Who) {
    let world = World::new(who);
    let on = |command: &[&'static str], vm: &str| {
        let words = [&command[..1], &[vm], &command[1..]].concat();
        let ran = world.command(words).deadline(QUICK).run().says("\nhint: ");
        // A table of nobody has a head.
        assert!(ran.stdout.lines().count() <= usize::from(command[0] == "stats"), "{}", ran.told());
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.told());
        (ran, if command[0] == "exec" { Some(125) } else { None })
    };
    for command in ON_A_VM {
        for unknown in ["nobody", "", "../up", "\u{1b}[31mred", "ffffffffffff"] {
            let (ran, own) = on(command, unknown);
            let ran = ran.status(own.unwrap_or(3)).says("there is no VM `");
            assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.told());
        }
    }
    // Of seventeen ids, two begin with the same of sixteen digits.
    let makers: Vec<_> = (0..17).map(|_| world.command(["create"]).spawn()).collect();
    makers.into_iter().for_each(|maker| drop(maker.wait().success()));
    let vms = world.json(["list", "--json"]);
    let ids: Vec<&str> = vms
        .as_array()
        .expect("a list")
        .iter()
        .map(|vm| vm["id"].as_str().expect("an id"))
        .collect();
    let begins = |digit: char| ids.iter().copied().filter(move |id| id.starts_with(digit));
    let digit = "0123456789abcdef".chars().find(|digit| begins(*digit).count() > 1).expect("one");
    for command in ON_A_VM {
        let (ran, own) = on(command, &digit.to_string());
        let ran = ran.status(own.unwrap_or(4));
        begins(digit).for_each(|id| assert!(ran.stderr.contains(id), "{id}: {}", ran.told()));
    }
    assert_eq!(world.json(["list", "--json"]), vms, "nothing was done to any");
    world.finish();
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
