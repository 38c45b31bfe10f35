//! Room for what must be written down when the disk is full.
//!
//! That is when guests come to stand still, and when they are stopped and deleted: it must not fail for
//! want of a few pages. SQLite writes to its log first and uses that file again and again, so blocks that
//! are reserved for it once serve for as long as the daemon runs.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

use super::log_of;

/// Bytes that are reserved for the log.
const RESERVED: i64 = 1 << 20;

/// At so many pages of 4 KiB the log is written back and begun again: well before the reserve ends.
pub(super) const LOG_PAGES: u32 = 192;

/// Reserves it. Without it the daemon works all the same, as long as there is room.
pub(super) fn reserve(database: &Path) {
    let log = log_of(database);
    let reserved = File::options().write(true).open(&log).and_then(|file| {
        let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&file, flags, 0, RESERVED)?)
    });
    if let Err(error) = reserved {
        tracing::warn!(%error, log = %log.display(), "no room is reserved for the database's log");
    }
}
