//! Why a daemon does not start.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::hooks::HookError;
use crate::net::bridge::SetupError;
use crate::report::{Explain, Kind, Report};
use crate::rpc::server::ServeError;
use crate::store::StoreError;
use crate::workspace::WorkspaceError;

/// The daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration cannot be used")]
    Config(#[source] ConfigError),
    /// The folder of all state cannot be made.
    #[error("cannot make the folder `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder belongs to somebody else.
    #[error("the folder `{}` belongs to user {owner}, not to you", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Another daemon runs on this folder.
    #[error("another daemon runs on `{}`{}", path.display(), holder(pid.as_deref()))]
    Held {
        /// The folder.
        path: PathBuf,
        /// The other daemon's process id, as it wrote it down.
        pid: Option<String>,
    },
    /// The bridge that the configuration describes cannot be.
    #[error("the configuration cannot be used")]
    Bridge(#[source] SetupError),
    /// The database.
    #[error("the database cannot be used")]
    Store(#[source] StoreError),
    /// The hooks.
    #[error("the hooks cannot be loaded")]
    Hooks(#[source] HookError),
    /// The workspace service.
    #[error("the scratch folder cannot be used")]
    Workspace(#[source] WorkspaceError),
    /// The VMs of an earlier daemon cannot be taken up.
    #[error("the VMs cannot be taken up")]
    Recover(#[source] Report),
    /// The socket.
    #[error("the socket cannot be made")]
    Socket(#[source] ServeError),
}

fn holder(pid: Option<&str>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl Explain for StartError {
    fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Folder { .. } => Kind::Failed,
            Self::NotOurs { .. } => Kind::Refused,
            Self::Held { .. } => Kind::Conflict,
            Self::Bridge(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Hooks(error) => error.kind(),
            Self::Workspace(error) => error.kind(),
            Self::Recover(report) => report.kind,
            Self::Socket(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Folder { .. } | Self::NotOurs { .. } => {
                Some("set COVE_HOME to a folder of yours".to_owned())
            }
            Self::Held { .. } => Some(
                "end it with `cove daemon stop`, or set COVE_HOME to another folder".to_owned(),
            ),
            Self::Bridge(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Hooks(error) => error.hint(),
            Self::Workspace(error) => error.hint(),
            Self::Recover(report) => report.hint.clone(),
            Self::Socket(error) => error.hint(),
        }
    }
}
