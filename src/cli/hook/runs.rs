//! `cove hook runs`: what has been written down of runs of hooks.

use std::time::Duration;

use crate::id::PluginId;
use crate::report::{Kind, Report, counted};
use crate::rpc::client::Client;
use crate::wire::rpc::{
    HookChain, HookEntry, HookRecord, HookRunEntry, HookRunQuery, HookRuns, HookVerify, Nothing,
};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, failed, one_line, print, size, table};

/// How often `--follow` asks.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Records that `--follow` asks for at once: as many as there are on a page.
const PAGE: u32 = 1000;

/// Arguments of `cove hook runs`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// Only the runs of this plugin
    #[arg(long, value_name = "ID")]
    plugin: Option<PluginId>,
    /// Only the runs for this VM, which need not be there any more
    #[arg(long, add = vm_names())]
    vm: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on with what happens; with --json, one JSON value a line
    #[arg(short, long)]
    follow: bool,
    /// Look whether the records are as they were written, and show none
    #[arg(long, conflicts_with_all = ["plugin", "vm", "limit", "follow"])]
    verify: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        if self.verify {
            return self.verify(&client).await;
        }
        let records = self.newest(&client).await?;
        if !self.follow {
            self.format.print(&records, |records| render(records))?;
            return Ok(0);
        }
        let mut seen = self.show(&records, 0)?;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            seen = self.show(&self.since(&client, seen).await?, seen)?;
        }
    }

    fn query(&self) -> HookRunQuery {
        HookRunQuery { plugin: self.plugin.clone(), vm: self.vm.clone(), ..HookRunQuery::default() }
    }

    /// The newest records, as many as are wanted. A page may have fewer.
    async fn newest(&self, client: &Client) -> Result<Vec<HookRecord>, Report> {
        let mut records = Vec::new();
        let mut query = HookRunQuery { limit: Some(self.limit), ..self.query() };
        loop {
            let page = client.call::<HookRuns>(query.clone()).await?;
            records.splice(0..0, page.records);
            let left = self.limit.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
            if left == 0 || page.next.is_none() {
                return Ok(records);
            }
            query = HookRunQuery { limit: Some(left), before: page.next, ..query };
        }
    }

    /// All records after this one: pages are the newest ones, so those between come after them.
    async fn since(&self, client: &Client, seen: u64) -> Result<Vec<HookRecord>, Report> {
        let mut records = Vec::new();
        let mut query = HookRunQuery { limit: Some(PAGE), after: Some(seen), ..self.query() };
        loop {
            let page = client.call::<HookRuns>(query.clone()).await?;
            records.splice(0..0, page.records);
            if page.next.is_none() {
                return Ok(records);
            }
            query = HookRunQuery { before: page.next, ..query };
        }
    }

    /// Shows records one by one; returns the number of the last.
    fn show(&self, records: &[HookRecord], seen: u64) -> Result<u64, Failure> {
        for record in records {
            match self.format.json {
                true => {
                    let line = serde_json::to_string(record);
                    print(&line.map_err(|error| failed("cannot write a record as JSON", &error))?)?;
                }
                false => print(&row(record))?,
            }
        }
        Ok(records.last().map_or(seen, |record| record.number))
    }

    async fn verify(&self, client: &Client) -> Result<u8, Failure> {
        let chain = client.call::<HookVerify>(Nothing {}).await?;
        match &chain.broken {
            Some(broken) if !self.format.json => {
                let message =
                    format!("the records of hooks are damaged: {}", one_line(&broken.reason));
                let hint = "what follows that line cannot be relied on; keep the files and look at who wrote them. To begin anew: `cove daemon stop`, and move `hooks*.jsonl` away";
                Err(Report::new(Kind::Failed, message).with_hint(hint).into())
            }
            broken => {
                self.format.print(&chain, verdict)?;
                Ok(u8::from(broken.is_some()))
            }
        }
    }
}

fn verdict(chain: &HookChain) -> String {
    let HookChain { records, first, last, cuts, .. } = chain;
    let mut text = format!("the chain holds: {records} records, from {first} to {last}");
    if *first > 1 {
        text.push_str("; older ones have made room");
    }
    if *cuts > 0 {
        text.push_str(&format!("; {cuts} cut-off lines were removed"));
    }
    text
}

/// A row for each record.
pub(in super::super) fn render(records: &[HookRecord]) -> String {
    let header = ["N", "TIME", "VM", "HOOK", "PLUGIN", "OUTCOME", "CPU", "WALL", "MEMORY", "WHAT"];
    table(header, records.iter().map(cells))
}

/// The same on a line of its own.
pub(in super::super) fn row(record: &HookRecord) -> String {
    cells(record).map(|cell| one_line(&cell)).join("  ")
}

fn cells(record: &HookRecord) -> [String; 10] {
    let number = record.number.to_string();
    let time = record.time.clone();
    let blank = |what: String| {
        let dash = || "-".to_owned();
        [number.clone(), time.clone(), dash(), dash(), dash(), dash(), dash(), dash(), dash(), what]
    };
    match &record.entry {
        HookEntry::Run(run) => of_run(&number, &time, run),
        HookEntry::Imported { run, files, left_out } => {
            let without = match left_out {
                0 => String::new(),
                more => format!("; {more} more stay without"),
            };
            blank(format!("digests of {} files that run {run} imported{without}", files.len()))
        }
        HookEntry::Dropped { runs } => {
            let runs = runs.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            blank(format!("what these wanted was dropped: {runs}"))
        }
        HookEntry::Cut { bytes, .. } => {
            blank(format!("a cut-off line of {bytes} bytes was removed"))
        }
        HookEntry::Anew => blank("the record before this cannot be read".to_owned()),
    }
}

fn of_run(number: &str, time: &str, run: &HookRunEntry) -> [String; 10] {
    let milliseconds = |micros: u64| format!("{}.{:03} ms", micros / 1000, micros % 1000);
    let kinds = [
        (run.reads.len(), "read"),
        (run.imports.len(), "import"),
        (run.writes.len(), "step"),
        (run.wishes.len(), "setting"),
        (run.denials.len(), "denial"),
    ];
    let what = kinds.into_iter().filter(|(count, _)| *count > 0);
    let what = what.map(|(count, what)| counted(count as u64, what));
    let more = (run.left_out > 0).then(|| format!("{} more", run.left_out));
    let looked = (run.purpose == "look").then(|| "only looked".to_owned());
    let outcome = match &run.code {
        Some(code) => format!("{} ({code})", run.outcome),
        None => run.outcome.clone(),
    };
    [
        number.to_owned(),
        time.to_owned(),
        run.name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        run.point.to_string(),
        format!("{} {}", run.plugin, run.version),
        outcome,
        milliseconds(run.used.cpu_us),
        milliseconds(run.used.wall_us),
        size(run.used.memory),
        what.chain(more).chain(looked).collect::<Vec<_>>().join(", "),
    ]
}
