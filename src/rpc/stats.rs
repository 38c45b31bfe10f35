//! `vm.stats` again and again: polled for each subscriber, and for nobody when there is none.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::MissedTickBehavior;

use super::methods::Context;
use super::subscriptions::Told;
use crate::report::{Kind, Report};
use crate::wire::rpc::{VmStats, WatchStats};

/// How long from one event to the next when the client does not say.
const DEFAULT_INTERVAL_MS: u64 = 1000;
/// A guest has better things to do than to say how busy it is.
const INTERVALS_MS: std::ops::RangeInclusive<u64> = 200..=3_600_000;

/// What a VM uses, until it is gone.
///
/// # Errors
/// When there is no such VM, or the interval is none.
pub(super) fn watch(context: &Context, wanted: WatchStats) -> Result<Told<VmStats>, Report> {
    let interval = wanted.interval_ms.unwrap_or(DEFAULT_INTERVAL_MS);
    if !INTERVALS_MS.contains(&interval) {
        let (least, most) = (INTERVALS_MS.start(), INTERVALS_MS.end());
        let message = format!("`interval_ms` is {interval}, but must lie in {least} to {most}");
        return Err(Report::new(Kind::Invalid, message));
    }
    let vms = context.services.vms.clone();
    // Its name may be another VM's one day.
    let vm = vms.show(&wanted.vm)?.id.to_string();
    let mut ticks = tokio::time::interval(Duration::from_millis(interval));
    // A guest that answers slowly is asked less often, not faster afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(stream::unfold(Some((vms, vm, ticks)), async |watched| {
        let (vms, vm, mut ticks) = watched?;
        ticks.tick().await;
        match vms.stats(&vm).await {
            Ok(stats) => Some((Ok(stats), Some((vms, vm, ticks)))),
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}
