//! Every method, tied to the daemon's services.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jsonrpsee::server::{Extensions, RpcModule};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::discover::Document;
use super::front::LastingConnection;
use super::hook_runs::HookRuns;
use super::streams::Tickets;
use super::subscriptions;
use super::workspaces::WorkspaceRuns;
use crate::id::PluginId;
use crate::report::{Kind, Report};
use crate::vm::operation::ended;
use crate::vm::{Doom, Doomed, ShownPage, Unexported, VmService};
use crate::wire::rpc::{self, Method, Nothing};

/// What the methods need of the daemon: the VM service, and single operations of the rest.
#[derive(Clone)]
pub struct Services {
    /// The VM service.
    pub vms: VmService,
    /// The other operations.
    pub daemon: Arc<dyn Daemon>,
    /// The plugins.
    pub plugins: Arc<dyn Plugins>,
    /// What hooks have done and would do.
    pub hook_runs: Arc<dyn HookRuns>,
    /// Repositories in VMs.
    pub workspaces: Arc<dyn WorkspaceRuns>,
}

/// What the daemon can tell and do besides VMs.
pub trait Daemon: Send + Sync {
    /// All images.
    fn images(&self) -> Result<Vec<rpc::Image>, Report>;
    /// All kernels.
    fn kernels(&self) -> Result<Vec<rpc::Kernel>, Report>;
    /// Checks of the host.
    fn doctor(&self) -> BoxFuture<'_, Vec<rpc::Check>>;
    /// The configuration in force.
    fn config(&self) -> serde_json::Value;
    /// How the daemon is.
    fn status(&self) -> rpc::DaemonStatusReply;
    /// Ends the daemon.
    fn shut_down(&self);
}

/// What the daemon knows of plugins, and does with them.
#[async_trait]
pub trait Plugins: Send + Sync {
    /// All of them.
    async fn list(&self) -> Result<Vec<rpc::Hook>, Report>;
    /// All that is known of one.
    async fn inspect(&self, wanted: rpc::InspectHook) -> Result<rpc::HookDetails, Report>;
    /// Installs the one in the folder at this absolute path.
    async fn install(&self, path: &str) -> Result<rpc::HookInstalled, Report>;
    /// Grants what one asks for.
    async fn grant(&self, wanted: rpc::GrantHook) -> Result<rpc::HookChanged, Report>;
    /// Takes back what one was granted.
    async fn revoke(&self, wanted: rpc::RevokeHook) -> Result<rpc::HookChanged, Report>;
    /// Removes one.
    async fn remove(&self, plugin: &PluginId) -> Result<(), Report>;
}

/// What every method works on.
pub(super) struct Context {
    pub(super) services: Services,
    pub(super) tickets: Arc<Tickets>,
    /// The answer to `rpc.discover`, once everything is added.
    discovered: Arc<OnceLock<serde_json::Value>>,
}

/// The methods and subscriptions, while they are added.
pub(super) struct Catalog {
    pub(super) module: RpcModule<Context>,
    pub(super) document: Document,
}

/// The module with all methods and subscriptions.
pub(super) fn module(services: Services, tickets: Arc<Tickets>) -> RpcModule<()> {
    let discovered = Arc::new(OnceLock::new());
    let context = Context { services, tickets, discovered: discovered.clone() };
    let mut catalog = Catalog { module: RpcModule::new(context), document: Document::default() };
    vms(&mut catalog);
    streams(&mut catalog);
    super::net::add_all(&mut catalog);
    operations(&mut catalog);
    plugins(&mut catalog);
    daemon(&mut catalog);
    super::hook_runs::add_all(&mut catalog);
    super::workspaces::add_all(&mut catalog);
    subscriptions::add_all(&mut catalog);
    discovered.set(catalog.document.finish()).expect("it is set once");
    catalog.module.remove_context()
}

fn vms(module: &mut Catalog) {
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
        let which = if wanted.at_rest { Doomed::AtRest } else { Doomed::Any };
        let work = if wanted.discard_work { Unexported::Discard } else { Unexported::Keep };
        context.services.vms.delete(&wanted.vm, Doom { which, work }).await
    });
    add::<rpc::VmTouch, _, _>(module, |context, wanted, _| async move {
        context.services.vms.touch(&wanted.vm).await
    });
    // A page is in JSON already: on the wire it is the method's reply, as a test sees.
    add_as::<rpc::VmList, ShownPage, _, _>(module, |context, page, _| async move {
        context.services.vms.list(&page)
    });
    add::<rpc::VmShow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.show(&wanted.vm)
    });
    add::<rpc::VmLogs, _, _>(module, |context, query, _| async move {
        context.services.vms.logs(&query).await
    });
    add::<rpc::VmStatsNow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.stats(&wanted.vm).await
    });
    add::<rpc::VmPorts, _, _>(module, |context, wanted, _| async move {
        context.services.vms.listening(&wanted.vm).await
    });
    add::<rpc::VmHealth, _, _>(module, |context, wanted, _| async move {
        let health = context.services.vms.health(&wanted.vm).await?;
        Ok(rpc::VmHealthReply { boot_id: health.boot_id, uptime_ms: health.uptime_ms })
    });
}

fn streams(module: &mut Catalog) {
    add::<rpc::VmExec, _, _>(module, |context, wanted, _| async move {
        let target = context.services.vms.exec(wanted).await?;
        Ok(context.tickets.give(target))
    });
    add::<rpc::VmExecDetach, _, _>(module, |context, wanted, _| async move {
        context.services.vms.detach(wanted).await
    });
    add::<rpc::VmExecAttach, _, _>(module, |context, wanted, _| async move {
        let target = context.services.vms.attach(wanted).await?;
        Ok(context.tickets.give(target))
    });
    add::<rpc::VmExecList, _, _>(module, |context, wanted, _| async move {
        context.services.vms.detached(&wanted.vm).await
    });
    add::<rpc::VmSsh, _, _>(module, |context, wanted, _| async move {
        let (target, env_left_out) = context.services.vms.ssh(&wanted).await?;
        let rpc::StreamTicket { ticket } = context.tickets.give(target);
        Ok(rpc::SshTicket { ticket, env_left_out })
    });
    add::<rpc::VmForward, _, _>(module, |context, wanted, _| async move {
        let target = context.services.vms.forward(wanted).await?;
        Ok(context.tickets.give(target))
    });
    add::<rpc::VmCopy, _, _>(module, |context, wanted, _| async move {
        let target = context.services.vms.copy(wanted).await?;
        Ok(context.tickets.give(target))
    });
}

fn operations(module: &mut Catalog) {
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
    add::<rpc::EventsList, _, _>(module, |context, query, _| async move {
        Ok(context.services.vms.events().list(&query))
    });
}

fn plugins(module: &mut Catalog) {
    add::<rpc::HookList, _, _>(module, |context, _, _| async move {
        context.services.plugins.list().await
    });
    add::<rpc::HookInspect, _, _>(module, |context, wanted, _| async move {
        context.services.plugins.inspect(wanted).await
    });
    add::<rpc::HookInstall, _, _>(module, |context, wanted, _| async move {
        context.services.plugins.install(&wanted.path).await
    });
    add::<rpc::HookGrant, _, _>(module, |context, wanted, _| async move {
        context.services.plugins.grant(wanted).await
    });
    add::<rpc::HookRevoke, _, _>(module, |context, wanted, _| async move {
        context.services.plugins.revoke(wanted).await
    });
    add::<rpc::HookRemove, _, _>(module, |context, wanted, _| async move {
        context.services.plugins.remove(&wanted.plugin).await.map(|()| Nothing {})
    });
}

fn daemon(module: &mut Catalog) {
    add::<rpc::ImageList, _, _>(
        module,
        |context, _, _| async move { context.services.daemon.images() },
    );
    add::<rpc::KernelList, _, _>(module, |context, _, _| async move {
        context.services.daemon.kernels()
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
    add::<rpc::RpcDiscover, _, _>(module, |context, _, _| async move {
        Ok(context.discovered.get().cloned().unwrap_or_default())
    });
    add::<rpc::DaemonShutdown, _, _>(module, |context, _, _| async move {
        context.services.daemon.shut_down();
        Ok(Nothing {})
    });
}

/// Adds one method. Its parameters are checked against its type, its error becomes the RPC's.
pub(super) fn add<M, F, Handled>(catalog: &mut Catalog, handler: F)
where
    M: Method<Params: JsonSchema, Reply: JsonSchema>,
    F: Fn(Arc<Context>, M::Params, Extensions) -> Handled + Clone + Send + Sync + 'static,
    Handled: Future<Output = Result<M::Reply, Report>> + Send,
{
    add_as::<M, M::Reply, F, Handled>(catalog, handler);
}

/// The same for a method whose reply is made as another type, which is the same on the wire.
fn add_as<M, Reply, F, Handled>(catalog: &mut Catalog, handler: F)
where
    M: Method<Params: JsonSchema, Reply: JsonSchema>,
    Reply: Serialize + Clone + Send + 'static,
    F: Fn(Arc<Context>, M::Params, Extensions) -> Handled + Clone + Send + Sync + 'static,
    Handled: Future<Output = Result<Reply, Report>> + Send,
{
    catalog.document.method::<M>();
    let register =
        catalog.module.register_async_method(M::NAME, move |params, context, extensions| {
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
