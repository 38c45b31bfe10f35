//! Why a plugin was not installed, and why its grant was not changed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::ChangeError;
use crate::hooks::error::{HookError, list};
use crate::hooks::problem::Problem;
use crate::id::PluginId;
use crate::report::{Explain, Kind};

/// Why a plugin was not installed. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Its files are not those of a plugin that can be used.
    #[error("cannot use the plugin: {0}")]
    Unusable(Problem),
    /// Its id is that of a plugin that came with cove.
    #[error("`{plugin}` is the id of a plugin that came with cove")]
    Standard {
        /// The plugin.
        plugin: PluginId,
    },
    /// There are too many.
    #[error("there are {limit} plugins installed, and no more can be")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// The configuration grants it, and it would run in a circle with others.
    #[error("plugin `{plugin}` cannot take part: {}", circle(plugins))]
    Circle {
        /// The plugin.
        plugin: PluginId,
        /// All plugins in the circle.
        plugins: Vec<PluginId>,
    },
    /// Others are being installed.
    #[error("another plugin is being installed, and that did not end within {} s", .0.as_secs())]
    Busy(Duration),
    /// Its files cannot be kept.
    #[error("cannot keep plugin `{plugin}` in `{}`", folder.display())]
    Keep {
        /// The plugin.
        plugin: PluginId,
        /// The registry.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The plugins cannot be looked at.
    #[error("the plugins cannot be looked at")]
    Look(#[source] HookError),
    /// It went away in the meantime.
    #[error("it was installed, and is not there any more: {0}")]
    Gone(String),
}

impl Explain for InstallError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unusable(problem) => problem.kind(),
            Self::Standard { .. } => Kind::Refused,
            Self::TooMany { .. } | Self::Circle { .. } => Kind::Conflict,
            Self::Busy(_) => Kind::TimedOut,
            Self::Keep { .. } => Kind::Failed,
            Self::Look(error) => error.kind(),
            Self::Gone(_) => Kind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unusable(problem) => problem.hint().to_owned(),
            Self::Standard { .. } => "give it another id in its `plugin.toml`".to_owned(),
            Self::TooMany { .. } => "remove one that you do not use: `cove hook remove`".to_owned(),
            Self::Circle { plugin, plugins } => break_circle(plugin, plugins, "install"),
            Self::Busy(_) => "try again".to_owned(),
            Self::Keep { folder, .. } => {
                format!("make `{}` a folder that you can write to", folder.display())
            }
            Self::Look(error) => return error.hint(),
            Self::Gone(_) => "install it again".to_owned(),
        })
    }
}

/// Why a plugin cannot be looked at, or what it is granted was not changed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// There is none of this id.
    #[error("there is no plugin `{plugin}`")]
    NotThere {
        /// The id.
        plugin: PluginId,
    },
    /// Neither an id nor a path was given, or both.
    #[error("either `plugin` or `path` says which plugin to look at")]
    NotSaid,
    /// It does not ask for that.
    #[error("plugin `{plugin}` does not ask for `{}`", word.escape_debug())]
    NotAsked {
        /// The plugin.
        plugin: PluginId,
        /// The word.
        word: String,
        /// What it asks for.
        asks: Vec<String>,
    },
    /// A path for host files that it does not ask for, or no path.
    #[error("`{}` cannot stand behind `{}` for plugin `{plugin}`: {reason}", path.escape_debug(), name.escape_debug())]
    Mapping {
        /// The plugin.
        plugin: PluginId,
        /// The logical name.
        name: String,
        /// The path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// It is not what the user has looked at.
    #[error("plugin `{plugin}` has changed since you looked at it")]
    Changed {
        /// The plugin.
        plugin: PluginId,
    },
    /// The configuration grants it.
    #[error("what plugin `{plugin}` is granted is in the configuration")]
    Configured {
        /// The plugin.
        plugin: PluginId,
    },
    /// It would run in a circle with others.
    #[error("plugin `{plugin}` cannot take part: {}", circle(plugins))]
    Circle {
        /// The plugin.
        plugin: PluginId,
        /// All plugins in the circle.
        plugins: Vec<PluginId>,
    },
    /// It came with cove.
    #[error("plugin `{plugin}` came with cove, and cannot be removed")]
    Standard {
        /// The plugin.
        plugin: PluginId,
    },
    /// The files that were to be looked at are not those of a plugin.
    #[error(transparent)]
    Files(Box<InstallError>),
    /// The files that are there now cannot be used.
    #[error("plugin `{plugin}` cannot be granted anything: its files are not good")]
    Unusable {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        #[source]
        source: Box<InstallError>,
    },
    /// Its record or files cannot be changed.
    #[error("cannot write down what was decided about plugin `{plugin}` in `{}`", folder.display())]
    Keep {
        /// The plugin.
        plugin: PluginId,
        /// The registry.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its record cannot be read.
    #[error("plugin `{plugin}` cannot be used: {problem}")]
    Damaged {
        /// The plugin.
        plugin: PluginId,
        /// What is wrong.
        problem: Problem,
    },
    /// The plugins cannot be looked at.
    #[error("the plugins cannot be looked at")]
    Look(#[source] HookError),
}

impl GrantError {
    pub(in crate::hooks) fn of(plugin: &PluginId, folder: PathBuf, error: ChangeError) -> Self {
        let plugin = plugin.clone();
        match error {
            ChangeError::NoRecord => Self::NotThere { plugin },
            ChangeError::Damaged(problem) => Self::Damaged { plugin, problem },
            ChangeError::TooMany => Self::Keep {
                plugin,
                folder,
                source: io::Error::other("there are too many plugins"),
            },
            ChangeError::Disk(source) => Self::Keep { plugin, folder, source },
        }
    }
}

impl Explain for GrantError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotThere { .. } => Kind::NotFound,
            Self::NotSaid | Self::NotAsked { .. } | Self::Mapping { .. } => Kind::Invalid,
            Self::Changed { .. } | Self::Configured { .. } | Self::Circle { .. } => Kind::Conflict,
            Self::Standard { .. } => Kind::Refused,
            Self::Files(source) | Self::Unusable { source, .. } => source.kind(),
            Self::Keep { .. } => Kind::Failed,
            Self::Damaged { problem, .. } => problem.kind(),
            Self::Look(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotThere { .. } => {
                "`cove hook list` shows the plugins there are, `cove hook install PATH` installs one".to_owned()
            }
            Self::NotSaid => "give one of them".to_owned(),
            Self::NotAsked { plugin, asks, .. } if asks.is_empty() => {
                format!("`{plugin}` asks for nothing at all")
            }
            Self::NotAsked { asks, .. } => format!("it asks for `{}`", asks.join("`, `")),
            Self::Mapping { .. } => "write `--map NAME=PATH`".to_owned(),
            Self::Changed { plugin } => format!(
                "look at it again with `cove hook inspect {plugin}`, or install it again"
            ),
            Self::Configured { plugin } => {
                let table = crate::hooks::error::table("grants", plugin);
                format!("change `[{table}]` there, or take it out and use `cove hook grant`")
            }
            Self::Circle { plugin, plugins } => break_circle(plugin, plugins, "grant"),
            Self::Standard { plugin } => {
                format!("`cove hook revoke {plugin}` keeps it from taking part")
            }
            Self::Files(source) | Self::Unusable { source, .. } => return source.hint(),
            Self::Keep { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                "grant it less: fewer or shorter paths".to_owned()
            }
            Self::Keep { folder, .. } => {
                format!("make `{}` a folder that you can write to", folder.display())
            }
            Self::Damaged { problem, .. } => problem.hint().to_owned(),
            Self::Look(error) => return error.hint(),
        })
    }
}

/// What keeps plugins from running in any order.
pub(in crate::hooks) fn circle(plugins: &[PluginId]) -> String {
    match plugins {
        [_] => "it wants to run before itself".to_owned(),
        several => format!("the plugins {} each want to run before the other", list(several)),
    }
}

/// How a plugin that is in a circle with others could take part: `verb` is then done again.
fn break_circle(plugin: &PluginId, plugins: &[PluginId], verb: &str) -> String {
    match plugins.iter().find(|other| *other != plugin) {
        Some(other) => format!(
            "only one of them can: `cove hook revoke {other}`, or `hooks.disabled` in the configuration, keeps `{other}` from it; then {verb} `{plugin}` again"
        ),
        None => "only its author can change that: `after` and `before` in its manifest".to_owned(),
    }
}
