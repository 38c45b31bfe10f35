//! What goes on after its answer: `X.subscribe`, told by notifications `X.event`, until the client
//! unsubscribes or there is nothing more to tell.
//!
//! The end is told, too: by a notification with `error` where the others have `result`, which is how
//! jsonrpsee's clients know that a subscription is over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use jsonrpsee::server::{
    PendingSubscriptionSink, SubscriptionCloseResponse, SubscriptionMessage, SubscriptionSink,
};
use jsonrpsee::types::Params;
use schemars::JsonSchema;
use tokio::sync::watch;

use super::methods::{Catalog, Context, object, parameters};
use crate::report::{Kind, Report};
use crate::vm::VmService;
use crate::wire::rpc::{
    Event, EventSubscription, ExecSubscription, LogQuery, LogSubscription, Logs, OpSubscription,
    Operation, StatsSubscription, Subscription,
};

/// How often a console is looked at for a subscriber.
const CONSOLE_INTERVAL: Duration = Duration::from_millis(250);

/// What a subscriber is told. After an error there is nothing more.
pub(super) type Told<T> = BoxStream<'static, Result<T, Report>>;

/// Adds all subscriptions.
pub(super) fn add_all(catalog: &mut Catalog) {
    add::<OpSubscription, _, _>(catalog, |context, wanted| async move {
        Ok(operation(context.services.vms.operations().watch(&wanted.operation)?))
    });
    add::<EventSubscription, _, _>(catalog, |context, query| async move {
        let follower = context.services.vms.events().follow(&query);
        Ok(stream::unfold(follower, async |mut follower| {
            let event: Event = follower.next().await;
            Some((Ok(event), follower))
        })
        .boxed())
    });
    add::<StatsSubscription, _, _>(catalog, |context, wanted| async move {
        super::stats::watch(&context, wanted)
    });
    add::<LogSubscription, _, _>(catalog, |context, query| async move {
        console(&context.services.vms, query)
    });
    add::<ExecSubscription, _, _>(catalog, super::exec::follow);
}

/// Adds one subscription. Its parameters are checked against its type; `begin` looks at them and has what is
/// to be told.
fn add<S, Begin, Begun>(catalog: &mut Catalog, begin: Begin)
where
    S: Subscription<Params: JsonSchema, Event: JsonSchema> + 'static,
    Begin: Fn(Arc<Context>, S::Params) -> Begun + Clone + Send + Sync + 'static,
    Begun: Future<Output = Result<Told<S::Event>, Report>> + Send + 'static,
{
    catalog.document.subscription::<S>();
    let register = catalog.module.register_subscription(
        S::SUBSCRIBE,
        S::EVENT,
        S::UNSUBSCRIBE,
        move |params, pending, context, _| {
            serve::<S, _, _>(params, pending, context, begin.clone())
        },
    );
    register.expect("the names are different");
}

async fn serve<S, Begin, Begun>(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    context: Arc<Context>,
    begin: Begin,
) -> SubscriptionCloseResponse
where
    S: Subscription,
    Begin: Fn(Arc<Context>, S::Params) -> Begun,
    Begun: Future<Output = Result<Told<S::Event>, Report>>,
{
    // What it holds of the daemon then, it holds by itself.
    let begun = match parameters::<S::Params>(&params) {
        Ok(wanted) => begin(context, wanted).await.map_err(|error| object(&error)),
        Err(error) => Err(error),
    };
    match begun {
        Ok(told) => match pending.accept().await {
            Ok(sink) => tell(told, &sink).await,
            // The client is gone.
            Err(_) => SubscriptionCloseResponse::None,
        },
        Err(error) => {
            pending.reject(error).await;
            SubscriptionCloseResponse::None
        }
    }
}

async fn tell<T: serde::Serialize>(
    mut told: Told<T>,
    sink: &SubscriptionSink,
) -> SubscriptionCloseResponse {
    loop {
        // Both arms are cancel-safe: a subscriber that is gone needs no event.
        let event = tokio::select! {
            event = told.next() => event,
            () = sink.closed() => return SubscriptionCloseResponse::None,
        };
        let event = match event {
            None => return SubscriptionCloseResponse::NotifErr("there is nothing more".into()),
            Some(Err(report)) => {
                return SubscriptionCloseResponse::NotifErr(report.one_line().into());
            }
            Some(Ok(event)) => serde_json::value::to_raw_value(&event),
        };
        let sent = match event {
            Ok(event) => sink.send(SubscriptionMessage::from(event)).await,
            Err(error) => return SubscriptionCloseResponse::NotifErr(error.into()),
        };
        if sent.is_err() {
            return SubscriptionCloseResponse::None;
        }
    }
}

/// The operation as it is, then every change, until its end.
fn operation(state: watch::Receiver<Operation>) -> Told<Operation> {
    stream::unfold(Some((state, false)), async |following| {
        let (mut state, told) = following?;
        if told {
            state.changed().await.ok()?;
        }
        let now = state.borrow_and_update().clone();
        let goes_on = now.end.is_none();
        Some((Ok(now), goes_on.then_some((state, true))))
    })
    .boxed()
}

/// What a VM writes on its console, until it runs no more.
fn console(vms: &VmService, mut query: LogQuery) -> Result<Told<Logs>, Report> {
    // Its name may be another VM's one day.
    query.vm = vms.show(&query.vm)?.id.to_string();
    let following = Some((vms.clone(), query));
    Ok(stream::unfold(following, async |following| {
        let (vms, mut query) = following?;
        loop {
            let over = match vms.show(&query.vm) {
                Ok(vm) => vm.state.is_at_rest(),
                Err(error) if error.kind == Kind::NotFound => return None,
                Err(error) => return Some((Err(error), None)),
            };
            match vms.logs(&query).await {
                Ok(logs) if logs.text.is_empty() && logs.lost == 0 => {}
                Ok(logs) => {
                    query.from = Some(logs.next);
                    return Some((Ok(logs), Some((vms, query))));
                }
                Err(error) if error.kind == Kind::NotFound => return None,
                Err(error) => return Some((Err(error), None)),
            }
            if over {
                return None;
            }
            tokio::time::sleep(CONSOLE_INTERVAL).await;
        }
    })
    .boxed())
}
