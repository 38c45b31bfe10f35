//! Misbehaviour at every hook point: who hears of it, and what is not granted there.

use std::fs;
use std::sync::{Arc, Mutex};

use cove::hooks::{GuestOutput, GuestProgram, GuestPrograms};
use cove::wire::rpc::HookPoint;
use futures_util::future::{BoxFuture, FutureExt};

use crate::corpus::{Ends, Hostile};
use crate::world::World;

/// A guest whose programs do nothing, and are written down.
#[derive(Debug, Default)]
pub(crate) struct Guest(Mutex<Vec<GuestProgram>>);

impl GuestPrograms for Guest {
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        self.0.lock().expect("nobody panics with it").push(program);
        async { Ok(GuestOutput::default()) }.boxed()
    }
}

impl Guest {
    fn ran(&self) -> usize {
        self.0.lock().expect("nobody panics with it").len()
    }
}

/// Bytes of a line, with the sign that it was cut.
const LINE: usize = (2 << 10) + "…".len();

/// What is tried at points of their own: the point, what, with which path, and how it ends.
const TRIED: &[(HookPoint, &str, &str, &str)] = &[
    (HookPoint::ConfigureMachine, "env", "PATH", "no plugin may set `PATH`"),
    (HookPoint::ConfigureMachine, "env", "LD_PRELOAD", "no plugin may set `LD_PRELOAD`"),
    (HookPoint::ConfigureMachine, "env", "OTHER", "`machine.env:OTHER` is not granted"),
    (HookPoint::ConfigureMachine, "env", "HOSTILE=x", "is no variable's name"),
    (HookPoint::ConfigureMachine, "label", "other", "`machine.label:other` is not granted"),
    (HookPoint::ConfigureMachine, "forward", "", "`machine.forward:22` is not granted"),
    (HookPoint::ConfigureMachine, "egress", "", "`machine.egress:example.org` is not granted"),
    (HookPoint::ConfigureMachine, "many-wishes", "", "at most 128 wishes (too-many)"),
    (HookPoint::ConfigureMachine, "large-wish", "", "at most 65536 bytes (too-large)"),
    (HookPoint::ConfigureMachine, "many-keys", "", "remembers at most 64 keys (too-many)"),
    (HookPoint::ConfigureMachine, "long-key", "", "a key has 1 to 128 bytes (bad-argument)"),
    (HookPoint::ConfigureMachine, "large-value", "", "remembers at most 65536 bytes (too-large)"),
    (HookPoint::PostStart, "program", "sh", "`guest.run:sh` is not granted"),
    (HookPoint::PostStart, "program", "/bin/true", "`guest.run:/bin/true` is not granted"),
    (HookPoint::PostStart, "variable", "PATH", "no plugin may set `PATH`"),
    (HookPoint::PostStart, "variable", "LD_PRELOAD", "no plugin may set `LD_PRELOAD`"),
    (HookPoint::PostStart, "variable", "BASH_ENV", "no plugin may set `BASH_ENV`"),
    (HookPoint::PostStart, "variable", "BASH_FUNC_cd%%", "is no variable's name"),
    (HookPoint::PostStart, "folder", "../etc", "must not contain `.` or `..`"),
    (HookPoint::PostStart, "many-programs", "", "runs at most 32 programs (too-many)"),
    (HookPoint::PostStart, "large-argument", "", "(too-large)"),
    (HookPoint::PostStart, "large-input", "", "(too-large)"),
    (HookPoint::PostStart, "argument-with-nul", "", "has a NUL in it"),
];

/// What is tried at all points.
const EVERYWHERE: &[(&str, &str)] = &[
    ("loop", "it used more than 50 ms of processor time"),
    ("panic", "the moon is full"),
    ("exit", "it exited with status 1 instead of returning"),
    ("allocate", "it wanted more than 64 MiB of memory"),
    ("error", "redo from start (out-of-cheese)"),
    ("unheard-of", "no misbehaviour is called `unheard-of`"),
];

/// Runs it, and looks at the sentence about it.
async fn assert_ends(world: &mut World, hostile: &Hostile, guest: &Arc<Guest>) {
    world.put(hostile);
    let ended = world.run_at(hostile.at, guest).await;
    let said = match ended {
        Err(error) => error.to_string(),
        Ok(mut outcomes) => outcomes.remove(0).failure.expect("it fails"),
    };
    let begins = format!("plugin `hostile` failed in hook `{}`: ", hostile.at);
    let Ends::Failed(expected) = hostile.ends else { unreachable!("all of these fail") };
    let name = hostile.name;
    assert!(said.starts_with(&begins) && said.contains(expected), "{name}: {said}");
}

#[tokio::test]
async fn misbehaviour_ends_in_one_sentence_at_every_hook_point() {
    let mut world = World::new().await;
    let guest = Arc::default();
    for point in HookPoint::ALL {
        for (name, said) in EVERYWHERE {
            let hostile = Hostile::compiled(point, name, None, said);
            // What fills its memory must come to its end on a slow host, too.
            let hostile = if *name == "loop" { hostile.with("cpu = '50ms'") } else { hostile };
            assert_ends(&mut world, &hostile, &guest).await;
        }
    }
    for (point, name, path, said) in TRIED {
        let hostile = Hostile::compiled(*point, name, Some((*path).to_owned()), said);
        assert_ends(&mut world, &hostile, &guest).await;
    }
    assert_eq!(guest.ran(), 32, "no program ran that was not granted");
}

#[tokio::test]
async fn a_hook_that_fails_has_asked_for_nothing_and_remembers_nothing() {
    let mut world = World::new().await;
    let point = HookPoint::ConfigureMachine;
    for (name, said) in
        [("env-and-loop", "processor time"), ("remember-and-loop", "processor time")]
    {
        let hostile = Hostile::compiled(point, name, None, said).with("cpu = '50ms'");
        assert_ends(&mut world, &hostile, &Arc::default()).await;
    }
    let recall = |said| Hostile::compiled(point, "recall", None, said);
    assert_ends(&mut world, &recall("(forgotten)"), &Arc::default()).await;
    world.put(&Hostile::compiled(point, "remember", None, ""));
    world.run_at(point, &Arc::default()).await.expect("it remembers");
    assert_ends(&mut world, &recall("remembered (recalled)"), &Arc::default()).await;
}

#[tokio::test]
async fn answers_are_cut_and_shown_escaped() {
    let mut world = World::new().await;
    for point in [HookPoint::Preflight, HookPoint::Doctor] {
        world.put(&Hostile::compiled(point, "many-answers", None, ""));
        let outcome = world.run_at(point, &Arc::default()).await.expect("it may talk").remove(0);
        let lines = outcome.lines.iter().chain(outcome.findings.iter().map(|found| &found.found));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 16, "{point}");
        let bounded = |line: &str| {
            line.len() <= LINE + "\\u{1b}".len() && !line.chars().any(char::is_control)
        };
        assert!(lines.iter().all(|line| bounded(line)), "{point}: {}", lines[0]);
    }
}

/// Sleepers, with a manifest that says nothing about time and one that asks for an hour. The points whose
/// hooks may take minutes are not waited for here: `src/hooks/manifest.rs` has a test of every ceiling.
#[tokio::test]
async fn a_hook_that_sleeps_ends_with_the_wall_time_of_its_point() {
    let sleeper = |point, hook, said| async move {
        let mut world = World::new().await;
        let hostile = Hostile { hook, ..Hostile::compiled(point, "sleep", None, said) };
        assert_ends(&mut world, &hostile, &Arc::default()).await;
    };
    let hour = "timeout = '3600s'";
    tokio::join!(
        sleeper(HookPoint::PreStop, "", "it took longer than 5000 ms"),
        sleeper(HookPoint::Cleanup, hour, "it took longer than 5000 ms"),
        sleeper(HookPoint::Doctor, hour, "it took longer than 10000 ms"),
        sleeper(HookPoint::Preflight, "", "it took longer than 10000 ms"),
        sleeper(HookPoint::PrepareWorkDisk, "", "it took longer than 10000 ms"),
    );
}

#[tokio::test]
async fn many_slow_plugins_share_the_time_of_their_point() {
    let mut world = World::new().await;
    let hostile = Hostile::compiled(HookPoint::Cleanup, "sleep", None, "");
    world.put(&hostile);
    let folder = world.settings.standard_folder.clone();
    for name in ["sleeper-1", "sleeper-2"] {
        let manifest = hostile.manifest().replace("id = \"hostile\"", &format!("id = \"{name}\""));
        fs::create_dir(folder.join(name)).expect("made");
        fs::write(folder.join(name).join("plugin.toml"), manifest).expect("written");
        let wasm = folder.join("hostile/plugin.wasm");
        fs::copy(wasm, folder.join(name).join("plugin.wasm")).expect("copied");
        world.set_like_hostile(name);
    }
    let outcomes = world.run_at(HookPoint::Cleanup, &Arc::default()).await.expect("told");
    let failures: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.failure).collect();
    assert_eq!(failures.len(), 3);
    assert!(failures[0].contains("it took longer than 5000 ms"), "{}", failures[0]);
    let last = "nothing was left of the 10 s that all hooks of one point have together";
    assert!(failures[2].contains(last), "{}", failures[2]);
}
