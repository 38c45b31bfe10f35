//! What is taken of a stream, and how much.

use std::os::fd::AsFd;

use rustix::fs::Mode;

/// Which bits of a mode are taken from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// All of them.
    All,
    /// Permissions: nothing that lets a program run as its owner.
    Permissions,
}

impl Bits {
    pub(super) fn of(self, mode: u32) -> Mode {
        Mode::from_raw_mode(match self {
            Self::All => mode & 0o7777,
            Self::Permissions => mode & 0o777,
        })
    }
}

/// How much a stream may have in it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: u64,
    /// The lengths of all files together, holes included, in bytes.
    pub bytes: u64,
    /// What may be written to the disk, in bytes.
    pub room: u64,
}

impl Default for Limits {
    /// What no tree of a developer has: four million entries, and 16 TiB, the largest file of ext4.
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 16 << 40, room: u64::MAX }
    }
}

impl Limits {
    /// The same, and no more than leaves some room on the file system of `folder`: a sixteenth of what is free,
    /// at most 1 GiB.
    #[must_use]
    pub fn with_room_of(self, folder: impl AsFd) -> Self {
        let room = match rustix::fs::fstatvfs(folder) {
            // Some file systems do not say.
            Ok(system) if system.f_blocks > 0 => {
                let free = system.f_bavail.saturating_mul(system.f_frsize);
                free - (free / 16).min(1 << 30)
            }
            Ok(_) | Err(_) => u64::MAX,
        };
        Self { room, ..self }
    }
}
