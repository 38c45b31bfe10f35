//! Every method, tied to the daemon's services.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jsonrpsee::server::{Extensions, PendingSubscriptionSink, RpcModule, SubscriptionMessage};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::server::LastingConnection;
use super::streams::Tickets;
use crate::report::{Kind, Report};
use crate::vm::VmService;
use crate::vm::operation::ended;
use crate::wire::rpc::{self, Method, Nothing, OpSubscription, Subscription};

/// What the methods need of the daemon: the VM service, and single operations of the rest.
#[derive(Clone)]
pub struct Services {
    /// The VM service.
    pub vms: VmService,
    /// The other operations.
    pub daemon: Arc<dyn Daemon>,
}

/// What the daemon can tell and do besides VMs.
pub trait Daemon: Send + Sync {
    /// All images.
    fn images(&self) -> Result<Vec<rpc::Image>, Report>;
    /// All kernels.
    fn kernels(&self) -> Result<Vec<rpc::Kernel>, Report>;
    /// All hooks.
    fn hooks(&self) -> BoxFuture<'_, Result<Vec<rpc::Hook>, Report>>;
    /// Checks of the host.
    fn doctor(&self) -> BoxFuture<'_, Vec<rpc::Check>>;
    /// The configuration in force.
    fn config(&self) -> serde_json::Value;
    /// How the daemon is.
    fn status(&self) -> rpc::DaemonStatusReply;
    /// Ends the daemon.
    fn shut_down(&self);
}

pub(super) struct Context {
    pub(super) services: Services,
    tickets: Arc<Tickets>,
}

/// The module with all methods.
pub(super) fn module(services: Services, tickets: Arc<Tickets>) -> RpcModule<()> {
    let mut module = RpcModule::new(Context { services, tickets });
    vms(&mut module);
    operations(&mut module);
    daemon(&mut module);
    super::stats::register(&mut module);
    module.remove_context()
}

fn vms(module: &mut RpcModule<Context>) {
    add::<rpc::VmCreate, _, _>(module, |context, wanted, extensions| async move {
        let connection = extensions.get::<LastingConnection>().map(|connection| connection.0);
        context.services.vms.create(wanted, connection).await
    });
    add::<rpc::VmPlan, _, _>(module, |context, wanted, _| async move {
        context.services.vms.plan(&wanted).await
    });
    add::<rpc::VmStart, _, _>(module, |context, wanted, _| async move {
        context.services.vms.start(&wanted.vm, wanted.client, wanted.wait).await
    });
    add::<rpc::VmRestart, _, _>(module, |context, wanted, _| async move {
        context.services.vms.restart(&wanted.vm, wanted.client, wanted.wait).await
    });
    add::<rpc::VmStop, _, _>(module, |context, wanted, _| async move {
        context.services.vms.stop(&wanted.vm).await
    });
    add::<rpc::VmSet, _, _>(module, |context, wanted, _| async move {
        context.services.vms.set(wanted).await
    });
    add::<rpc::VmKill, _, _>(module, |context, wanted, _| async move {
        context.services.vms.kill(&wanted.vm, wanted.signal).await
    });
    add::<rpc::VmDelete, _, _>(module, |context, wanted, _| async move {
        match wanted.at_rest {
            true => context.services.vms.delete_at_rest(&wanted.vm).await,
            false => context.services.vms.delete(&wanted.vm).await,
        }
    });
    add::<rpc::VmTouch, _, _>(module, |context, wanted, _| async move {
        context.services.vms.touch(&wanted.vm).await
    });
    add::<rpc::VmList, _, _>(
        module,
        |context, page, _| async move { context.services.vms.list(&page) },
    );
    add::<rpc::VmShow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.show(&wanted.vm)
    });
    add::<rpc::VmLogs, _, _>(module, |context, query, _| async move {
        context.services.vms.logs(&query)
    });
    add::<rpc::VmStatsNow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.stats(&wanted.vm).await
    });
    add::<rpc::VmPorts, _, _>(module, |context, wanted, _| async move {
        context.services.vms.listening(&wanted.vm).await
    });
    add::<rpc::VmHealth, _, _>(module, |context, wanted, _| async move {
        let health = context.services.vms.guest(&wanted.vm)?.health().await?;
        Ok(rpc::VmHealthReply { boot_id: health.boot_id, uptime_ms: health.uptime_ms })
    });
    add::<rpc::VmExec, _, _>(module, |context, wanted, _| async move {
        let target = context.services.vms.exec(wanted).await?;
        Ok(context.tickets.give(target))
    });
}

fn operations(module: &mut RpcModule<Context>) {
    add::<rpc::OpShow, _, _>(module, |context, wanted, _| async move {
        let state = context.services.vms.operations().watch(&wanted.operation)?;
        let now = state.borrow().clone();
        Ok(now)
    });
    add::<rpc::OpWait, _, _>(module, |context, wanted, _| async move {
        ended(context.services.vms.operations().watch(&wanted.operation)?).await
    });
    add::<rpc::OpCancel, _, _>(module, |context, wanted, _| async move {
        ended(context.services.vms.operations().cancel(&wanted.operation)?).await
    });
    add::<rpc::OpList, _, _>(module, |context, _, _| async move {
        Ok(context.services.vms.operations().list())
    });
    module
        .register_subscription(
            OpSubscription::SUBSCRIBE,
            OpSubscription::EVENT,
            OpSubscription::UNSUBSCRIBE,
            |params, pending, context, _| follow(params, pending, context),
        )
        .expect("the names are different");
}

/// Sends the operation as it is, then every change, until its end.
async fn follow(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    context: Arc<Context>,
) -> jsonrpsee::core::SubscriptionResult {
    let wanted = parameters::<<OpSubscription as Subscription>::Params>(&params);
    let state = wanted.and_then(|wanted| {
        context.services.vms.operations().watch(&wanted.operation).map_err(|error| object(&error))
    });
    let mut state = match state {
        Ok(state) => state,
        Err(error) => {
            pending.reject(error).await;
            return Ok(());
        }
    };
    let sink = pending.accept().await?;
    loop {
        let operation = state.borrow_and_update().clone();
        let event: Box<RawValue> = serde_json::value::to_raw_value(&operation)?;
        if sink.send(SubscriptionMessage::from(event)).await.is_err() || operation.end.is_some() {
            return Ok(());
        }
        // Both arms are cancel-safe: changes are counted, not consumed.
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return Ok(()) },
            () = sink.closed() => return Ok(()),
        }
    }
}

fn daemon(module: &mut RpcModule<Context>) {
    add::<rpc::ImageList, _, _>(
        module,
        |context, _, _| async move { context.services.daemon.images() },
    );
    add::<rpc::KernelList, _, _>(module, |context, _, _| async move {
        context.services.daemon.kernels()
    });
    add::<rpc::HookList, _, _>(module, |context, _, _| async move {
        context.services.daemon.hooks().await
    });
    add::<rpc::DoctorRun, _, _>(module, |context, _, _| async move {
        Ok(context.services.daemon.doctor().await)
    });
    add::<rpc::ConfigShow, _, _>(module, |context, _, _| async move {
        Ok(context.services.daemon.config())
    });
    add::<rpc::DaemonPing, _, _>(module, |_, _, _| async move {
        Ok(rpc::Pong { version: env!("CARGO_PKG_VERSION").to_owned() })
    });
    add::<rpc::DaemonStatus, _, _>(module, |context, _, _| async move {
        Ok(context.services.daemon.status())
    });
    add::<rpc::DaemonShutdown, _, _>(module, |context, _, _| async move {
        context.services.daemon.shut_down();
        Ok(Nothing {})
    });
}

/// Adds one method. Its parameters are checked against its type, its error becomes the RPC's.
fn add<M, F, Handled>(module: &mut RpcModule<Context>, handler: F)
where
    M: Method,
    F: Fn(Arc<Context>, M::Params, Extensions) -> Handled + Clone + Send + Sync + 'static,
    Handled: Future<Output = Result<M::Reply, Report>> + Send,
{
    let register = module.register_async_method(M::NAME, move |params, context, extensions| {
        let handler = handler.clone();
        async move {
            let wanted = parameters::<M::Params>(&params)?;
            handler(context, wanted, extensions).await.map_err(|error| object(&error))
        }
    });
    register.expect("the names are different");
}

/// The parameters of a request. They are objects; none at all counts as an empty one.
pub(super) fn parameters<T: DeserializeOwned>(params: &Params<'_>) -> Result<T, ErrorObjectOwned> {
    let text = params.as_str().map_or("{}", str::trim_start);
    let wrong = |why: String| {
        object(
            &Report::new(Kind::Invalid, "the parameters are wrong")
                .with_cause(&std::io::Error::other(why)),
        )
    };
    if !text.starts_with('{') {
        return Err(wrong("parameters are an object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
}

/// A report as the RPC's error.
pub(super) fn object(report: &Report) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(report.kind.rpc_code(), report.message.clone(), Some(report))
}
