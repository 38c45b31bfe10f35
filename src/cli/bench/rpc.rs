//! `cove bench rpc`: round trips of the RPC, long lists, and a daemon that has nothing to do.
//!
//! The daemon is the real one, but not the user's: it runs over a folder that is thrown away, so that it
//! can have ten thousand VMs, and nobody else keeps it busy. Round trips are measured as the bytes of the
//! answer come, without reading them: what a client makes of them is not the daemon's time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::report::{Kind, Report};
use crate::rpc::bare::{BareServer, RawCall, RawClient};
use crate::wire::rpc::{DaemonPing, Method, Nothing, Page, VmList, VmPage};

use super::super::failure::Failure;
use super::super::output::{Format, failed, pairs, say, table};
use super::spread::{Spread, ratio};
use home::{Home, with_home};
use idle::Idle;
use responsive::Responsive;

mod home;
mod idle;
mod responsive;

/// How many VMs are stored for lists.
const STORED: u32 = 10_000;

/// VMs on a page of the round trips, as a user has them.
const SHORT_PAGE: u32 = 10;

/// VMs on a page of the long list: what a client gets that does not say.
const LONG_PAGE: u32 = 500;

/// What the floor of round trips is, for people.
const BARE: &str = "a bare server of jsonrpsee that answers the same bytes";

/// What the floor of pages is.
const SERIALISED: &str = "serialising the same page";

/// Arguments of `cove bench rpc`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// Measure so many times, after one round that does not count
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Watch the daemon do nothing for so many seconds; 0 leaves that out
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    idle: u32,
    /// Also watch it with so many VMs of 256 MiB running
    #[arg(long, value_name = "K", default_value_t = 0)]
    vms: u32,
    /// Also measure while this plugin runs again and again, with the settings in its `test.toml`
    #[arg(long, value_name = "PLUGIN", value_hint = clap::ValueHint::AnyPath)]
    beside: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// What was found. The first four of `ping` are at the top, as with every benchmark.
#[derive(Debug, Serialize)]
struct Found {
    runs: u32,
    #[serde(flatten)]
    ping: Beside,
    list: Beside,
    page: Beside,
    idle: Vec<Idle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responsive: Option<Responsive>,
}

/// Something beside its floor.
#[derive(Debug, Serialize)]
struct Beside {
    cove: Spread,
    floor: Spread,
    floor_is: &'static str,
    ratio: f64,
    /// Bytes of the longest result.
    bytes: usize,
}

/// The same, while it is measured.
#[derive(Debug, Default)]
struct Measured {
    cove: Vec<Duration>,
    floor: Vec<Duration>,
    bytes: usize,
}

impl Measured {
    fn beside(&self, floor_is: &'static str) -> Beside {
        let (cove, floor) = (Spread::of(&self.cove), Spread::of(&self.floor));
        let ratio = ratio(&cove, &floor);
        Beside { cove, floor, floor_is, ratio, bytes: self.bytes }
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let found = with_home(async |home| self.measure(home).await).await?;
        self.format.print(&found, render)?;
        Ok(0)
    }

    async fn measure(&self, home: &mut Home) -> Result<Found, Report> {
        home.start().await?;
        let mut idle = Vec::new();
        if self.idle > 0 {
            idle.push(idle::watch(home, 0, self.idle).await?);
        }
        let ping = RawCall::of::<DaemonPing>(&Nothing {});
        let ping = self.round_trips::<DaemonPing>(home, &ping).await?;
        if self.idle > 0 && self.vms > 0 {
            home.run_vms(self.vms).await?;
            idle.push(idle::watch(home, self.vms, self.idle).await?);
        }
        home.stop().await?;
        let responsive = match &self.beside {
            Some(plugin) => Some(responsive::measure(home, plugin, self.runs).await?),
            None => None,
        };
        say(&format!("storing {STORED} VMs"));
        home.store(STORED).await?;
        home.start().await?;
        let short = Page { limit: Some(SHORT_PAGE), cursor: None };
        let list = self.round_trips::<VmList>(home, &RawCall::of::<VmList>(&short)).await?;
        let page = self.pages(home.socket()).await?;
        Ok(Found { runs: self.runs, ping, list, page, idle, responsive })
    }

    /// Round trips of one call, taking turns with a bare server that gives the same answer.
    async fn round_trips<M: Method>(&self, home: &Home, call: &RawCall) -> Result<Beside, Report> {
        let mut ours = RawClient::connect(home.socket()).await?;
        let result = ours.result(call).await?;
        let mut measured = Measured { bytes: result.get().len(), ..Measured::default() };
        let socket = home.folder().join(format!("{}.sock", M::NAME));
        let bare = BareServer::start(&socket, vec![(M::NAME, result)]);
        let bare = bare.map_err(|error| failed("cannot start a bare server", &error))?;
        let mut theirs = RawClient::connect(bare.socket()).await?;
        for run in 0..=self.runs {
            let (cove, floor) = (timed(&mut ours, call).await?, timed(&mut theirs, call).await?);
            if run > 0 {
                measured.cove.push(cove);
                measured.floor.push(floor);
            }
        }
        let beside = measured.beside(BARE);
        say(&format!("`{}`: {:.2} times the floor", M::NAME, beside.ratio));
        Ok(beside)
    }

    /// Pages of a long list, one after the other, taking turns with serialising the same page.
    async fn pages(&self, socket: &Path) -> Result<Beside, Report> {
        let mut client = RawClient::connect(socket).await?;
        let pages = all_pages(&mut client).await?;
        let mut measured = Measured::default();
        for (run, (call, page)) in (0..=self.runs).zip(pages.iter().cycle()) {
            let cove = timed(&mut client, call).await?;
            let began = Instant::now();
            let text = serde_json::to_string(page).map_err(|error| not_a_page(&error))?;
            let floor = began.elapsed();
            measured.bytes = measured.bytes.max(std::hint::black_box(text).len());
            if run > 0 {
                measured.cove.push(cove);
                measured.floor.push(floor);
            }
        }
        Ok(measured.beside(SERIALISED))
    }
}

/// Every page of the long list, with the call that it answers.
async fn all_pages(client: &mut RawClient) -> Result<Vec<(RawCall, VmPage)>, Report> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    let mut vms = 0;
    loop {
        let call = RawCall::of::<VmList>(&Page { limit: Some(LONG_PAGE), cursor });
        let result: Box<RawValue> = client.result(&call).await?;
        let page: VmPage =
            serde_json::from_str(result.get()).map_err(|error| not_a_page(&error))?;
        vms += page.vms.len();
        cursor = page.next.clone();
        pages.push((call, page));
        if cursor.is_none() {
            break;
        }
    }
    if vms != STORED as usize {
        let message = format!("the daemon lists {vms} VMs, and {STORED} were stored");
        return Err(Report::new(Kind::Failed, message));
    }
    Ok(pages)
}

fn not_a_page(error: &serde_json::Error) -> Report {
    failed("a page of VMs is not understood", error)
}

async fn timed(client: &mut RawClient, call: &RawCall) -> Result<Duration, Report> {
    let began = Instant::now();
    let answer = client.answer(call).await?;
    let took = began.elapsed();
    drop(answer);
    Ok(took)
}

fn render(found: &Found) -> String {
    let row = |name: String, spread: &Spread| {
        let [p50, p95, min, max] = spread.cells();
        [name, p50, p95, min, max]
    };
    let rows = |name: String, beside: &Beside| {
        let floor = format!("floor: {}", beside.floor_is);
        [row(format!("cove: {name}"), &beside.cove), row(floor, &beside.floor)]
    };
    let rows = [
        rows("`daemon.ping`".to_owned(), &found.ping),
        rows(format!("`vm.list` of {SHORT_PAGE}"), &found.list),
        rows(format!("`vm.list`, pages of {LONG_PAGE} out of {STORED}"), &found.page),
    ];
    let mut facts = vec![
        ("runs", found.runs.to_string()),
        ("ratio of the medians, `daemon.ping`", format!("{:.2}", found.ping.ratio)),
        ("ratio of the medians, `vm.list`", format!("{:.2}", found.list.ratio)),
        ("ratio of the medians, pages", format!("{:.2}", found.page.ratio)),
        ("bytes of a page", found.page.bytes.to_string()),
        ("percentiles", "nearest rank".to_owned()),
    ];
    facts.extend(found.idle.iter().map(|idle| ("daemon with nothing to do", idle.shown())));
    let responsive = found.responsive.iter();
    facts.extend(responsive.map(|found| ("p99 of `daemon.ping` beside hooks", found.shown())));
    let rows = rows.into_iter().flatten();
    format!("{}\n\n{}", table(["MEASURED", "P50", "P95", "MIN", "MAX"], rows), pairs(&facts))
}
