//! `vm.stats` again and again: polled for each subscriber, and for nobody when there is none.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::SubscriptionResult;
use jsonrpsee::server::{PendingSubscriptionSink, RpcModule, SubscriptionMessage};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use tokio::time::MissedTickBehavior;

use super::methods::{Context, object, parameters};
use crate::report::{Kind, Report};
use crate::wire::rpc::{StatsSubscription, Subscription, WatchStats};

/// How long from one event to the next when the client does not say.
const DEFAULT_INTERVAL_MS: u64 = 1000;
/// A guest has better things to do than to say how busy it is.
const INTERVALS_MS: std::ops::RangeInclusive<u64> = 200..=3_600_000;

pub(super) fn register(module: &mut RpcModule<Context>) {
    module
        .register_subscription(
            StatsSubscription::SUBSCRIBE,
            StatsSubscription::EVENT,
            StatsSubscription::UNSUBSCRIBE,
            |params, pending, context, _| watch(params, pending, context),
        )
        .expect("the names are different");
}

/// The VM's id, whatever is named like it later, and the interval.
fn check(params: &Params<'_>, context: &Context) -> Result<(String, Duration), ErrorObjectOwned> {
    let wanted: WatchStats = parameters(params)?;
    let interval = wanted.interval_ms.unwrap_or(DEFAULT_INTERVAL_MS);
    if !INTERVALS_MS.contains(&interval) {
        let (least, most) = (INTERVALS_MS.start(), INTERVALS_MS.end());
        let message = format!("`interval_ms` is {interval}, but must lie in {least} to {most}");
        return Err(object(&Report::new(Kind::Invalid, message)));
    }
    let vm = context.services.vms.show(&wanted.vm).map_err(|error| object(&error))?;
    Ok((vm.id.to_string(), Duration::from_millis(interval)))
}

async fn watch(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    context: Arc<Context>,
) -> SubscriptionResult {
    let (vm, interval) = match check(&params, &context) {
        Ok(checked) => checked,
        Err(error) => {
            pending.reject(error).await;
            return Ok(());
        }
    };
    let sink = pending.accept().await?;
    let mut ticks = tokio::time::interval(interval);
    // A guest that answers slowly is asked less often, not faster afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            _ = ticks.tick() => {}
            () = sink.closed() => return Ok(()),
        }
        // An error ends the subscription for the client too; a good end of it would only fall silent.
        let stats = context.services.vms.stats(&vm).await?;
        let event = serde_json::value::to_raw_value(&stats)?;
        if sink.send(SubscriptionMessage::from(event)).await.is_err() {
            return Ok(());
        }
    }
}
