//! Floods of text, many runs at once, runs whose caller is gone, and what plugins see of the world.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cove::hooks::{HookOutcome, HookRun, LogLine, limits};
use cove::report::Explain;
use cove::wire::rpc::HookPoint;

use crate::corpus::Hostile;
use crate::world::World;

const POINT: HookPoint = HookPoint::PrepareWorkDisk;

async fn ran(misbehaviour: &'static str) -> HookRun {
    let mut world = World::new().await;
    world.put(&Hostile::compiled(POINT, misbehaviour, None, ""));
    world.run().await.expect("it may talk")
}

#[tokio::test]
async fn floods_of_text_are_cut_and_counted() {
    let run = ran("log-flood").await;
    let hook = &run.hooks[0];
    let last = hook.log.last().expect("kept").text.clone();
    assert_eq!(last, "line 89999", "the newest line is kept");
    assert_eq!(hook.log.len() as u64 + hook.log_dropped, 90_000);
    let bytes: usize = hook.log.iter().map(|line| line.text.len() + size_of::<LogLine>()).sum();
    assert!(bytes <= 32 << 10, "{bytes}");

    let run = ran("long-line").await;
    let length = run.hooks[0].log[0].text.len();
    assert!(length <= (2 << 10) + "…".len(), "{length}");

    let run = ran("stderr-flood").await;
    let bytes: usize = run.hooks[0].log.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= 8 << 10, "{bytes}");
    assert!(run.hooks[0].log.iter().any(|line| line.text.starts_with("noise 999 ")));

    let run = ran("log-escape").await;
    assert_eq!(run.hooks[0].for_user(), ["\\u{1b}[2Jgone"]);

    let run = ran("refusal-flood").await;
    assert_eq!(run.hooks[0].refusals.len(), 256, "what is written down of a run is bounded, too");

    let mut world = World::new().await;
    world.put(&Hostile::compiled(POINT, "long-error", None, ""));
    let text = world.run().await.expect_err("it returns an error").to_string();
    assert!(text.contains("mmm") && text.len() <= (2 << 10) + 200, "{}", text.len());
}

/// What the user is told by a run: lines for notes, or an error and its hint.
async fn told(world: &World, point: HookPoint) -> Vec<String> {
    match world.run_at(point, &Arc::default()).await {
        Ok(outcomes) => outcomes.iter().flat_map(HookOutcome::for_user).collect(),
        Err(error) => [error.to_string()].into_iter().chain(error.hint()).collect(),
    }
}

#[tokio::test]
async fn no_text_of_a_plugin_makes_lines_that_look_like_those_of_cove() {
    let mut world = World::new().await;
    for point in HookPoint::ALL {
        for misbehaviour in ["lines", "lines-of-an-error", "lines-of-a-panic"] {
            world.put(&Hostile::compiled(point, misbehaviour, None, ""));
            let told = told(&world, point).await;
            let all = told.join(" ");
            assert!(all.contains("hint: two") || all.contains("hint: four"), "{point}: {all}");
            let breaks = |line: &String| line.contains(['\n', '\r']);
            assert!(!told.iter().any(breaks), "{point} {misbehaviour}: {told:?}");
        }
    }
    world.put(&Hostile::compiled(HookPoint::Preflight, "lines-of-an-answer", None, ""));
    assert_eq!(told(&world, HookPoint::Preflight).await, ["one\\nhint: two"]);
}

/// What was refused is kept to the end of a run, to say how it could be had.
#[tokio::test]
async fn long_names_that_are_refused_are_not_kept() {
    let mut world = World::new().await;
    world.put(&Hostile::compiled(POINT, "write", None, ""));
    world.run().await.expect("it is compiled and has run once");
    let before = peak();
    world.put(&Hostile::compiled(POINT, "large-refusals", None, ""));
    let run = world.run().await.expect("it goes on");
    assert_eq!(run.hooks[0].refusals.len(), 250);
    let grown = peak() - before;
    assert!(grown < 100 << 20, "250 names of 1 MiB: {} MiB", grown >> 20);
}

/// The most memory that this process has had.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.parse::<usize>().ok()).expect("a number") << 10
}

#[tokio::test]
async fn what_was_planned_before_a_failure_is_dropped() {
    let mut world = World::new().await;
    let optional = "failure = 'optional'";
    let hostile = Hostile::compiled(POINT, "write-and-error", None, "");
    world.put(&Hostile { hook: optional, ..hostile });
    let run = world.run().await.expect("it is optional");
    assert!(run.plan.steps.is_empty() && run.hooks[0].steps.is_empty());
    let told = run.hooks[0].for_user().join("\n");
    assert!(told.contains("hostile") && told.contains("changed-my-mind"), "{told}");
    world.put(&Hostile::compiled(POINT, "abandon-writer", None, ""));
    let run = world.run().await.expect("nothing is wrong with that");
    assert!(run.plan.steps.is_empty());
    let inside = Some("../allowed/folder".to_owned());
    world.put(&Hostile::compiled(POINT, "link", inside, ""));
    let run = world.run().await.expect("a link among what is granted");
    assert_eq!(run.plan.steps[0].step.path(), "allowed/link");
}

#[tokio::test]
async fn a_run_whose_caller_is_gone_ends() {
    let mut world = World::new().await;
    world.put(&Hostile::compiled(POINT, "loop", None, ""));
    // Every run that goes on would hold one of the pool's few places until its processor time is used.
    for _ in 0..3 * limits::CONCURRENT {
        let ended = tokio::time::timeout(Duration::from_millis(20), world.run()).await;
        assert!(ended.is_err(), "it loops");
    }
    world.put(&Hostile::compiled(POINT, "write", None, ""));
    world.run().await.expect("there is a place for another");
}

#[tokio::test]
async fn more_runs_than_there_are_places_wait_for_one_another() {
    let mut world = World::new().await;
    world.put(&Hostile::compiled(POINT, "loop", None, "").with("cpu = '50ms'"));
    let runs = (0..40).map(|_| world.run());
    for ended in futures_util::future::join_all(runs).await {
        let text = ended.expect_err("it loops").to_string();
        assert!(text.contains("it used more than 50 ms of processor time"), "{text}");
    }
}

#[tokio::test]
async fn the_world_of_a_plugin_is_empty_and_always_the_same() {
    let mut world = World::new().await;
    world.put(&Hostile::compiled(POINT, "world", None, ""));
    let one = world.run().await.expect_err("it tells").to_string();
    let two = world.run().await.expect_err("it tells").to_string();
    assert_eq!(one, two);
    let expected =
        "environment 0 arguments 0 passwd false folder false network false time 946684800";
    assert!(one.contains(expected), "{one}");
    let other = world.inputs.machine.as_mut().expect("there is one");
    other.id = "ba9876543210".parse().expect("an id");
    let other = world.run().await.expect_err("it tells").to_string();
    assert_ne!(other, one, "another VM has another seed");
}

/// The address space that the engine reserves is what its limits come to, and the stacks of its calls.
#[tokio::test]
async fn the_engine_reserves_a_bounded_address_space() {
    let size = || {
        let pages = fs::read_to_string("/proc/self/statm").expect("there");
        let pages = pages.split_whitespace().next().and_then(|pages| pages.parse::<usize>().ok());
        pages.expect("a number") * 4096
    };
    let before = size();
    let world = World::new().await;
    let grown = size() - before;
    drop(world);
    assert!(grown < 9 << 30, "{} MiB", grown >> 20);
}
