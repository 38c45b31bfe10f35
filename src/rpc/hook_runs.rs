//! Methods about what hooks have done and would do.

use async_trait::async_trait;

use super::methods::{Catalog, add};
use crate::report::Report;
use crate::wire::rpc;

/// What the daemon knows of runs of hooks.
#[async_trait]
pub trait HookRuns: Send + Sync {
    /// What they would do to a machine.
    async fn plan(&self, wanted: rpc::HookPlanQuery) -> Result<rpc::HookPlans, Report>;
    /// What has been written down of them.
    async fn page(&self, query: rpc::HookRunQuery) -> Result<rpc::HookRunPage, Report>;
    /// Whether that is as it was written.
    async fn verify(&self) -> Result<rpc::HookChain, Report>;
}

pub(super) fn add_all(module: &mut Catalog) {
    add::<rpc::HookPlanShow, _, _>(module, |context, wanted, _| async move {
        context.services.hook_runs.plan(wanted).await
    });
    add::<rpc::HookRuns, _, _>(module, |context, query, _| async move {
        context.services.hook_runs.page(query).await
    });
    add::<rpc::HookVerify, _, _>(module, |context, _, _| async move {
        context.services.hook_runs.verify().await
    });
}
