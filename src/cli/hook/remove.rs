//! `cove hook remove`: an installed plugin goes, with its grant and what it remembers.

use crate::id::PluginId;
use crate::wire::rpc::{HookRef, HookRemove};

use super::super::completion::plugin_ids;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::Format;

/// Arguments of `cove hook remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its id
    #[arg(add = plugin_ids())]
    plugin: PluginId,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let plugin = HookRef { plugin: self.plugin };
        connect().await?.call::<HookRemove>(plugin.clone()).await?;
        self.format.print(&plugin, |gone| format!("{} is removed", gone.plugin))?;
        Ok(0)
    }
}
