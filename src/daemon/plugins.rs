//! The registry of plugins, for the RPC.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::hooks::HookHost;
use crate::id::PluginId;
use crate::report::{Kind, Report};
use crate::rpc::server::Plugins;
use crate::wire::rpc::{
    GrantHook, Hook, HookChanged, HookDetails, HookInstalled, InspectHook, RevokeHook,
};

/// The plugins of one daemon.
pub(super) struct Registered(pub(super) Arc<HookHost>);

#[async_trait]
impl Plugins for Registered {
    async fn list(&self) -> Result<Vec<Hook>, Report> {
        self.0.list().await.map_err(|error| Report::of(&error))
    }

    async fn inspect(&self, wanted: InspectHook) -> Result<HookDetails, Report> {
        if let Some(path) = &wanted.path {
            absolute(path)?;
        }
        self.0.inspect(wanted).await.map_err(|error| Report::of(&error))
    }

    async fn install(&self, path: &str) -> Result<HookInstalled, Report> {
        self.0.install(absolute(path)?).await.map_err(|error| Report::of(&error))
    }

    async fn grant(&self, wanted: GrantHook) -> Result<HookChanged, Report> {
        self.0.grant(wanted).await.map_err(|error| Report::of(&error))
    }

    async fn revoke(&self, wanted: RevokeHook) -> Result<HookChanged, Report> {
        self.0.revoke(wanted).await.map_err(|error| Report::of(&error))
    }

    async fn remove(&self, plugin: &PluginId) -> Result<(), Report> {
        self.0.remove(plugin).await.map_err(|error| Report::of(&error))
    }
}

/// A client's working folder is not the daemon's.
fn absolute(path: &str) -> Result<&Path, Report> {
    let path = Path::new(path);
    match path.is_absolute() {
        true => Ok(path),
        false => {
            let message = format!("`{}` is not an absolute path", path.display());
            Err(Report::new(Kind::Invalid, message))
        }
    }
}
