//! What is wrong with a plugin's files, and what can be done about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::list;
use crate::report::{FULL_DISK, Kind};

/// How long after a compilation that failed there is another one: each may take minutes, and whoever looks at
/// plugins waits for it.
const COMPILED_AGAIN: Duration = Duration::from_secs(300);

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

    /// How long a plugin is taken to have this problem while its files are as they were; none where only other
    /// files end it.
    pub(super) fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Unreadable { .. } | Self::Cache { .. } | Self::NoRoom { .. } => {
                Some(Duration::ZERO)
            }
            // The machine may have been busy, or short of memory.
            Self::Compile { .. } => Some(COMPILED_AGAIN),
            Self::Missing { .. }
            | Self::TooLarge { .. }
            | Self::Manifest { .. }
            | Self::NotAComponent { .. }
            | Self::Imports { .. }
            | Self::Contract { .. }
            | Self::Instantiate { .. }
            | Self::Signature { .. }
            | Self::Unsigned { .. }
            | Self::UnknownSigner { .. }
            | Self::Record { .. }
            | Self::Name { .. } => None,
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::Unreadable { .. } => {
                "a plugin is a folder with `plugin.toml` and its component, both plain files that you can read; `cove hook remove` removes one that is installed"
            }
            Self::TooLarge { file, .. } if is_text(file) => {
                "get it anew from the plugin's author: such a file is a page of text at most"
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
                "`cove hook remove` removes the plugin, which can then be installed anew; of a plugin that came with cove it removes the record alone, and what was revoked is granted again"
            }
            Self::Cache { .. } => "make it a folder of your own with mode 0700, or delete it",
            Self::NoRoom { .. } => FULL_DISK,
            Self::Name { .. } => {
                "`cove hook install` takes a folder with `plugin.toml` and its component in it, or one of these files"
            }
        }
    }
}

/// Whether a file is a manifest or a signature, by its name.
fn is_text(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "toml" || end == "minisig")
}
