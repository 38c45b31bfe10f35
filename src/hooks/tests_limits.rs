//! A plugin that misbehaves in every way there is, as a component, and the limits that meet it. Each
//! test fails when its limit is removed: most of them would then not end.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Component;

use super::contract::KNOWN;
use super::engine::{Engine, Machine, compatibility, compiling_engine};
use super::manifest::Manifest;
use super::state::{Chance, store};
use super::tests_support::{User, lines};
use super::*;
use crate::report::{Explain, Kind};

/// What each misbehaviour comes to: its name, lines for the manifest's limits, a part of the error.
const MISBEHAVIOUR: &[(&str, &str, &str)] = &[
    ("loop", "cpu = '50ms'", "it used more than 50 ms of processor time"),
    ("write-and-loop", "cpu = '50ms'", "it used more than 50 ms of processor time"),
    ("recurse", "", "it crashed: "),
    ("allocate", "", "it wanted more than 64 MiB of memory"),
    ("allocate", "memory = '8MiB'", "it wanted more than 8 MiB of memory"),
    ("panic", "", "it panicked: at plugins/examples/hostile/src/lib.rs"),
    ("panic", "", "the moon is full"),
    ("exit", "", "it exited with status 1 instead of returning"),
    ("error", "", "redo from start (out-of-cheese)"),
    ("twice", "", "`allowed/file` is already planned (conflict)"),
    ("through-link", "", "`allowed/link` is already planned (conflict)"),
    ("mode", "", "more than permission bits (bad-argument)"),
    ("call-flood", "", "it went over its limit of"),
    ("many-files", "", "at most 2048 steps (too-many)"),
    ("many-files", "files = 3", "at most 3 steps (too-many)"),
    ("many-bytes", "", "at most 16777216 bytes (too-large)"),
    ("many-bytes", "output = '2MiB'", "at most 2097152 bytes (too-large)"),
    ("long-file", "", "at most 16777216 bytes (too-large)"),
    ("large-piece", "", "at most 1048576 bytes (too-large)"),
    ("large-call", "", "it crashed: "),
    ("many-writers", "", "it crashed: "),
    ("other-files", "", "`host-files:ssh-private-keys` is not granted (not-granted)"),
    ("other-git", "", "`git-config:credential.helper` is not granted (not-granted)"),
    ("unheard-of", "", "no misbehaviour is called `unheard-of`"),
];

#[tokio::test]
async fn misbehaviour_ends_in_one_sentence() {
    for (misbehaviour, limits, expected) in MISBEHAVIOUR {
        let user = User::with_limited_plugin(misbehaviour, limits);
        let error = user.run().await.expect_err(misbehaviour);
        let text = error.to_string();
        assert!(text.contains(expected), "{misbehaviour}: {text}");
        assert!(
            text.starts_with("plugin `hostile` failed in hook `prepare-work-disk`: "),
            "{text}"
        );
        assert!(!text.contains('\n') && error.hint().is_some(), "{text}");
    }
}

#[tokio::test]
async fn paths_outside_and_paths_not_granted_are_refused() {
    for (misbehaviour, path, expected) in [
        ("write", "../../etc/shadow", "`../../etc/shadow` is refused: it must not contain"),
        ("write", "/etc/shadow", "`/etc/shadow` is refused: it must be relative"),
        ("write", "allowed/../../x", "must not contain `.` or `..`"),
        ("write", "allowed/\0", "it has a NUL in it"),
        ("write", ".ssh/authorized_keys", "`.ssh/authorized_keys` is not granted"),
        ("write", "allowedx", "`allowedx` is not granted"),
        ("directory", "..", "must not contain `.` or `..`"),
        ("remove", ".bashrc", "`.bashrc` is not granted"),
        ("link", "/etc/shadow", "a link must be relative"),
        ("link", "../../x", "the link would leave the home"),
        ("link", "../.ssh", "`.ssh` is not granted"),
        ("marker", "two\nlines", "is no marker of a block"),
        ("marker", "", "is no marker of a block"),
    ] {
        let mut user = User::with_hostile_plugin(misbehaviour);
        user.set("hostile", "path", path);
        let text = user.failure().await;
        assert!(text.contains(expected), "{misbehaviour} {path:?}: {text}");
    }
    let mut user = User::with_hostile_plugin("link");
    user.set("hostile", "path", "../allowed/folder");
    let run = user.run().await.expect("a link among what is granted");
    assert_eq!(lines(&run.plan.steps), ["symlink allowed/link"]);
}

#[tokio::test]
async fn files_are_read_and_imported_only_as_granted() {
    for (misbehaviour, expected) in [
        ("read-imports", "`host-files.read:importable` is not granted"),
        ("import-reads", "`host-files.import:readable` is not granted"),
        ("read-forever", "a plugin reads at most 4 MiB"),
        ("hoard", "it crashed: "),
    ] {
        let mut user = User::with_hostile_plugin(misbehaviour);
        fs::create_dir(user.home.join("many")).expect("made");
        for number in 0..100 {
            fs::write(user.home.join(format!("many/{number}")), "x".repeat(4000)).expect("written");
        }
        user.map("readable", &["~/many"]);
        user.map("importable", &["~/many/*"]);
        if misbehaviour == "read-forever" {
            user.map("readable", &["~/many/*"]);
        }
        let text = user.failure().await;
        assert!(text.contains(expected), "{misbehaviour}: {text}");
    }
}

#[tokio::test]
async fn host_files_are_bounded_in_number_depth_and_bytes() {
    let mut user = User::with_hostile_plugin("import");
    user.map("importable", &["~/tree"]);
    let tree = user.home.join("tree");
    let deep = tree.join(vec!["d"; limits::WALK_DEPTH + 1].join("/"));
    fs::create_dir_all(deep).expect("made");
    assert!(user.failure().await.contains("is too deep"));

    fs::remove_dir_all(&tree).expect("removed");
    fs::create_dir(&tree).expect("made");
    for number in 0..=limits::LISTED_ENTRIES {
        fs::write(tree.join(number.to_string()), "").expect("written");
    }
    assert!(user.failure().await.contains("more than 2048 files"));

    let large = user.home.join("large");
    let file = fs::File::create(&large).expect("made");
    file.set_len(limits::IMPORTED_BYTES + 1).expect("sparse");
    user.map("importable", &["~/large"]);
    let text = user.failure().await;
    assert!(text.contains("more than 256 MiB of imported files"), "{text}");
    file.set_len(limits::IMPORTED_BYTES).expect("sparse");
    let run = user.run().await.expect("just as much as there may be");
    assert_eq!(run.hooks[0].steps[0].bytes, Some(limits::IMPORTED_BYTES));
}

#[tokio::test]
async fn a_sleeping_plugin_is_left_after_its_wall_time() {
    let user = User::with_hostile_plugin("sleep");
    let manifest = user.settings.standard_folder.join("hostile/plugin.toml");
    let text = fs::read_to_string(&manifest).expect("there");
    let text =
        text.replace("[hooks.prepare-work-disk]", "[hooks.prepare-work-disk]\ntimeout = '200ms'");
    fs::write(manifest, text).expect("written");
    let host = user.host().await;
    let began = Instant::now();
    let error = host.prepare_work_disk(&user.inputs).await.expect_err("too long");
    assert!(error.to_string().contains("it took longer than 200 ms"), "{error}");
    assert_eq!(error.kind(), Kind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_run_whose_caller_is_gone_ends() {
    let user = User::with_hostile_plugin("loop");
    let host = user.host().await;
    // Every run that goes on would hold one of the pool's few places until its processor time is used.
    for _ in 0..3 * limits::CONCURRENT {
        let run = host.prepare_work_disk(&user.inputs);
        let ended = tokio::time::timeout(Duration::from_millis(20), run).await;
        assert!(ended.is_err(), "it loops");
    }
    drop(host);
}

#[tokio::test]
async fn floods_of_text_are_cut_and_counted() {
    let run = User::with_hostile_plugin("log-flood").run().await.expect("it may talk");
    let hook = &run.hooks[0];
    let last = hook.log.last().expect("kept").text.clone();
    assert_eq!(last, "line 89999", "the newest line is kept");
    assert_eq!(hook.log.len() as u64 + hook.log_dropped, 90_000);
    let bytes: usize = hook.log.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= limits::LOG_BYTES, "{bytes}");

    let run = User::with_hostile_plugin("stderr-flood").run().await.expect("it may talk");
    let bytes: usize = run.hooks[0].log.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= limits::STDERR_BYTES, "{bytes}");
    assert!(run.hooks[0].log.iter().any(|line| line.text == "noise 9999"));

    let run = User::with_hostile_plugin("log-escape").run().await.expect("it may talk");
    assert_eq!(run.hooks[0].for_user(), ["\\u{1b}[2Jgone"]);
}

#[tokio::test]
async fn what_was_planned_before_a_failure_is_dropped() {
    let mut user = User::with_hostile_plugin("write-and-error");
    let manifest = user.settings.standard_folder.join("hostile/plugin.toml");
    let text = fs::read_to_string(&manifest).expect("there");
    let text = text
        .replace("[hooks.prepare-work-disk]", "[hooks.prepare-work-disk]\nfailure = 'optional'");
    fs::write(manifest, text).expect("written");
    let run = user.run().await.expect("it is optional");
    assert!(run.plan.steps.is_empty() && run.hooks[0].steps.is_empty());
    let told = run.hooks[0].for_user().join("\n");
    assert!(told.contains("hostile") && told.contains("changed-my-mind"), "{told}");
    user.set("hostile", "misbehaviour", "abandon-writer");
    let run = user.run().await.expect("nothing is wrong with that");
    assert!(run.plan.steps.is_empty());
    user.set("hostile", "misbehaviour", "write");
    let run = user.run().await.expect("it behaves");
    assert_eq!(lines(&run.plan.steps), ["write_file allowed/file 644 \"x\""]);
}

#[tokio::test]
async fn the_world_of_a_plugin_is_empty_and_always_the_same() {
    let user = User::with_hostile_plugin("world");
    let one = user.failure().await;
    let two = user.failure().await;
    assert_eq!(one, two);
    let expected =
        "environment 0 arguments 0 passwd false folder false network false time 946684800";
    assert!(one.contains(expected), "{one}");
    let mut other = User::with_hostile_plugin("world");
    other.rename("ba9876543210");
    assert_ne!(other.failure().await, one, "another VM has another seed");
}

/// Instantiates a component written by hand, with every limit armed. The text of the failure.
async fn instantiate(machine: &Engine, wat: &str) -> Result<(), String> {
    let bytes = wat::parse_str(wat).expect("it is a component");
    let component = Component::new(&machine.engine, bytes).map_err(|error| format!("{error:?}"))?;
    let manifest = "[plugin]\nid='a'\nversion='1'\napi='cove:hooks@0.2'\ncomponent='a'\n[hooks.prepare-work-disk]\n[limits]\ncpu='50ms'";
    let limits = Manifest::parse(manifest).expect("good").limits;
    let _ticking = machine.clock.run();
    let mut store = store(&machine.engine, &limits, &Chance::default(), Arc::default());
    let instance = async {
        let pre = machine.linker.instantiate_pre(&component)?;
        pre.instantiate_async(&mut store).await.map(drop)
    };
    let result = instance.await;
    match (result, store.data_mut().exceeded()) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(failure)) => Err(failure.to_string()),
        (Err(error), None) => Err(format!("{error:?}")),
    }
}

/// `count` core modules, each instantiated, with `field` in it.
fn modules(count: usize, field: &str) -> String {
    let instances = "(core instance (instantiate $m))".repeat(count);
    format!("(component (core module $m {field}) {instances})")
}

#[tokio::test]
async fn limits_hold_before_the_first_call() {
    let machine = Machine::new(KNOWN).expect("the engine starts");
    let machine = machine.engine(limits::Class::Small).expect("it is there");
    instantiate(machine, &modules(limits::INSTANCES, "")).await.expect("as many as there may be");
    instantiate(machine, &modules(1, "(memory 1024)")).await.expect("64 MiB");
    for (wat, expected) in [
        (modules(1, "(func $f (loop (br 0))) (start $f)"), "50 ms of processor time"),
        (modules(1, "(func $f (call $f)) (start $f)"), "call stack exhausted"),
        (modules(1, "(memory 1025)"), "memory"),
        // Each fits, together they do not.
        (modules(2, "(memory 600)"), "64 MiB of memory"),
        (modules(limits::MEMORIES + 1, "(memory 1)"), "memor"),
        (modules(1, "(memory 1) (memory 1)"), "multi"),
        (modules(1, "(memory i64 1)"), "memory64"),
        (modules(1, "(memory 1 1 shared)"), "threads"),
        (modules(1, "(table 20001 funcref)"), "table"),
        (modules(2, "(table 10001 funcref)"), "table"),
        (modules(limits::TABLES + 1, "(table 1 funcref)"), "table"),
        (modules(limits::INSTANCES + 1, ""), "instance"),
    ] {
        let error = instantiate(machine, &wat).await.expect_err(&wat);
        assert!(error.contains(expected), "{wat:.80}: {error}");
    }
}

#[test]
fn the_compiling_engines_make_code_for_the_running_ones() {
    let machine = Machine::new(KNOWN).expect("the engine starts");
    for class in [limits::Class::Small, limits::Class::Large] {
        let compiling = compiling_engine(class).expect("it starts");
        let running = machine.engine(class).expect("it starts");
        assert_eq!(running.compatibility, compatibility(&compiling));
        let code =
            compiling.precompile_component(b"\0asm\x0d\0\x01\0").expect("an empty component");
        assert!(!code.is_empty());
    }
}
