//! How fast the daemon answers while a plugin runs in it again and again, beside how fast it is at rest.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::id::PluginId;
use crate::report::{Kind, Report};
use crate::rpc::bare::{RawCall, RawClient};
use crate::rpc::client::Client;
use crate::wire::rpc::{
    CreateVm, DaemonPing, GrantHook, HookGrant, HookInstall, HookPlanQuery, HookPlanShow,
    InstallHook, Nothing,
};

use super::super::super::hook::absolute;
use super::super::super::output::failed;
use super::super::spread::Tail;
use super::home::Home;
use super::timed;

/// How often the plugin must have run meanwhile, at least.
const HOOKS: u32 = 3;

/// How long round trips are measured at rest, at least: about as long as the plugin runs, so that the same happens
/// on the host meanwhile.
const AT_REST: Duration = Duration::from_secs(3);

/// Round trips of `daemon.ping`, at rest and beside the plugin.
#[derive(Debug, Serialize)]
pub(super) struct Responsive {
    plugin: PluginId,
    /// How often the plugin was run meanwhile.
    hooks: u32,
    rest: Tail,
    beside: Tail,
    /// How many times longer the 99th percentile is beside the plugin.
    ratio_p99: f64,
}

impl Responsive {
    /// For people.
    pub(super) fn shown(&self) -> String {
        let Self { plugin, hooks, rest, beside, ratio_p99 } = self;
        format!(
            "{ratio_p99:.2} times ({:.3} ms, {:.3} ms at rest), while `{plugin}` ran {hooks} times",
            beside.p99_ms, rest.p99_ms
        )
    }
}

/// Installs the plugin in a folder, with the settings of its `test.toml`, and measures. The daemon must not run,
/// and does not afterwards.
pub(super) async fn measure(
    home: &mut Home,
    folder: &Path,
    runs: u32,
) -> Result<Responsive, Report> {
    let settings = settings(folder)?;
    home.start().await?;
    let client = home.client().await?;
    let path = absolute(folder)?;
    let installed = client.call::<HookInstall>(InstallHook { path }).await?;
    let plugin = installed.plugin.hook.plugin;
    let (needs, host_files, release) = (Vec::new(), [].into(), None);
    let grant = GrantHook { plugin: plugin.clone(), needs, host_files, release };
    client.call::<HookGrant>(grant).await?;
    drop(client);
    home.stop().await?;
    // A daemon reads its configuration when it starts.
    home.configure(&plugin, settings)?;
    home.start().await?;
    let ping = RawCall::of::<DaemonPing>(&Nothing {});
    let mut raw = RawClient::connect(home.socket()).await?;
    let mut rest = Vec::new();
    // One that does not count.
    timed(&mut raw, &ping).await?;
    let began = Instant::now();
    while rest.len() < runs as usize || began.elapsed() < AT_REST {
        rest.push(timed(&mut raw, &ping).await?);
    }
    let (beside, hooks) = while_it_runs(&home.client().await?, &mut raw, &ping, runs).await?;
    home.stop().await?;
    let (rest, beside) = (Tail::of(&rest), Tail::of(&beside));
    Ok(Responsive { plugin, hooks, ratio_p99: rest.ratio_p99(&beside), rest, beside })
}

/// Round trips, so many at least, while hooks are asked again and again what they would do. Returns how often they
/// were, too.
async fn while_it_runs(
    client: &Client,
    raw: &mut RawClient,
    ping: &RawCall,
    runs: u32,
) -> Result<(Vec<Duration>, u32), Report> {
    let hooks = Cell::new(0);
    let plans = async {
        loop {
            let create = Some(Box::new(CreateVm::default()));
            let query = HookPlanQuery { create, ..HookPlanQuery::default() };
            match client.call::<HookPlanShow>(query).await {
                Err(report) if report.kind == Kind::Unreachable => return report,
                // A plugin that fails is what is wanted here.
                Ok(_) | Err(_) => hooks.set(hooks.get() + 1),
            }
        }
    };
    let pings = async {
        let mut took = Vec::new();
        while hooks.get() < HOOKS || took.len() < runs as usize {
            took.push(timed(raw, ping).await?);
        }
        Ok::<_, Report>(took)
    };
    // Either way the other is not needed any more.
    tokio::select! {
        took = pings => Ok((took?, hooks.get())),
        lost = plans => Err(lost),
    }
}

/// The settings that the plugin's author tests it with.
fn settings(folder: &Path) -> Result<toml::Table, Report> {
    let file = folder.join("test.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(super::super::cannot("read", &file, &error)),
    };
    let test: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        failed(&format!("cannot use `{}`", file.display()), &error)
    })?;
    Ok(test.get("settings").and_then(|settings| settings.as_table()).cloned().unwrap_or_default())
}
