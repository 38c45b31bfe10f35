//! `cove stats`: what VMs use, on the host and inside.

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{
    HostStats, StatsSubscription, Vm, VmRef, VmState, VmStats, VmStatsNow, WatchStats,
};

use super::batch::{all, resolve_all};
use super::completion::vm_names;
use super::connect::connect;
use super::failure::{self, Failure, Statuses};
use super::list::state;
use super::output::{Format, failed, print, say, size, table};

/// After how many lines the header is printed again.
const HEADER_EVERY: usize = 20;

/// Arguments of `cove stats`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VMs: names, ids, or beginnings of ids; all that run when none is given
    #[arg(value_name = "VM", add = vm_names())]
    vms: Vec<String>,
    /// Go on, one line per VM and interval; with --json one value a line
    #[arg(short, long)]
    watch: bool,
    /// Seconds from one line to the next
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "watch",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let wanted: Vec<Result<Vm, Report>> = match self.vms.as_slice() {
            [] => {
                let known = all(&client).await?.into_iter();
                known.filter(|vm| vm.state == VmState::Running).map(Ok).collect()
            }
            named => resolve_all(&client, named).await,
        };
        if wanted.is_empty() {
            say("there is no VM that runs");
        }
        let (vms, mut status) = known_of(wanted);
        if self.watch {
            let watched = watch(&client, &vms, self.interval, self.format).await?;
            return Ok(if status == 0 { watched } else { status });
        }
        let mut told = Vec::new();
        for vm in vms {
            match client.call::<VmStatsNow>(VmRef { vm: vm.id.to_string() }).await {
                Ok(stats) => told.push(stats),
                Err(report) => status = show(&report, status),
            }
        }
        self.format.print(&told, |told| render(told))?;
        for stats in &told {
            say_silence(stats);
        }
        Ok(status)
    }
}

/// The VMs there are; the others are shown as failures.
fn known_of(wanted: Vec<Result<Vm, Report>>) -> (Vec<Vm>, u8) {
    let mut status = 0;
    let mut vms = Vec::new();
    for vm in wanted {
        match vm {
            Ok(vm) => vms.push(vm),
            Err(report) => status = show(&report, status),
        }
    }
    (vms, status)
}

/// Shows a failure; the first decides the exit status.
fn show(report: &Report, status: u8) -> u8 {
    let failed = failure::show(report, Statuses::OfKind);
    if status == 0 { failed } else { status }
}

/// Why a guest that runs says nothing of itself.
fn say_silence(stats: &VmStats) {
    if let Some(error) = &stats.guest_error {
        let text = format!("note: the guest of `{}` says nothing: {error}", stats.name);
        say(&crate::report::escape_control(&text));
    }
}

async fn watch(client: &Client, vms: &[Vm], seconds: u64, format: Format) -> Result<u8, Failure> {
    let mut events: SelectAll<BoxStream<'_, Result<VmStats, Report>>> = SelectAll::new();
    for vm in vms {
        let interval_ms = Some(seconds.saturating_mul(1000));
        let wanted = WatchStats { vm: vm.id.to_string(), interval_ms };
        let subscribed = client.subscribe::<StatsSubscription>(wanted).await?;
        let next = async |mut events: crate::rpc::client::Events<StatsSubscription>| {
            events.next().await.map(|event| (event, events))
        };
        events.push(futures_util::stream::unfold(subscribed, next).boxed());
    }
    let mut before: Vec<VmStats> = Vec::new();
    let mut lines = 0;
    while let Some(stats) = events.next().await {
        let stats = match stats {
            Ok(stats) => stats,
            Err(report) if report.kind == Kind::NotFound => continue,
            Err(report) => return Err(report.into()),
        };
        let last = before.iter().position(|last| last.vm == stats.vm);
        let last = last.map(|at| before.swap_remove(at));
        if format.json {
            let line = serde_json::to_string(&stats);
            print(&line.map_err(|error| failed("cannot write the answer as JSON", &error))?)?;
        } else {
            if lines % HEADER_EVERY == 0 {
                print(&line(HEADER.map(str::to_owned)))?;
            }
            print(&line(cells(&stats, last.as_ref())))?;
            lines += 1;
        }
        before.push(stats);
    }
    Ok(0)
}

const HEADER: [&str; 8] =
    ["NAME", "STATE", "CPU", "HOST MEMORY", "GUEST MEMORY", "LOAD", "WORK DISK", "ON HOST"];

/// A line whose columns stay where they are, whatever comes next.
fn line(cells: [String; 8]) -> String {
    let [name, state, cpu, host, guest, load, disk, taken] =
        cells.map(|cell| crate::report::escape_control(&cell).replace('\n', "\\n"));
    let text = format!(
        "{name:<20}  {state:<8}  {cpu:>6}  {host:>11}  {guest:>13}  {load:>5}  {disk:>13}  {taken:>7}"
    );
    text.trim_end().to_owned()
}

/// What VMs use as a table.
pub(super) fn render(told: &[VmStats]) -> String {
    table(HEADER, told.iter().map(|stats| cells(stats, None)))
}

fn cells(stats: &VmStats, before: Option<&VmStats>) -> [String; 8] {
    let nothing = || "-".to_owned();
    let guest = stats.guest.as_ref();
    let of = |used: u64, all: u64| format!("{} of {}", size(used), size(all));
    let host = stats.host.proportional_bytes.unwrap_or(stats.host.resident_bytes);
    [
        stats.name.to_string(),
        state(stats.state).to_owned(),
        cpu(stats, before).map_or_else(nothing, |percent| format!("{percent:.1}%")),
        if stats.host.processes.is_empty() { nothing() } else { size(host) },
        guest.map_or_else(nothing, |guest| {
            let used = guest.memory_bytes.saturating_sub(guest.memory_available_bytes);
            of(used, guest.memory_bytes)
        }),
        guest.map_or_else(nothing, |guest| format!("{:.2}", guest.load_1m)),
        guest.map_or_else(nothing, |guest| {
            let disk = guest.work_disk;
            of(disk.bytes.saturating_sub(disk.available_bytes), disk.bytes)
        }),
        size(stats.host.work_disk_bytes.saturating_add(stats.host.root_disk_bytes)),
    ]
}

/// Per cent of one processor of the host: since the sample before, or since the VM's start.
fn cpu(stats: &VmStats, before: Option<&VmStats>) -> Option<f64> {
    let (used, time) = match before {
        Some(before) if same_boot(&before.host, &stats.host) => (
            stats.host.cpu_ms.saturating_sub(before.host.cpu_ms),
            stats.host.age_ms?.saturating_sub(before.host.age_ms?),
        ),
        Some(_) | None => (stats.host.cpu_ms, stats.host.age_ms?),
    };
    (time > 0).then(|| used as f64 * 100.0 / time as f64)
}

fn same_boot(before: &HostStats, now: &HostStats) -> bool {
    before.age_ms.zip(now.age_ms).is_some_and(|(before, now)| before < now)
        && before.cpu_ms <= now.cpu_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::guest::{FileSystemStats, GuestStats};

    fn stats(cpu_ms: u64, age_ms: u64) -> VmStats {
        let disk = FileSystemStats { bytes: 4 << 30, available_bytes: 3 << 30 };
        VmStats {
            vm: "aaaaaaaaaaaa".parse().expect("an id"),
            name: "web".parse().expect("a name"),
            state: VmState::Running,
            at: "2026-11-23T12:00:00Z".to_owned(),
            host: HostStats {
                cpu_ms,
                age_ms: Some(age_ms),
                resident_bytes: 300 << 20,
                proportional_bytes: Some(250 << 20),
                work_disk_bytes: 3 << 20,
                root_disk_bytes: 5 << 20,
                processes: vec![crate::wire::rpc::ProcessStats {
                    role: "monitor".to_owned(),
                    pid: 7,
                    cpu_ms,
                    resident_bytes: 300 << 20,
                    proportional_bytes: Some(250 << 20),
                }],
            },
            guest: Some(GuestStats {
                uptime_ms: 1000,
                load_1m: 0.5,
                load_5m: 0.25,
                load_15m: 0.125,
                memory_bytes: 256 << 20,
                memory_available_bytes: 200 << 20,
                work_disk: disk,
                root_disk: disk,
            }),
            guest_error: None,
        }
    }

    #[test]
    fn processor_time_is_counted_from_the_sample_before() {
        assert_eq!(cpu(&stats(500, 1000), None), Some(50.0));
        assert_eq!(cpu(&stats(700, 2000), Some(&stats(500, 1000))), Some(20.0));
        // Another boot counts from its own start.
        assert_eq!(cpu(&stats(100, 400), Some(&stats(500, 1000))), Some(25.0));
        assert_eq!(cpu(&stats(0, 0), None), None);
    }

    #[test]
    fn what_vms_use_is_a_table() {
        let silent = VmStats { guest: None, ..stats(500, 1000) };
        insta::assert_snapshot!(render(&[stats(500, 1000), silent]), @"
        NAME  STATE    CPU    HOST MEMORY  GUEST MEMORY  LOAD  WORK DISK  ON HOST
        web   running  50.0%  250M         56M of 256M   0.50  1G of 4G   8M
        web   running  50.0%  250M         -             -     -          8M
        ");
        let text = line(cells(&stats(500, 1000), None));
        assert!(text.starts_with("web                   running    50.0%"), "{text}");
    }
}
