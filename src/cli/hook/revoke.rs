//! `cove hook revoke`: what a plugin was granted is taken back.

use crate::id::PluginId;
use crate::wire::rpc::{HookRevoke, RevokeHook};

use super::super::completion::plugin_ids;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, tell};
use super::grant;

/// Arguments of `cove hook revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its id
    #[arg(add = plugin_ids())]
    plugin: PluginId,
    /// What to take back, such as `work-disk:.config/**`; everything when nothing is named
    #[arg(value_name = "NEED")]
    needs: Vec<String>,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let wanted = RevokeHook { plugin: self.plugin, needs: self.needs };
        let changed = connect().await?.call::<HookRevoke>(wanted).await?;
        self.format.print(&changed, grant::render)?;
        tell(&changed.notes);
        Ok(0)
    }
}
