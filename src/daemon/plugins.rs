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
            let hint =
                "write the whole path, from `/` on: the daemon has a working folder of its own";
            Err(Report::new(Kind::Invalid, message).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_absolute_is_refused_with_what_to_write() {
        assert_eq!(absolute("/plugins/one").expect("absolute"), Path::new("/plugins/one"));
        let report = absolute("plugins/one").expect_err("relative");
        assert_eq!(report.kind, Kind::Invalid);
        assert!(report.hint.is_some_and(|hint| hint.contains("from `/` on")));
    }
}
