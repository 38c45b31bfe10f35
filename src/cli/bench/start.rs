//! `cove bench start`: cold starts beside the bare monitor's, and what a stop adds to the guest's own
//! shutdown.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;

use crate::config::Config;
use crate::report::Report;
use crate::rpc::client::Client;
use crate::wire::rpc::{CreateVm, DaemonStatus, NetMode, Nothing, Operation, VmPlan};

use super::super::connect::{client_context, paths};
use super::super::failure::Failure;
use super::super::machine::Net;
use super::super::output::{Format, pairs, say, table};
use super::cove::{self, Started, Stopped};
use super::floor::Floor;
use super::spread::{Spread, ratio};
use super::{Names, Runs, with_client};

/// Memory of the VMs that the daemon's memory is measured with, in MiB.
const SMALL_MIB: u64 = 256;

/// How many of them start at once.
const AT_ONCE: usize = 2;

/// What the floor is, for people.
const FLOOR: &str = "the bare monitor until its agent answers, without network and set-up";

/// What the floor of a stop is.
const POWER_OFF: &str = "a bare machine, asked to power off, until its monitor has ended";

/// Arguments of `cove bench start`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    runs: Runs,
    /// The network of cove's VMs; the floor has none
    #[arg(long, value_enum, default_value_t = Net::None)]
    net: Net,
    /// Also measure the daemon's memory with so many VMs of 256 MiB running
    #[arg(long, value_name = "K", default_value_t = 0)]
    vms: u32,
    #[command(flatten)]
    format: Format,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    runs: u32,
    net: NetMode,
    accel: &'static str,
    vcpu: u32,
    memory_mib: u64,
    /// From the request to the end of the first command.
    cove: Spread,
    floor: Spread,
    floor_is: &'static str,
    ratio: f64,
    stop: Stop,
    /// In the order in which they begin; some overlap.
    stages: Vec<StageSpread>,
    /// The hooks' components together, beside the booting kernel.
    hooks_in_start: Spread,
    /// The hooks' components together, while nothing boots.
    hooks_at_rest: Spread,
    daemon: Vec<Memory>,
}

/// Stops of guests that are well.
#[derive(Debug, Serialize)]
struct Stop {
    /// From the request to the answer.
    cove: Spread,
    floor: Spread,
    floor_is: &'static str,
    ratio: f64,
    /// From the end of the monitor to the answer.
    after_end: Spread,
}

#[derive(Debug, Serialize)]
struct StageSpread {
    name: String,
    began: Spread,
    took: Spread,
}

/// The daemon's memory with so many VMs running.
#[derive(Debug, Serialize)]
struct Memory {
    vms: u64,
    resident_kib: u64,
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
        let wanted = CreateVm {
            image: Some(config.vm.image.to_string()),
            vcpu: Some(config.vm.vcpu),
            memory_mib: Some(config.vm.memory.mebibytes()),
            disk_bytes: Some(config.vm.disk.bytes()),
            root_disk_bytes: Some(config.vm.root_disk.bytes()),
            net: Some(self.net.mode()),
            ..CreateVm::default()
        };
        let floor = Floor::open(&paths, config).await?;
        let mut measured = Measured::default();
        for run in 0..=self.runs.runs {
            let name = Some(names.name(run));
            let started = cove::start(client, CreateVm { name, ..wanted.clone() }).await?;
            let stopped = cove::stop(client, &started.operation).await?;
            cove::delete(client, started.operation.vm.as_str()).await?;
            let bare = floor.boot().await?;
            let bare_took = bare.took;
            bare.set_up().await?;
            bare.run_true().await?;
            let bare_stopped = bare.power_off().await?;
            bare.end().await?;
            let hooks = hooks_at_rest(client, &wanted).await?;
            say(&format!(
                "{}: cove {:.2?}, floor {bare_took:.2?}",
                if run == 0 { "warm-up".to_owned() } else { format!("run {run}") },
                started.took,
            ));
            if run > 0 {
                measured.add(&started, bare_took, hooks);
                measured.add_stop(&stopped, bare_stopped);
            }
        }
        let mut daemon = vec![memory(client).await?];
        if self.vms > 0 {
            daemon.push(self.memory_with_vms(client, names, &wanted).await?);
        }
        let (cove, bare) = (Spread::of(&measured.cove), Spread::of(&measured.floor));
        Ok(Found {
            runs: self.runs.runs,
            net: self.net.mode(),
            accel: floor.accel.as_str(),
            vcpu: wanted.vcpu.unwrap_or_default(),
            memory_mib: wanted.memory_mib.unwrap_or_default(),
            ratio: ratio(&cove, &bare),
            cove,
            floor: bare,
            floor_is: FLOOR,
            stop: measured.stop(),
            stages: measured.stages.iter().map(Stage::spread).collect(),
            hooks_in_start: Spread::of(&measured.hooks_in_start),
            hooks_at_rest: Spread::of(&measured.hooks_at_rest),
            daemon,
        })
    }

    async fn memory_with_vms(
        &self,
        client: &Client,
        names: &Names,
        wanted: &CreateVm,
    ) -> Result<Memory, Report> {
        let first = self.runs.runs + 1;
        let started = futures_util::stream::iter(first..first.saturating_add(self.vms))
            .map(async |number| {
                let name = Some(names.name(number));
                let memory_mib = Some(SMALL_MIB);
                cove::start(client, CreateVm { name, memory_mib, ..wanted.clone() }).await
            })
            .buffered(AT_ONCE);
        let mut started = std::pin::pin!(started);
        while let Some(one) = started.next().await {
            say(&format!("`{}` runs", one?.operation.vm_name));
        }
        memory(client).await
    }
}

async fn memory(client: &Client) -> Result<Memory, Report> {
    let status = client.call::<DaemonStatus>(Nothing {}).await?;
    Ok(Memory { vms: status.vms, resident_kib: status.resident_kib })
}

/// The hooks' time in a plan that makes nothing.
async fn hooks_at_rest(client: &Client, wanted: &CreateVm) -> Result<Duration, Report> {
    let wanted = CreateVm { client: client_context(), ..wanted.clone() };
    let plan = client.call::<VmPlan>(wanted).await?;
    Ok(Duration::from_micros(plan.hooks.iter().map(|hook| hook.wall_us).sum()))
}

/// What the runs gave.
#[derive(Debug, Default)]
struct Measured {
    cove: Vec<Duration>,
    floor: Vec<Duration>,
    hooks_in_start: Vec<Duration>,
    hooks_at_rest: Vec<Duration>,
    stages: Vec<Stage>,
    stops: Vec<Duration>,
    stops_after_end: Vec<Duration>,
    power_offs: Vec<Duration>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    began: Vec<Duration>,
    took: Vec<Duration>,
}

impl Stage {
    fn spread(&self) -> StageSpread {
        let (began, took) = (Spread::of(&self.began), Spread::of(&self.took));
        StageSpread { name: self.name.clone(), began, took }
    }
}

impl Measured {
    fn add(&mut self, started: &Started, floor: Duration, hooks_at_rest: Duration) {
        self.cove.push(started.took);
        self.floor.push(floor);
        self.hooks_at_rest.push(hooks_at_rest);
        self.hooks_in_start.push(hooks_in(&started.operation));
        for stage in &started.operation.stages {
            let took = Duration::from_micros(stage.took_us.unwrap_or(0));
            self.add_stage(&stage.name, Duration::from_micros(stage.began_us), took);
        }
        self.add_stage("first command", started.took.saturating_sub(started.exec), started.exec);
    }

    fn add_stop(&mut self, stopped: &Stopped, floor: Duration) {
        self.stops.push(stopped.took);
        self.stops_after_end.push(stopped.after_end);
        self.power_offs.push(floor);
    }

    fn stop(&self) -> Stop {
        let (cove, floor) = (Spread::of(&self.stops), Spread::of(&self.power_offs));
        let after_end = Spread::of(&self.stops_after_end);
        Stop { ratio: ratio(&cove, &floor), cove, floor, floor_is: POWER_OFF, after_end }
    }

    fn add_stage(&mut self, name: &str, began: Duration, took: Duration) {
        let known = self.stages.iter().position(|stage| stage.name == name);
        let index = known.unwrap_or_else(|| {
            let name = name.to_owned();
            self.stages.push(Stage { name, began: Vec::new(), took: Vec::new() });
            self.stages.len() - 1
        });
        self.stages[index].began.push(began);
        self.stages[index].took.push(took);
    }
}

/// The time of the hooks' components in a start: each has a stage of its own.
fn hooks_in(operation: &Operation) -> Duration {
    let hooks = operation.stages.iter().filter(|stage| stage.name.starts_with("hook "));
    Duration::from_micros(hooks.filter_map(|stage| stage.took_us).sum())
}

fn render(found: &Found) -> String {
    let row = |name: &str, spread: &Spread| {
        let [p50, p95, min, max] = spread.cells();
        [name.to_owned(), p50, p95, min, max]
    };
    let rows = [
        row("cove: request to first command done", &found.cove),
        row("floor: bare monitor to agent's answer", &found.floor),
        row("hooks' components, in a start", &found.hooks_in_start),
        row("hooks' components, at rest", &found.hooks_at_rest),
        row("stop: request to answer", &found.stop.cove),
        row("floor: bare machine's power-off", &found.stop.floor),
        row("stop: end of the monitor to answer", &found.stop.after_end),
    ];
    let stages = found.stages.iter().map(|stage| {
        let [p50, p95, ..] = stage.took.cells();
        [stage.name.clone(), format!("{:.1} ms", stage.began.p50_ms), p50, p95]
    });
    let mut facts = vec![
        ("runs", found.runs.to_string()),
        ("ratio of the medians", format!("{:.2}", found.ratio)),
        ("ratio of the medians, stop", format!("{:.2}", found.stop.ratio)),
        ("machine", format!("{} vcpu, {} MiB, {}", found.vcpu, found.memory_mib, found.accel)),
        ("network", found.net.as_str().to_owned()),
        ("floor", found.floor_is.to_owned()),
        ("percentiles", "nearest rank".to_owned()),
    ];
    let memory = found.daemon.iter();
    facts.extend(memory.map(|memory| {
        let text = format!("{} KiB with {} VMs", memory.resident_kib, memory.vms);
        ("daemon's memory", text)
    }));
    let facts: Vec<_> = facts.iter().map(|(name, value)| (*name, value.clone())).collect();
    format!(
        "{}\n\n{}\n\n{}",
        table(["MEASURED", "P50", "P95", "MIN", "MAX"], rows),
        table(["STAGE", "BEGAN", "TOOK P50", "TOOK P95"], stages),
        pairs(&facts)
    )
}
