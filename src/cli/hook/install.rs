//! `cove hook install`: a plugin's files become an installed plugin.

use std::path::PathBuf;

use crate::wire::rpc::{HookInstall, HookInstalled, InstallHook, InstallOutcome};

use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, one_line, tell};
use super::{absolute, needs};

/// Arguments of `cove hook install`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder with `plugin.toml` and the component, or one of these two files
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let path = absolute(&self.path)?;
        let installed = connect().await?.call::<HookInstall>(InstallHook { path }).await?;
        self.format.print(&installed, render)?;
        tell(&installed.notes);
        Ok(0)
    }
}

/// What it is now, and what it asks for.
fn render(installed: &HookInstalled) -> String {
    let hook = &installed.plugin.hook;
    let what = match installed.outcome {
        InstallOutcome::Active => "installed and active",
        InstallOutcome::PendingGrant => "installed, pending-grant",
        InstallOutcome::Unchanged => "was installed already",
    };
    let mut lines = vec![format!("{} {}: {what}", hook.plugin, one_line(&installed.version))];
    match installed.plugin.asks_anew.is_empty() {
        true => lines.extend(needs(&hook.needs).into_iter().map(|need| format!("  needs {need}"))),
        false => {
            let anew = installed.plugin.asks_anew.iter();
            lines.extend(anew.map(|word| format!("  needs, which is new, {}", one_line(word))));
        }
    }
    lines.join("\n")
}
