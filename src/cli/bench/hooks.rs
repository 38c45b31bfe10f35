//! `cove bench hooks`: what hooks cost, beside a bare loop of the WebAssembly engine.

use std::time::Duration;

use serde::Serialize;

use crate::hooks::HookError;
use crate::hooks::bench::{HOOKS, HookBench, IMPORTED, Measured};
use crate::report::Report;

use super::super::connect::paths;
use super::super::failure::Failure;
use super::super::output::{Format, failed, pairs, table};
use super::spread::{Spread, ratio};

/// What the floor is, for people.
const FLOOR: &str = "a bare loop of wasmtime with the same component on the same engine, without limits and records";

/// Arguments of `cove bench hooks`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// Measure so many times, after a tenth more that does not count
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    #[command(flatten)]
    format: Format,
}

/// What was found. That of a whole call is at the top, as with every benchmark.
#[derive(Debug, Serialize)]
struct Found {
    runs: u32,
    floor_is: &'static str,
    /// A whole call, from the handles to the plan.
    #[serde(flatten)]
    call: Pair,
    /// A store with its limits, and an instance in it.
    instantiate: Pair,
    /// One call of the host, with its part of the plugin's loop.
    host_call: Pair,
    /// Loading a component whose code is in the cache.
    load: Pair,
    /// All hook points of a start with seven hooks, records included; the floor is seven bare calls.
    start: Pair,
    /// The most memory of a plugin that imports a file, in bytes, and of one that does not.
    import: Import,
}

#[derive(Debug, Serialize)]
struct Pair {
    cove: Spread,
    floor: Spread,
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Import {
    file_bytes: usize,
    memory_with: usize,
    memory_without: usize,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let runtime = tokio::runtime::Handle::current();
        let runs = self.runs;
        // Runs of hooks block, as they do in the daemon.
        let work = tokio::task::spawn_blocking(move || runtime.block_on(measure(runs))).await;
        let found = work.map_err(|error| failed("the benchmark ended early", &error))??;
        self.format.print(&found, render)?;
        Ok(0)
    }
}

async fn measure(runs: u32) -> Result<Found, Report> {
    let report = |error: HookError| Report::of(&error);
    let paths = paths()?;
    let folder = tempfile::Builder::new().prefix("cove-bench-").tempdir();
    let folder = folder.map_err(|error| failed("cannot make a temporary folder", &error))?;
    let (standard, coved) = (paths.programs.join("plugins"), paths.programs.join("coved"));
    let bench = HookBench::open(folder.path(), &standard, &coved).await.map_err(report)?;
    let import = bench.import_memory().await.map_err(report)?;
    Ok(Found {
        runs,
        floor_is: FLOOR,
        call: pair(runs, async || bench.call().await).await?,
        instantiate: pair(runs, async || bench.instantiate().await).await?,
        host_call: pair(runs, async || bench.host_call().await).await?,
        load: pair(runs, async || bench.load().await).await?,
        start: pair(runs, async || bench.start().await).await?,
        import: Import { file_bytes: IMPORTED, memory_with: import.0, memory_without: import.1 },
    })
}

async fn pair(
    runs: u32,
    measured: impl AsyncFn() -> Result<Measured, HookError>,
) -> Result<Pair, Report> {
    let (mut ours, mut bare): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for run in 0..runs.saturating_add(runs.div_ceil(10)) {
        let Measured { cove, floor } = measured().await.map_err(|error| Report::of(&error))?;
        if run >= runs.div_ceil(10) {
            ours.push(cove);
            bare.push(floor);
        }
    }
    let (cove, floor) = (Spread::fine(&ours), Spread::fine(&bare));
    Ok(Pair { ratio: ratio(&cove, &floor), cove, floor })
}

fn render(found: &Found) -> String {
    let start = format!("a start's {HOOKS} hooks");
    let named = [
        ("instantiate", &found.instantiate),
        ("full call", &found.call),
        ("host call", &found.host_call),
        ("cached load", &found.load),
        (start.as_str(), &found.start),
    ];
    let rows = named.into_iter().flat_map(|(name, pair)| {
        let row = |whose: &str, spread: &Spread, ratio: String| {
            let [p50, p95, min, max] = spread.fine_cells();
            [format!("{name}: {whose}"), p50, p95, min, max, ratio]
        };
        let ratio = format!("{:.2}", pair.ratio);
        [row("cove", &pair.cove, ratio), row("floor", &pair.floor, String::new())]
    });
    let Import { file_bytes, memory_with, memory_without } = &found.import;
    let facts = [
        ("runs", found.runs.to_string()),
        ("floor", found.floor_is.to_owned()),
        ("percentiles", "nearest rank".to_owned()),
        (
            "import",
            format!(
                "a file of {} KiB: {} KiB of memory with it, {} KiB without",
                file_bytes >> 10,
                memory_with >> 10,
                memory_without >> 10
            ),
        ),
    ];
    let header = ["MEASURED", "P50", "P95", "MIN", "MAX", "RATIO"];
    format!("{}\n\n{}", table(header, rows), pairs(&facts))
}
