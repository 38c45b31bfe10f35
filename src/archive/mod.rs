//! Files and trees as tar streams: packing them, unpacking them, and putting them in their place.
//!
//! ```text
//!  Source ── pack ──▶ pieces ──▶ … ──▶ pieces ── unpack ──▶ Staging ── publish ──▶ Place
//!  (one name, never followed)          (hostile)            (beside the place)     (by rename)
//! ```
//!
//! Both ends of a connection use it, host and guest alike, and the same code is strict on both: a stream
//! may come from anybody. Nothing outside the staging folder is written before the rename. Knows nothing of
//! connections, VMs or terminals. Everything here blocks.
//!
//! What is kept: contents, permission bits, times of change to the nanosecond, links as they are, holes (runs
//! of zeros are not written). What is not: owners (all is the receiver's), hard links (each is a file of its
//! own), extended attributes. Sockets, pipes and devices are left out and counted.

mod before;
mod content;
mod entries;
mod limits;
mod pack;
mod pieces;
mod place;
mod removal;
mod staging;
mod time;
mod unpack;

use std::io;
use std::path::{Path, PathBuf};

pub use content::LargeFiles;
pub use entries::{Attributes, Entries};
pub use limits::{Bits, Limits};
pub use pack::Source;
pub use pieces::{PieceSink, PieceWriter};
pub use place::Place;
pub use removal::remove_tree;
pub use staging::Staging;
pub use unpack::unpack;

use crate::report::with_causes;
use crate::wire::guest::CopyFailure;

/// The name in a stream of the one thing that is copied. The receiver gives it another.
pub const TOP: &str = "copy";

/// How deep a tree may be. One descriptor is open for each level; and what removes a tree that came only half
/// must be able to go as deep ([`remove_tree`]).
pub const MAX_DEPTH: usize = 200;

/// The longest name that a file can have, in bytes.
const MAX_NAME: usize = 255;

/// The longest target of a link, in bytes: the kernel takes no more.
const MAX_TARGET: usize = 4095;

/// The length of a name that a header has room for, in bytes.
const NAME_IN_HEADER: usize = 100;

/// Why something was not packed, unpacked or put in its place.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something that must be there is not.
    #[error("there is no `{}`", shown(path))]
    Missing {
        /// What.
        path: PathBuf,
    },
    /// A folder that must be one is something else.
    #[error("`{}` is no folder", shown(path))]
    NoFolder {
        /// What.
        path: PathBuf,
    },
    /// Only files, folders and links are copied.
    #[error("`{}` is neither file, folder nor link", shown(path))]
    Special {
        /// What.
        path: PathBuf,
    },
    /// The destination is a folder, and what goes into it has no name.
    #[error("what is to go into the folder `{}` has no name of its own", shown(path))]
    Nameless {
        /// The folder.
        path: PathBuf,
    },
    /// Something has the name already that cannot be replaced.
    #[error("`{}` is there already, and is {found}", shown(path))]
    InTheWay {
        /// What.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Something of the source cannot be read.
    #[error("cannot read `{}`", shown(path))]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something of the copy cannot be written.
    #[error("cannot write `{}`", shown(path))]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream cannot be read to its end, or nobody takes it.
    #[error("the stream broke off")]
    Stream(#[source] io::Error),
    /// The stream says what no plain tree says.
    #[error("{why}")]
    Hostile {
        /// What.
        why: String,
    },
    /// There is more of it than fits.
    #[error("there is room for {room} bytes, and it is more than that")]
    NoRoom {
        /// The room.
        room: u64,
    },
}

impl ArchiveError {
    /// The sort of failure, as it is told to the other side.
    #[must_use]
    pub fn reason(&self) -> CopyFailure {
        match self {
            Self::Missing { .. } => CopyFailure::NotFound,
            Self::NoFolder { .. } | Self::InTheWay { .. } => CopyFailure::InTheWay,
            Self::Special { .. } | Self::Nameless { .. } => CopyFailure::Invalid,
            Self::NoRoom { .. } => CopyFailure::NoRoom,
            Self::Read { source, .. } | Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CopyFailure::NoRoom,
                _ => CopyFailure::Other,
            },
            Self::Stream(_) | Self::Hostile { .. } => CopyFailure::Other,
        }
    }

    /// The error and its causes on one line.
    #[must_use]
    pub fn message(&self) -> String {
        with_causes(self)
    }
}

fn hostile(why: String) -> ArchiveError {
    ArchiveError::Hostile { why }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
