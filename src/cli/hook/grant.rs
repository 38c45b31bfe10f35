//! `cove hook grant`: a plugin gets what it asks for. What that is is shown first, and no other files get it.

use std::collections::BTreeMap;

use crate::id::PluginId;
use crate::wire::rpc::{GrantHook, HookChanged, HookDetails, HookGrant, HookInspect, InspectHook};

use super::super::completion::plugin_ids;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, one_line, say, tell};
use super::{needs, state};

/// Arguments of `cove hook grant`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its id
    #[arg(add = plugin_ids())]
    plugin: PluginId,
    /// What to grant, such as `work-disk:.config/**`; all that it asks for when nothing is named
    #[arg(value_name = "NEED")]
    needs: Vec<String>,
    /// What stands behind a logical name of its host files: an absolute path or `~/…`; `*` and `?` match
    #[arg(long = "map", value_name = "NAME=PATH", value_parser = mapping)]
    maps: Vec<(String, String)>,
    #[command(flatten)]
    format: Format,
}

/// `NAME=PATH`.
fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.to_owned()))
        }
        Some(_) | None => Err("it is not NAME=PATH".to_owned()),
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let plugin = Some(self.plugin.clone());
        let inspect = InspectHook { plugin, path: None };
        let details = client.call::<HookInspect>(inspect).await?;
        if self.needs.is_empty() && !self.format.json {
            show(&details);
        }
        let mut host_files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, path) in self.maps {
            host_files.entry(name).or_default().push(path);
        }
        // What waits beside the active version is what a grant is for.
        let waits = details.releases.iter().find(|release| release.pending);
        let waits = waits.filter(|_| details.hook.pending.is_some());
        let seen = waits.map(|release| release.release.clone()).or(details.release);
        let (plugin, needs) = (self.plugin, self.needs);
        let wanted = GrantHook { plugin, needs, host_files, release: seen };
        let changed = client.call::<HookGrant>(wanted).await?;
        self.format.print(&changed, render)?;
        tell(&changed.notes);
        Ok(0)
    }
}

/// What is about to be granted, on stderr: a user who reads it in time can stop, and one who does not can
/// take it back.
fn show(details: &HookDetails) {
    let hook = &details.hook;
    match &hook.pending {
        None => {
            say(&format!("{} {} asks for:", hook.plugin, one_line(&hook.version)));
            for need in needs(&hook.needs) {
                say(&format!("  {need}"));
            }
        }
        Some(version) => {
            say(&format!("{} {} asks for this besides:", hook.plugin, one_line(version)));
            for word in &details.asks_anew {
                say(&format!("  {}", one_line(word)));
            }
        }
    }
}

/// What the plugin is now, and what it has.
pub(super) fn render(changed: &HookChanged) -> String {
    let hook = &changed.plugin.hook;
    let state = one_line(&state(hook.state, hook.pending.as_deref()));
    let mut lines = vec![format!("{} {}: {state}", hook.plugin, one_line(&hook.version))];
    lines.extend(needs(&hook.needs).into_iter().map(|need| format!("  needs {need}")));
    lines.join("\n")
}
