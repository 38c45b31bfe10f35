//! `plugin.toml`: what a plugin says about itself. It can ask, never grant.
//!
//! Unknown keys, hooks, kinds and malformed values are errors: a wish that is not understood must not
//! be silently dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::limits::{self, Class};
use super::needs::{Need, NeedKind};
use crate::id::PluginId;
use crate::report::escape_control;
use crate::wire::rpc::HookPoint;

/// A manifest, checked.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) id: PluginId,
    pub(super) version: String,
    /// The name of the component's file, in the same folder.
    pub(super) component: String,
    /// The version of the contract that it is made for: `0.2`.
    pub(super) api: String,
    pub(super) hooks: BTreeMap<HookPoint, HookRules>,
    pub(super) needs: Vec<Need>,
    pub(super) limits: Limits,
    pub(super) settings: BTreeMap<String, SettingType>,
}

/// What holds for one hook of a plugin.
#[derive(Debug, Clone)]
pub(super) struct HookRules {
    pub(super) after: Vec<PluginId>,
    pub(super) before: Vec<PluginId>,
    pub(super) on_failure: OnFailure,
    pub(super) wall: Duration,
}

/// What a failure of the hook means for the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnFailure {
    /// The VM does not start.
    #[default]
    Required,
    /// The VM starts without it.
    Optional,
}

/// The limits of one plugin: the daemon's, or less where the manifest asks for less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) class: Class,
    pub(super) memory: usize,
    pub(super) cpu: Duration,
    pub(super) staged_bytes: u64,
    pub(super) staged_steps: usize,
}

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SettingType {
    Text,
    Texts,
    Number,
    Flag,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    plugin: RawPlugin,
    hooks: BTreeMap<HookPoint, RawHook>,
    #[serde(default)]
    need: Vec<RawNeed>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    settings: BTreeMap<String, RawSetting>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlugin {
    id: PluginId,
    version: String,
    api: String,
    component: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHook {
    #[serde(default)]
    after: Vec<PluginId>,
    #[serde(default)]
    before: Vec<PluginId>,
    timeout: Option<String>,
    #[serde(default)]
    failure: OnFailure,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNeed {
    kind: NeedKind,
    name: Option<String>,
    paths: Option<Vec<String>>,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    #[serde(default)]
    class: Class,
    memory: Option<String>,
    cpu: Option<String>,
    output: Option<String>,
    files: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSetting {
    r#type: SettingType,
    #[serde(rename = "description")]
    _description: String,
}

impl Manifest {
    /// Reads a manifest. The error is one line, without the file's name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|error| place(text, &error))?;
        let api = api(&raw.plugin.api)?;
        let component = raw.plugin.component;
        if component.is_empty() || component.starts_with('.') || component.contains(['/', '\0']) {
            return Err("`component` must be the name of a file in the plugin's folder".into());
        }
        let version = &raw.plugin.version;
        let hides = version.chars().any(char::is_control) || escape_control(version) != *version;
        if version.len() > 64 || hides {
            return Err("`version` must be at most 64 printable characters".into());
        }
        if raw.hooks.is_empty() {
            let example = "such as `[hooks.prepare-work-disk]`";
            return Err(format!("it is for no hook point: there must be a table, {example}"));
        }
        let hooks = raw.hooks.into_iter();
        let hooks = hooks.map(|(point, hook)| Ok((point, HookRules::new(point, hook)?)));
        let hooks = hooks.collect::<Result<_, String>>()?;
        let needs = raw.need.into_iter();
        let needs = needs.map(|need| Need::new(need.kind, need.name, need.paths, need.reason));
        let needs = needs.collect::<Result<_, _>>()?;
        let settings = raw.settings.into_iter().map(|(key, setting)| (key, setting.r#type));
        Ok(Self {
            id: raw.plugin.id,
            version: raw.plugin.version,
            component,
            api,
            hooks,
            needs,
            limits: Limits::new(&raw.limits)?,
            settings: settings.collect(),
        })
    }
}

impl HookRules {
    fn new(point: HookPoint, raw: RawHook) -> Result<Self, String> {
        let (usual, ceiling) = limits::wall(point);
        let wall = raw.timeout.as_deref().map_or(Ok(usual), duration)?.min(ceiling);
        let RawHook { after, before, timeout: _, failure } = raw;
        Ok(Self { after, before, on_failure: failure, wall })
    }
}

impl Limits {
    fn new(raw: &RawLimits) -> Result<Self, String> {
        let bytes = |text: &Option<String>, ceiling: u64| match text {
            Some(text) => Ok::<_, String>(size(text)?.min(ceiling)),
            None => Ok(ceiling),
        };
        let (class, ceiling) = (raw.class, raw.class.ceilings());
        let memory = bytes(&raw.memory, ceiling.memory as u64)?;
        Ok(Self {
            class,
            memory: usize::try_from(memory).unwrap_or(ceiling.memory),
            cpu: raw.cpu.as_deref().map_or(Ok(ceiling.cpu), duration)?.min(ceiling.cpu),
            staged_bytes: bytes(&raw.output, limits::STAGED_BYTES)?,
            staged_steps: raw.files.unwrap_or(limits::STAGED_STEPS).min(limits::STAGED_STEPS),
        })
    }
}

/// The version of the contract that a plugin is made for: from `cove:hooks@0.2`, with `^` or `.0` or not.
fn api(text: &str) -> Result<String, String> {
    let version = text.strip_prefix("cove:hooks@").map(|v| v.strip_prefix('^').unwrap_or(v));
    let parts: Vec<_> = version.unwrap_or_default().split('.').collect();
    let numbers = parts.iter().all(|part| part.parse::<u16>().is_ok());
    match parts.as_slice() {
        [major, minor] | [major, minor, "0"] if numbers => Ok(format!("{major}.{minor}")),
        _ => Err(format!("`{}` is no version such as `cove:hooks@0.2`", text.escape_debug())),
    }
}

/// `500ms` or `2s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => number.parse().ok().map(Duration::from_millis),
        (None, Some(number)) => number.parse().ok().map(Duration::from_secs),
        (None, None) => None,
    };
    parsed
        .filter(|time| !time.is_zero())
        .ok_or_else(|| format!("`{}` is not a time such as `500ms` or `2s`", text.escape_debug()))
}

/// `65536`, `64KiB` or `32MiB`.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = if let Some(number) = text.strip_suffix("KiB") {
        (number, 1 << 10)
    } else if let Some(number) = text.strip_suffix("MiB") {
        (number, 1 << 20)
    } else {
        (text, 1)
    };
    let bytes = number.trim_end().parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    bytes.ok_or_else(|| {
        format!("`{}` is not a size such as `65536` or `32MiB`", text.escape_debug())
    })
}

/// The parser's message on one line, with the line number of the file.
fn place(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let start = span.start.min(text.len());
            let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[plugin]
id = "io.example.dotfiles"
version = "1.2.0"
api = "cove:hooks@^0.2"
component = "plugin.wasm"
[hooks.prepare-work-disk]
after = ["file-sync"]
timeout = "500ms"
failure = "optional"
[[need]]
kind = "work-disk"
paths = [".config/**"]
reason = "dotfiles"
[limits]
memory = "32MiB"
cpu = "2s"
[settings.shell]
type = "text"
description = "the shell"
"#;

    #[test]
    fn a_manifest_is_read() {
        let manifest = Manifest::parse(GOOD).expect("it is good");
        assert_eq!(manifest.id.as_str(), "io.example.dotfiles");
        let rules = &manifest.hooks[&HookPoint::PrepareWorkDisk];
        assert_eq!(rules.on_failure, OnFailure::Optional);
        assert_eq!(manifest.limits.memory, 32 << 20);
        assert_eq!(manifest.limits.cpu, Class::Small.ceilings().cpu, "the daemon's ceiling wins");
        assert_eq!(rules.wall, Duration::from_millis(500));
        assert_eq!((manifest.api.as_str(), manifest.limits.class), ("0.2", Class::Small));
        assert_eq!(manifest.settings["shell"], SettingType::Text);
    }

    #[test]
    fn no_hook_has_more_wall_time_than_its_point() {
        let seconds = |point: HookPoint, timeout: &str| {
            let hook = format!("[hooks.{point}]\n{timeout}\nafter");
            let text = GOOD.replace("[hooks.prepare-work-disk]\nafter", &hook);
            let text = text.replace("timeout = \"500ms\"\n", "");
            Manifest::parse(&text).expect("it is good").hooks[&point].wall.as_secs()
        };
        for (point, usual, most) in [
            (HookPoint::Preflight, 10, 10),
            (HookPoint::ConfigureMachine, 10, 10),
            (HookPoint::PrepareWorkDisk, 10, 60),
            (HookPoint::PostStart, 60, 900),
            (HookPoint::PreStop, 5, 5),
            (HookPoint::Cleanup, 5, 5),
            (HookPoint::Doctor, 10, 10),
        ] {
            let asked = seconds(point, "timeout = '7200s'");
            assert_eq!((seconds(point, ""), asked), (usual, most), "{point}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to, expected) in [
            ("[limits]", "[limit]", "unknown field"),
            ("prepare-work-disk", "prepare-work-disc", "unknown variant"),
            ("cpu =", "class = \"huge\"\ncpu =", "unknown variant"),
            ("kind = \"work-disk\"", "kind = \"world\"", "unknown variant"),
            ("kind = \"work-disk\"", "kind = \"git-config\"", "`name`"),
            (".config/**", "/etc/**", "relative"),
            (".config/**", "../x", ".."),
            ("@^0.2", "@^1", "is no version"),
            ("@^0.2", "@0.2.1", "is no version"),
            ("hooks@^0.2", "hook@0.2", "is no version"),
            ("plugin.wasm", "../plugin.wasm", "name of a file"),
            ("1.2.0", "1.2\u{202e}0.", "printable characters"),
            ("1.2.0", "1.2\\n0", "printable characters"),
            ("500ms", "soon", "not a time"),
            ("500ms", "0s", "not a time"),
            ("32MiB", "lots", "not a size"),
            ("io.example.dotfiles", "Dot Files", "plugin id"),
            ("\"text\"", "\"poem\"", "unknown variant"),
            ("reason = \"dotfiles\"", "", "reason"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let text = GOOD.replacen(from, to, 1);
            let error = Manifest::parse(&text).expect_err(to);
            assert!(error.contains(expected), "{to}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_error_of_syntax_has_its_line() {
        let error = Manifest::parse("[plugin]\nid = \"a\"\nid = \"b\"\n").expect_err("twice");
        assert!(error.starts_with("line 3: "), "{error}");
    }
}
