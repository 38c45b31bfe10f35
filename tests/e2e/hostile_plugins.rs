//! The whole corpus of hostile plugins with a real daemon: every one ends in a sentence of its own, nothing is
//! left, and the daemon answers every call meanwhile. How fast it answers is printed, beside how fast it is at
//! rest: `cargo nextest run --release --no-capture hostile_plugins` shows it.
//!
//! There once, as whoever runs the tests: a daemon runs plugins in the same way for everybody.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove::rpc::client::Client;
use cove::wire::rpc::{DaemonPing, Nothing};
use serde_json::Value;

use crate::corpus::{self, Ends, Hostile};
use crate::harness::World;

/// Plugins that are tried together: fewer than a folder may have.
const TOGETHER: usize = 48;
/// Calls at rest, for the comparison.
const AT_REST: usize = 2000;
/// How long one answer may take, on the busiest machine: a daemon that is held up by a plugin that never ends
/// takes longer.
const ANSWER: Duration = Duration::from_secs(10);

/// The id under which a plugin is put in.
fn id(number: usize) -> String {
    format!("hostile-{number}")
}

/// The number of the honest plugin beside the hostile ones.
const HONEST: usize = 9999;

/// The folder of the plugins beside the programs.
fn standard(world: &World) -> PathBuf {
    world.program.with_file_name("plugins")
}

/// Puts plugins beside the programs, as if they had come with cove, and as such that need not run.
fn install(world: &World, hostile: &[(usize, Hostile)]) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let mut configuration = String::new();
    for (number, hostile) in hostile {
        let id = id(*number);
        let folder = standard(world).join(&id);
        fs::create_dir_all(&folder).expect("made");
        let table = format!("[hooks.{}]", hostile.at);
        let manifest = hostile.manifest().replace("id = \"hostile\"", &format!("id = \"{id}\""));
        let manifest = manifest.replace(&table, &format!("{table}\nfailure = 'optional'"));
        fs::write(folder.join("plugin.toml"), manifest).expect("written");
        fs::write(folder.join("plugin.wasm"), hostile.bytes(target)).expect("written");
        if hostile.component.is_none() {
            let (misbehaviour, path) = &hostile.settings;
            configuration
                .push_str(&format!("[hooks.settings.{id}]\nmisbehaviour = \"{misbehaviour}\"\n"));
            if let Some(path) = path {
                let path = toml::Value::String(path.clone());
                configuration.push_str(&format!("path = {path}\n"));
            }
        }
    }
    world.configure(&configuration);
}

/// How long each of a number of calls took, sorted.
async fn latencies(client: &Client, mut more: impl FnMut(usize) -> bool) -> Vec<Duration> {
    let mut all = Vec::new();
    while more(all.len()) {
        let begun = Instant::now();
        let answer = tokio::time::timeout(ANSWER, client.call::<DaemonPing>(Nothing {})).await;
        answer.expect("the daemon is not held up").expect("it answers");
        all.push(begun.elapsed());
    }
    all.sort_unstable();
    all
}

/// The percentile of sorted values, by nearest rank.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// What is said about a plugin that must end so.
fn assert_said(plan: &Value, number: usize, hostile: &Hostile) {
    let id = id(number);
    let hooks = plan["hooks"].as_array().expect("a list");
    let hook = hooks.iter().find(|hook| hook["plugin"] == id.as_str());
    let hook = hook.unwrap_or_else(|| panic!("{}: is not in {plan}", hostile.name));
    let steps = usize::from(number == HONEST);
    assert_eq!(hook["steps"].as_array().map(Vec::len), Some(steps), "{}: {hook}", hostile.name);
    let said = hook["log"].to_string();
    let expected = match hostile.ends {
        // As the JSON text has it.
        Ends::Refused(expected) | Ends::Failed(expected) => Value::from(expected).to_string(),
        Ends::Harmless => return,
    };
    let attributed = said.contains(&format!("plugin `{id}`"));
    assert!(attributed && said.contains(expected.trim_matches('"')), "{}: {said}", hostile.name);
}

#[test]
#[expect(clippy::print_stderr, reason = "a measurement is for reading")]
fn the_daemon_answers_while_plugins_do_their_worst() {
    let world = World::with_own_programs();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut all: Vec<_> = corpus::all().into_iter().enumerate().collect();
    while !all.is_empty() {
        let mut some: Vec<_> = all.drain(..all.len().min(TOGETHER)).collect();
        some.push((HONEST, corpus::honest()));
        install(&world, &some);
        // All are compiled and run once before: what is measured is what happens at every start.
        let plan = world.json(["run", "--dry-run", "--json"]);
        for (number, hostile) in &some {
            assert_said(&plan, *number, hostile);
        }
        let (rest, busy) = runtime.block_on(async {
            let socket = world.home.join("run/coved.sock");
            let client = Client::connect(&socket).await.expect("it listens");
            let rest = latencies(&client, |made| made < AT_REST).await;
            let mut attack = world.command(["run", "--dry-run", "--json"]).into_command();
            let mut attack = attack.stdout(std::process::Stdio::null()).spawn().expect("spawned");
            let ended = |_| attack.try_wait().expect("it is a child").is_none();
            (rest, latencies(&client, ended).await)
        });
        let (rest99, busy99) = (percentile(&rest, 99), percentile(&busy, 99));
        eprintln!(
            "{} plugins: at rest p50 {:?} p99 {rest99:?}; with them p50 {:?} p99 {busy99:?} ({} calls); ratio of the p99 {:.2}",
            some.len(),
            percentile(&rest, 50),
            percentile(&busy, 50),
            busy.len(),
            busy99.as_secs_f64() / rest99.as_secs_f64()
        );
        world.assert_no_vm(&[]);
        world.cove(["daemon", "stop"]).success();
        for (number, _) in &some {
            fs::remove_dir_all(standard(&world).join(id(*number))).expect("removed");
        }
    }
    world.finish();
}
