//! Why hooks did not run. Every failure names the plugin, and what it or its owner can do.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::failure::Failure;
use super::problem::Problem;
use crate::id::{Digest, PluginId};
use crate::report::{Explain, Kind};
use crate::wire::rpc::HookPoint;

/// Why hooks did not run.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The engine cannot be set up on this host.
    #[error("cannot set up the WebAssembly engine")]
    Engine(#[source] BoxError),
    /// A folder of plugins cannot be read.
    #[error("cannot read the plugin folder `{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A plugin is broken.
    #[error("plugin `{plugin}` cannot be used: {problem}")]
    Broken {
        /// The name of its folder.
        plugin: String,
        /// What is wrong, with the file.
        problem: Problem,
    },
    /// An installed plugin that nobody has granted anything.
    #[error("plugin `{plugin}` is not granted: it does not take part before you allow it")]
    NotGranted {
        /// The plugin.
        plugin: PluginId,
    },
    /// A plugin whose grant is for other files.
    #[error("plugin `{plugin}` is not the one that was granted: its files were replaced")]
    GrantVoid {
        /// The plugin.
        plugin: PluginId,
    },
    /// A plugin that the configuration grants in another version.
    #[error("plugin `{plugin}` is not the one that the configuration grants")]
    GrantOfAnother {
        /// The plugin.
        plugin: PluginId,
        /// The digest of the component that is installed.
        component: Digest,
        /// What it asks for, as a grant names it.
        needs: Vec<String>,
    },
    /// The plugin is switched off by the configuration.
    #[error("plugin `{plugin}` is switched off: `hooks.disabled` names it")]
    Disabled {
        /// The plugin.
        plugin: PluginId,
    },
    /// The plugin failed too often.
    #[error(
        "plugin `{plugin}` was switched off, because it failed again and again in hook `{point}`; the last time: {failure}"
    )]
    SwitchedOff {
        /// The plugin.
        plugin: PluginId,
        /// Where.
        point: HookPoint,
        /// How, the last time.
        failure: String,
    },
    /// The ceiling in the configuration has a word that is none.
    #[error("`hooks.ceiling` has `{}`: {reason}", word.escape_debug())]
    Ceiling {
        /// The word.
        word: String,
        /// What is wrong.
        reason: String,
    },
    /// A signer in the configuration has no key.
    #[error("the key of `{}` in `hooks.signers` is no public key of minisign: {reason}", name.escape_debug())]
    Signer {
        /// The signer.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The order of plugins is a circle.
    #[error("the plugins {} each want to run before the other", list(plugins))]
    Circle {
        /// The plugins in it.
        plugins: Vec<PluginId>,
    },
    /// The settings do not fit the plugin's manifest.
    #[error("the settings of plugin `{plugin}` are wrong: {reason}")]
    Settings {
        /// The plugin.
        plugin: PluginId,
        /// What is wrong.
        reason: String,
    },
    /// What the plugin remembers cannot be read or written.
    #[error("what plugin `{plugin}` remembers cannot be read or written")]
    Memory {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What hooks do cannot be written down, so they do nothing, or what they have done cannot be read.
    #[error("cannot use `{}`, where it is written down what hooks do", file.display())]
    Record {
        /// The log of hook runs.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The plugin ran and failed.
    #[error("plugin `{plugin}` failed in hook `{point}`: {failure}")]
    Failed {
        /// The plugin.
        plugin: PluginId,
        /// The hook point.
        point: HookPoint,
        /// How.
        failure: Failure,
        /// The last lines it logged.
        log: Vec<String>,
        /// How it could have what it was refused, where it was refused anything.
        advice: Option<Box<str>>,
    },
    /// A plugin asks for variables or labels that no VM can have, or for too many of them.
    #[error("plugin `{plugin}` asks for what a VM cannot have: {reason}")]
    Excess {
        /// The plugin.
        plugin: PluginId,
        /// What is wrong.
        reason: String,
    },
    /// Two plugins want different things of one path, variable or label.
    #[error("plugins `{first}` and `{second}` both want to {what}")]
    Conflict {
        /// What both want: `write` with a path, `set` with a variable or label.
        what: String,
        /// The plugin that runs first.
        first: PluginId,
        /// The other.
        second: PluginId,
    },
}

/// An error of the engine or of the system.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Explain for HookError {
    fn kind(&self) -> Kind {
        match self {
            Self::Engine(_) | Self::Folder { .. } | Self::Memory { .. } | Self::Record { .. } => {
                Kind::Failed
            }
            // That one of its files is missing does not mean that the VM is.
            Self::Broken { problem: Problem::Missing { .. }, .. } => Kind::Invalid,
            Self::Broken { problem, .. } => problem.kind(),
            Self::Circle { .. }
            | Self::Settings { .. }
            | Self::Excess { .. }
            | Self::Ceiling { .. }
            | Self::Signer { .. } => Kind::Invalid,
            Self::NotGranted { .. }
            | Self::GrantVoid { .. }
            | Self::GrantOfAnother { .. }
            | Self::Disabled { .. }
            | Self::SwitchedOff { .. } => Kind::Refused,
            Self::Failed { failure: Failure::Wall(_) | Failure::Phase(_), .. } => Kind::TimedOut,
            Self::Failed { failure: Failure::Cancelled, .. } => Kind::Cancelled,
            Self::Failed { .. } | Self::Conflict { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Engine(_) => {
                "the daemon needs about 2 GiB of address space: look at `ulimit -v`".into()
            }
            Self::Folder { folder, .. } => {
                format!("make `{}` a folder that you can read", folder.display())
            }
            Self::Broken { problem, .. } => problem.hint().into(),
            Self::NotGranted { plugin } => format!(
                "`cove hook inspect {plugin}` shows what it asks for; if you trust it: `cove hook grant {plugin}`"
            ),
            Self::GrantVoid { plugin } => format!(
                "if you trust the files that are there now, `cove hook grant {plugin}`; if not, install the plugin again or remove it with `cove hook remove {plugin}`"
            ),
            Self::GrantOfAnother { plugin, component, needs } => {
                grant_hint(plugin, component, needs)
            }
            Self::Disabled { plugin } => {
                format!("take `{plugin}` out of `hooks.disabled` in the configuration")
            }
            Self::SwitchedOff { plugin, .. } => format!(
                "`cove hook grant {plugin}` switches it on again, as does another version of it"
            ),
            Self::Ceiling { .. } => {
                "write kinds of needs, such as \"work-disk\", or with a pattern, such as \"work-disk:.config/**\"".into()
            }
            Self::Signer { .. } => {
                "write `key = \"RW…\"`: the second line of their `minisign.pub`".into()
            }
            Self::Memory { plugin, .. } => format!(
                "make room, or remove `{plugin}.json` in the folder `plugin-state`: it then begins anew"
            ),
            Self::Record { .. } => {
                "let your user read and write it, and make room on that disk: nothing goes into a machine unrecorded"
                    .into()
            }
            Self::Circle { .. } => {
                "change `after` and `before` in their manifests, or switch one of them off: `hooks.disabled`".into()
            }
            Self::Settings { plugin, .. } => {
                format!("correct `[{}]` in the configuration", table("settings", plugin))
            }
            Self::Failed { advice: Some(advice), .. } => advice.as_ref().into(),
            Self::Failed { plugin, log, advice: None, .. } => match log.last() {
                Some(line) => format!("the last line that `{plugin}` logged: {line}"),
                None => format!("`{plugin}` logged nothing; without it the VM would start"),
            },
            Self::Excess { plugin, .. } => format!(
                "let it ask for less in `[{}]` of the configuration, or switch it off with `hooks.disabled`",
                table("settings", plugin)
            ),
            Self::Conflict { first, second, .. } => format!(
                "say in the manifest of `{second}` that it runs `after = [\"{first}\"]`, if it may overwrite, or switch one of them off: `hooks.disabled`"
            ),
        })
    }
}

/// What to write into the configuration, if one trusts the plugin.
fn grant_hint(plugin: &PluginId, component: &Digest, needs: &[String]) -> String {
    let needs: Vec<_> = needs.iter().map(|need| format!("{need:?}")).collect();
    format!(
        "if you trust it, write into the configuration: `[{}]` with `component = \"{component}\"` and `needs = [{}]`; if not, `cove hook remove {plugin}`",
        table("grants", plugin),
        needs.join(", ")
    )
}

/// A table of the configuration: `hooks.grants.plugin`, quoted where the id has dots.
pub(super) fn table(kind: &str, plugin: &PluginId) -> String {
    if plugin.as_str().contains('.') {
        format!("hooks.{kind}.\"{plugin}\"")
    } else {
        format!("hooks.{kind}.{plugin}")
    }
}

pub(super) fn list(words: &[impl std::fmt::Display]) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let separator = match index {
            0 => "",
            _ if index + 1 == words.len() => " and ",
            _ => ", ",
        };
        write!(text, "{separator}`{word}`").expect("writing to a String cannot fail");
    }
    text
}
