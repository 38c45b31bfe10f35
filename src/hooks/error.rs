//! Why hooks did not run. Every failure names the plugin, and what it or its owner can do.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::{Digest, PluginId};
use crate::report::{Explain, FULL_DISK, Kind};
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

/// How a run failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// It returned an error.
    #[error("{message} ({code})")]
    Returned {
        /// Its code.
        code: String,
        /// Its message.
        message: String,
    },
    /// It panicked or aborted, and said something.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// It trapped.
    #[error("it crashed: {0}")]
    Trapped(String),
    /// It left with `exit`.
    #[error("it exited with status {0} instead of returning")]
    Exited(i32),
    /// It used up its processor time.
    #[error("it used more than {} ms of processor time", .0.as_millis())]
    Cpu(Duration),
    /// It used up its wall time.
    #[error("it took longer than {} ms", .0.as_millis())]
    Wall(Duration),
    /// It wanted too much memory.
    #[error("it wanted more than {} of memory", mebibytes(*.0))]
    Memory(usize),
    /// It went over another limit.
    #[error("it went over its limit of {0}")]
    Limit(&'static str),
    /// The hooks before it have used up the time of all hooks of its point.
    #[error("nothing was left of the {} s that all hooks of one point have together", .0.as_secs())]
    Phase(Duration),
    /// Its caller gave up.
    #[error("it was cancelled")]
    Cancelled,
    /// It cannot be instantiated.
    #[error("it cannot be started: {0}")]
    Instantiate(String),
}

/// What is wrong with a plugin's files.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    /// A file is missing.
    #[error("`{}` is not there", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file cannot be read.
    #[error("`{}` cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file is too large.
    #[error("`{}` is larger than {limit} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The manifest is wrong.
    #[error("`{}`: {reason}", file.display())]
    Manifest {
        /// The manifest.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is something else than a component.
    #[error("`{}` is not a WebAssembly component: it is {what}", file.display())]
    NotAComponent {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The component does not compile.
    #[error("`{}` cannot be compiled: {reason}", file.display())]
    Compile {
        /// The file.
        file: PathBuf,
        /// The compiler's words.
        reason: String,
    },
    /// The component wants imports that cove does not have.
    #[error("`{}` imports {}, which cove does not offer", file.display(), list(imports))]
    Imports {
        /// The file.
        file: PathBuf,
        /// The imports.
        imports: Vec<String>,
    },
    /// The component does not fit the contract.
    #[error("`{}` does not fit the contract: {reason}", file.display())]
    Contract {
        /// The file.
        file: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The component cannot be instantiated.
    #[error("`{}` cannot be started: {failure}", file.display())]
    Instantiate {
        /// The file.
        file: PathBuf,
        /// How it failed.
        failure: String,
    },
    /// The signature is not one of these files.
    #[error("`{}` {reason}", file.display())]
    Signature {
        /// The signature.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There must be a signature, and there is none.
    #[error("`{}` is not signed, and the configuration has `hooks.require_signature`", file.display())]
    Unsigned {
        /// The component.
        file: PathBuf,
    },
    /// There must be a signature, and it is of a key that nobody knows.
    #[error("`{}` is signed by a key that is not in `hooks.signers`, and the configuration has `hooks.require_signature`", file.display())]
    UnknownSigner {
        /// The component.
        file: PathBuf,
    },
    /// The registry's record of the plugin cannot be read.
    #[error("the record `{}` cannot be read: {reason}", file.display())]
    Record {
        /// The record.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The cache of compiled components cannot be used.
    #[error("the folder of compiled plugins `{}` cannot be used: {reason}", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no room for the compiled component.
    #[error("there is no room in `{}` for the compiled component", folder.display())]
    NoRoom {
        /// The folder.
        folder: PathBuf,
    },
    /// The path is no plugin's folder, or one that was put into a folder of plugins by hand.
    #[error("`{}` {reason}", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Problem {
    /// What sort of failure it is to want this plugin.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::Cache { .. } | Self::NoRoom { .. } | Self::Record { .. } => Kind::Failed,
            Self::Signature { .. } | Self::Unsigned { .. } | Self::UnknownSigner { .. } => {
                Kind::Refused
            }
            Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::Manifest { .. }
            | Self::NotAComponent { .. }
            | Self::Compile { .. }
            | Self::Imports { .. }
            | Self::Contract { .. }
            | Self::Instantiate { .. }
            | Self::Name { .. } => Kind::Invalid,
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::Unreadable { .. } => {
                "a plugin is a folder with `plugin.toml` and its component, both plain files that you can read; `cove hook remove` removes one that is installed"
            }
            Self::TooLarge { .. } => "build it in release mode",
            Self::Manifest { .. } => "correct the manifest, and install the plugin again",
            Self::NotAComponent { .. } | Self::Compile { .. } => {
                "build it as a component (for Rust: target `wasm32-wasip2`, crate type `cdylib`)"
            }
            Self::Imports { .. } => {
                "build it for WASI preview 2 and `cove:hooks@0.2.0`, without other imports"
            }
            Self::Contract { .. } => "build it against `wit/0.2.0` of this cove",
            Self::Instantiate { .. } => "its start function must do little, and return",
            Self::Signature { .. } => {
                "get all files of the plugin anew from their author; who signs: minisign -Sm COMPONENT -t \"manifest:SHA256-OF-plugin.toml\""
            }
            Self::Unsigned { .. } => "ask its author for a signature, `COMPONENT.minisig`",
            Self::UnknownSigner { .. } => {
                "if you know whose key it is, put it into `hooks.signers` of the configuration"
            }
            Self::Record { .. } => {
                "`cove hook remove` removes the plugin, which can then be installed anew"
            }
            Self::Cache { .. } => "make it a folder of your own with mode 0700, or delete it",
            Self::NoRoom { .. } => FULL_DISK,
            Self::Name { .. } => {
                "`cove hook install` takes a folder with `plugin.toml` and its component in it"
            }
        }
    }
}

impl Explain for HookError {
    fn kind(&self) -> Kind {
        match self {
            Self::Engine(_) | Self::Folder { .. } | Self::Memory { .. } => Kind::Failed,
            // That one of its files is missing does not mean that the VM is.
            Self::Broken { problem: Problem::Missing { .. }, .. } => Kind::Invalid,
            Self::Broken { problem, .. } => problem.kind(),
            Self::Circle { .. }
            | Self::Settings { .. }
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
            Self::Circle { .. } => "change `after` and `before` in their manifests".into(),
            Self::Settings { plugin, .. } => {
                format!("correct `[{}]` in the configuration", table("settings", plugin))
            }
            Self::Failed { advice: Some(advice), .. } => advice.as_ref().into(),
            Self::Failed { plugin, log, advice: None, .. } => match log.last() {
                Some(line) => format!("the last line that `{plugin}` logged: {line}"),
                None => format!("`{plugin}` logged nothing; without it the VM would start"),
            },
            Self::Conflict { first, second, .. } => format!(
                "say in the manifest of `{second}` that it runs `after = [\"{first}\"]`, if it may overwrite"
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

fn list(words: &[impl std::fmt::Display]) -> String {
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

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}
