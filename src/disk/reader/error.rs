//! Why a reader of a disk gives nothing.

use std::path::PathBuf;

use super::ext4::Ext4Error;
use crate::archive::ArchiveError;
use crate::report::with_causes;
use crate::wire::guest::{CopyFailure, Reply};

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the disk cannot be read")]
    Disk(#[from] Ext4Error),
    #[error(transparent)]
    Copy(#[from] ArchiveError),
    /// It is not on the disk with the home.
    #[error("`{}` is not on the disk with the home", shown(path))]
    Elsewhere { path: PathBuf },
}

impl ReadError {
    /// The reader's last word.
    pub(super) fn reply(&self, vm: &str) -> Reply {
        let (reason, message) = match self {
            Self::Disk(error) => {
                let why = with_causes(error);
                let message = format!(
                    "the disk of `{vm}` cannot be read: {why}; `cove start {vm}` has its own kernel \
                     look at it"
                );
                (CopyFailure::Other, message)
            }
            Self::Copy(error) => (error.reason(), error.message()),
            Self::Elsewhere { path } => {
                let path = shown(path);
                let message = format!(
                    "`{path}` is not in the home, and while `{vm}` does not run only that can be \
                     copied from: `cove start {vm}` first"
                );
                (CopyFailure::Invalid, message)
            }
        };
        Reply::CopyFailed { reason, message }
    }
}

fn shown(path: &std::path::Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}
