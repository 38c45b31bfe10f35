//! The steps of a work-disk plan.

use serde::{Deserialize, Serialize};

/// One step of a work-disk plan. Paths are relative to the root of the work disk (the home), have no
/// `..`, and are resolved with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)` in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum PlanStep {
    /// Make a folder and its parents (parents 0755). An existing folder gets the mode.
    MakeDirectory {
        /// The path.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Write a whole file, atomically. Missing parents are made, 0755. `size` bytes follow.
    WriteFile {
        /// The path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Length of the content in bytes.
        size: u64,
    },
    /// Keep a block of text in a file, between two marker lines
    /// `# >>> MARKER >>>` and `# <<< MARKER <<<`; the rest of the file is kept. `size` bytes follow.
    /// An empty content removes the block.
    EnsureBlock {
        /// The path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// The marker, one line.
        marker: String,
        /// Where the block goes when the file has none yet.
        at: BlockPlace,
        /// Length of the content in bytes.
        size: u64,
    },
    /// Make a symbolic link, atomically.
    Symlink {
        /// The path of the link.
        path: String,
        /// Its target: relative, inside the home.
        target: String,
    },
    /// Remove a file or a link, if it is there.
    Remove {
        /// The path.
        path: String,
    },
}

impl PlanStep {
    /// The path the step is about.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::MakeDirectory { path, .. }
            | Self::WriteFile { path, .. }
            | Self::EnsureBlock { path, .. }
            | Self::Symlink { path, .. }
            | Self::Remove { path } => path,
        }
    }

    /// How many bytes of content follow the step; `None` where none can.
    #[must_use]
    pub fn content_size(&self) -> Option<u64> {
        match self {
            Self::WriteFile { size, .. } | Self::EnsureBlock { size, .. } => Some(*size),
            Self::MakeDirectory { .. } | Self::Symlink { .. } | Self::Remove { .. } => None,
        }
    }
}

/// Where a new block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockPlace {
    /// Before everything else.
    Start,
    /// After everything else.
    End,
}
