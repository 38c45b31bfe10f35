//! The log of hook runs: one JSON line for each, `hooks.jsonl`, readable by the daemon's user only.
//!
//! ```text
//!   {"number":7,…,"previous":"⟨sha256 of 6⟩",…,"sha256":"⟨sha256 of this line up to here⟩"}
//! ```
//!
//! Each line ends with its own digest and carries that of the line before it, so that no byte of the log
//! can change, and no line go, without [`verify`](chain::verify) seeing it. Who can write the files can write a whole new
//! chain; the log shows damage and careless changes, and does not keep the daemon's user from lying. The
//! last lines of a log that nobody has open can be removed unseen; a running daemon knows how it ended.
//!
//! - Names, sizes, digests and classes go in. No content, no text of a log, no message of a plugin, and no
//!   value of a variable does. Paths and labels that a plugin made up do, shortened.
//! - A line is appended by one write, whole, with others of its phase. What a killed daemon has written is
//!   there; nothing is synced, so a power failure may cost the last lines. A line that was cut off is
//!   removed at the next start, which is a record of its own.
//! - A start whose hooks cannot be written down fails: what goes into machines unseen is what this log is
//!   against. Stopping and deleting go on, with an error in the daemon's log.
//! - Files are bounded: at [`FILE_BYTES`] a file becomes `hooks.1.jsonl`, and of these [`OLD_FILES`] stay.
//!   The chain goes on from file to file. Each list of a record is bounded, too, and says how much more there
//!   was: no run writes more than a hundredth of the log.
//! - Imported files are digested after their run, by a thread that does only this, from descriptors of the
//!   run's own. Files that are too many to be digested are counted; what is not digested when the daemon ends
//!   has no such record.

mod chain;
mod contents;
mod entry;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use contents::Imports;
pub(super) use entry::{About, run, turned_away};

use self::contents::Digesting;
use self::writer::Writer;
use crate::hooks::error::HookError;
use crate::wire::rpc::{HookChain, HookEntry, HookPoint, HookRunPage, HookRunQuery};

/// Bytes of one file: some thousand runs.
pub(super) const FILE_BYTES: u64 = 4 << 20;
/// How many older files are kept.
pub(super) const OLD_FILES: u32 = 4;

/// The log of one daemon, which is its only writer.
#[derive(Debug)]
pub(super) struct Audit {
    folder: PathBuf,
    writer: Arc<Mutex<Writer>>,
    digesting: Digesting,
}

impl Audit {
    /// Opens the log in a folder. A line that was cut off is removed.
    pub(super) fn open(folder: &Path) -> std::io::Result<Self> {
        let writer = Arc::new(Mutex::new(Writer::open(folder, FILE_BYTES)?));
        let digesting = Digesting::start(Arc::clone(&writer))?;
        Ok(Self { folder: folder.to_owned(), writer, digesting })
    }

    /// The same, off the threads that must not wait for a disk.
    pub(super) async fn open_in(folder: &Path) -> Result<Arc<Self>, HookError> {
        let file = chain::path(folder, 0);
        let folder = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open(&folder)).await;
        let opened = opened.unwrap_or_else(|error| Err(error.into()));
        opened.map(Arc::new).map_err(|source| HookError::Record { file, source })
    }

    /// Appends the entries of one phase and returns the number of the first. Where hooks must not keep
    /// something from happening, neither does a full disk.
    pub(super) async fn write_down(
        self: &Arc<Self>,
        point: HookPoint,
        entries: Vec<HookEntry>,
    ) -> Result<u64, HookError> {
        if entries.is_empty() {
            return Ok(0);
        }
        let written = self.read(move |audit| audit.append(entries)).await;
        match (point, written) {
            (HookPoint::PreStop | HookPoint::Cleanup | HookPoint::Doctor, Err(error)) => {
                use std::error::Error as _;
                let cause = error.source().map(ToString::to_string);
                tracing::error!(%error, cause, "hooks ran unrecorded");
                Ok(0)
            }
            (_, written) => written,
        }
    }

    /// Does something with the files, on a thread that may wait for a disk.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        what: impl FnOnce(&Self) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, HookError> {
        let audit = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || what(&audit)).await;
        let done = done.unwrap_or_else(|error| Err(error.into()));
        done.map_err(|source| HookError::Record { file: self.file(), source })
    }

    /// Another file in place of the one that is written to.
    #[cfg(test)]
    pub(super) fn replace_file(&self, file: std::fs::File) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).replace_file(file);
    }

    /// The file that is written to.
    pub(super) fn file(&self) -> PathBuf {
        chain::path(&self.folder, 0)
    }

    /// Appends entries. Returns the number of the first; the others follow.
    pub(super) fn append(&self, entries: Vec<HookEntry>) -> std::io::Result<u64> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.append(entries)
    }

    /// Digests what a run has imported, later.
    pub(super) fn digest_later(&self, run: u64, imports: Imports) {
        self.digesting.add(run, imports);
    }

    /// Records.
    pub(super) fn page(&self, query: &HookRunQuery) -> std::io::Result<HookRunPage> {
        read::page(self.files()?.0, query)
    }

    /// Whether the chain holds, up to what this daemon has written last.
    pub(super) fn verify(&self) -> std::io::Result<HookChain> {
        let (files, end) = self.files()?;
        chain::verify(files, Some(end))
    }

    /// All files as they are now, and how the last one ends.
    fn files(&self) -> std::io::Result<(Vec<chain::LogFile>, chain::End)> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((chain::open_all(&self.folder)?, writer.end()))
    }
}
