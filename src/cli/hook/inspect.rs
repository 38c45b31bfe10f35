//! `cove hook inspect`: all about one plugin.

use std::path::Path;

use crate::report::{Kind, Report};
use crate::wire::rpc::{HookDetails, HookInspect, HookRelease, InspectHook};

use super::super::completion::plugin_ids;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, one_line, pairs, size};
use super::{absolute, is_path, needs, state};

/// Arguments of `cove hook inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its id; or a path with a slash in it (`./my-plugin`), which need not be installed
    #[arg(value_name = "ID|PATH", add = plugin_ids())]
    plugin: String,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let wanted = wanted(&self.plugin)?;
        let details = connect().await?.call::<HookInspect>(wanted).await?;
        self.format.print(&details, render)?;
        Ok(0)
    }
}

/// An id, unless there is a slash in it.
pub(super) fn wanted(text: &str) -> Result<InspectHook, Report> {
    if is_path(text) {
        let path = Some(absolute(Path::new(text))?);
        return Ok(InspectHook { path, ..InspectHook::default() });
    }
    match text.parse() {
        Ok(plugin) => Ok(InspectHook { plugin: Some(plugin), ..InspectHook::default() }),
        Err(error) => {
            let report =
                Report::new(Kind::Invalid, format!("`{}` is no plugin id", text.escape_debug()));
            Err(report.with_cause(&error).with_hint("a path has a slash in it: `./my-plugin`"))
        }
    }
}

/// Names and values, then lists.
pub(crate) fn render(details: &HookDetails) -> String {
    let hook = &details.hook;
    let limits = &details.limits;
    let mut rows = vec![
        ("plugin", hook.plugin.to_string()),
        ("version", hook.version.clone()),
        ("state", state(hook.state, hook.pending.as_deref())),
        ("from", if hook.standard { "cove" } else { "user" }.to_owned()),
        ("hooks", hook.hooks.iter().map(|point| point.as_str()).collect::<Vec<_>>().join(", ")),
        ("contract", format!("cove:hooks@{}", details.api)),
        ("component", hook.digest.to_string()),
        ("needs digest", details.needs_digest.to_string()),
    ];
    if !hook.standard {
        rows.extend(details.manifest.as_ref().map(|digest| ("manifest", digest.to_string())));
        let signer = details.signer.as_ref();
        let signer = signer.map(|signer| format!("{} ({})", signer.name, signer.key));
        rows.push(("signed by", signer.unwrap_or_else(|| "nobody known".to_owned())));
    }
    rows.push((
        "limits",
        format!(
            "class {}: {} of memory, {} ms of processor time, {} in {} steps",
            details.class,
            size(limits.memory_bytes),
            limits.cpu_ms,
            size(limits.output_bytes),
            limits.output_steps
        ),
    ));
    if let Some(grant) = &details.grant {
        let at = grant.at.as_ref().map(|at| format!(", {at}")).unwrap_or_default();
        rows.push(("granted by", format!("{}{at}", grant.by)));
    }
    if let Some(problem) = &hook.problem {
        rows.push(("problem", problem.clone()));
    }
    let mut text = pairs(&rows);
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text += &format!("\n{title}:\n  {}", lines.join("\n  "));
        }
    };
    section("needs", needs(&hook.needs));
    section("needs of the version that waits, which are new", lines(&details.asks_anew));
    let host_files = details.grant.iter().flat_map(|grant| &grant.host_files);
    let host_files =
        host_files.map(|(name, paths)| one_line(&format!("{name} = {}", paths.join(", "))));
    section("host files", host_files.collect());
    section("exports", lines(&details.exports));
    section("imports", lines(&details.imports));
    section("installed", details.releases.iter().map(release).collect());
    let failures = details.failures.iter();
    section(
        "failures in a row",
        failures.map(|(point, count)| format!("{point}: {count}")).collect(),
    );
    text
}

fn lines(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| one_line(text)).collect()
}

fn release(release: &HookRelease) -> String {
    let pending = if release.pending { ", pending-grant" } else { "" };
    let signer = match &release.signer {
        Some(signer) => format!(", signed by {}", signer.name),
        None => String::new(),
    };
    one_line(&format!(
        "{} ({}){pending}{signer}, {} from {}",
        release.version,
        &release.component.as_str()[..12],
        release.installed_at,
        release.from
    ))
}
