//! `cove bench exec`: round trips of a command in a running VM.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Config;
use crate::report::Report;
use crate::rpc::client::Client;
use crate::wire::rpc::{CreateVm, NetMode};

use super::super::completion::vm_names;
use super::super::connect::paths;
use super::super::failure::Failure;
use super::super::output::{Format, pairs, say, table};
use super::cove;
use super::floor::{Booted, Floor};
use super::spread::{Spread, ratio};
use super::{Names, Runs, with_client};

/// What the floor is, for people.
const FLOOR: &str = "the same command over the vsock of a bare machine, without the daemon";

/// How many runs in one guest follow each other before it is the other's turn: as commands do. An emulated guest that
/// has paused for another one is slow at first, and the first run of a turn is not counted.
const TURN: u32 = 10;

/// Arguments of `cove bench exec`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    runs: Runs,
    /// Measure in this running VM instead of one made for it
    #[arg(long, add = vm_names())]
    vm: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    runs: u32,
    cove: Spread,
    floor: Spread,
    floor_is: &'static str,
    ratio: f64,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let found = with_client(async |client, names| self.measure(client, names).await).await?;
        self.format.print(&found, render)?;
        Ok(0)
    }

    async fn measure(&self, client: &Client, names: &Names) -> Result<Found, Report> {
        let paths = paths()?;
        let config = Config::load(&paths.config).map_err(|error| Report::of(&error))?;
        let vm = match &self.vm {
            Some(vm) => vm.clone(),
            None => {
                let (name, net) = (Some(names.name(0)), Some(NetMode::None));
                let wanted = CreateVm { name, net, ..CreateVm::default() };
                cove::start(client, wanted).await?.operation.vm.to_string()
            }
        };
        let floor = Floor::open(&paths, config).await?.boot().await?;
        floor.set_up().await?;
        say("both guests run");
        let found = self.rounds(client, &vm, &floor).await?;
        floor.end().await?;
        Ok(found)
    }

    async fn rounds(&self, client: &Client, vm: &str, floor: &Booted) -> Result<Found, Report> {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for begun in (0..self.runs.runs).step_by(TURN as usize) {
            let runs = TURN.min(self.runs.runs - begun);
            turn(runs, &mut ours, async || cove::run_true(client, vm).await).await?;
            turn(runs, &mut bare, async || floor.run_true().await).await?;
        }
        let (cove, floor) = (Spread::of(&ours), Spread::of(&bare));
        let ratio = ratio(&cove, &floor);
        Ok(Found { runs: self.runs.runs, cove, floor, floor_is: FLOOR, ratio })
    }
}

/// Adds so many times, and runs once more in front of them.
async fn turn(
    runs: u32,
    times: &mut Vec<Duration>,
    work: impl AsyncFn() -> Result<(), Report>,
) -> Result<(), Report> {
    work().await?;
    for _ in 0..runs {
        let began = Instant::now();
        work().await?;
        times.push(began.elapsed());
    }
    Ok(())
}

fn render(found: &Found) -> String {
    let row = |name: &str, spread: &Spread| {
        let [p50, p95, min, max] = spread.cells();
        [name.to_owned(), p50, p95, min, max]
    };
    let rows = [
        row("cove: `true` through the daemon", &found.cove),
        row("floor: `true` over vsock alone", &found.floor),
    ];
    let facts = [
        ("runs", found.runs.to_string()),
        ("ratio of the medians", format!("{:.2}", found.ratio)),
        ("floor", found.floor_is.to_owned()),
        ("percentiles", "nearest rank".to_owned()),
    ];
    format!("{}\n\n{}", table(["MEASURED", "P50", "P95", "MIN", "MAX"], rows), pairs(&facts))
}
