//! What a daemon costs that has nothing to do.

use std::time::Duration;

use serde::Serialize;

use crate::process::{Sleeps, usage};
use crate::report::Report;

use super::super::super::output::{failed, say};
use super::home::Home;

/// How long the daemon is left alone first: threads that its runtime keeps for a while after its start end.
const SETTLE: Duration = Duration::from_secs(15);

/// A daemon while nothing is asked of it.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    /// How many VMs run.
    vms: u32,
    seconds: u32,
    /// How often one of its threads was woken in that time.
    wake_ups: u64,
    /// Its memory afterwards.
    resident_kib: u64,
}

impl Idle {
    /// For people.
    pub(super) fn shown(&self) -> String {
        let Self { vms, seconds, wake_ups, resident_kib } = self;
        format!("{wake_ups} wake-ups in {seconds} s, {resident_kib} KiB resident, {vms} VMs run")
    }
}

/// Watches it for so long.
pub(super) async fn watch(home: &Home, vms: u32, seconds: u32) -> Result<Idle, Report> {
    let cannot = |error: &std::io::Error| failed("cannot watch the daemon", error);
    let daemon = home.daemon()?;
    let settle = SETTLE.as_secs() + u64::from(seconds);
    say(&format!("the daemon with {vms} VMs is left alone for {settle} s"));
    tokio::time::sleep(SETTLE).await;
    let before = Sleeps::of(daemon.pid).map_err(|error| cannot(&error))?;
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let after = Sleeps::of(daemon.pid).map_err(|error| cannot(&error))?;
    let used = usage(daemon).map_err(|error| cannot(&error))?;
    let resident_kib = used.map_or(0, |used| used.resident_bytes >> 10);
    Ok(Idle { vms, seconds, wake_ups: after.since(&before), resident_kib })
}
