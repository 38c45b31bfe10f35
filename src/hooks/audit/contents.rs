//! Digests of imported files, taken after their run by a thread that does only this.
//!
//! ```text
//!   add ──▶ waiting: a few runs, with their open files ──▶ thread ──▶ one record for each run
//!    └────▶ passed over: runs that found no room there ──▶    │
//! ```
//!
//! Files that stay without a digest are counted in the record of their run, so that the log never looks
//! complete when it is not.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::entry::{bounded, short};
use super::writer::Writer;
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::rpc::{HookEntry, ImportedDigest};

/// Runs that may wait for their digests. Each holds its files open.
const WAITING: usize = 16;
/// Runs that are remembered to have found no room among these: a start every second for an hour. They are
/// numbers, and the thread writes them down as soon as it has digested one run more.
const PASSED_OVER: usize = 3600;
/// Files of one run that are digested. They are open twice until they are.
const FILES: usize = 256;

/// Imported files of one run.
#[derive(Debug, Default)]
pub(in crate::hooks) struct Imports {
    /// Where they go, and the files, by descriptors of their own; none for one that could not be had.
    files: Vec<(String, Option<Content>, u64)>,
    /// How many more there are.
    more: u64,
}

impl Imports {
    /// Those of a plan.
    pub(in crate::hooks) fn of(steps: &[PlannedStep]) -> Self {
        let mut imports = Self::default();
        for step in steps {
            let Content::HostFile { file, size } = &step.content else {
                continue;
            };
            if imports.files.len() == FILES {
                imports.more += 1;
                continue;
            }
            let again = |file: File| Content::HostFile { file, size: *size };
            let content = file.try_clone().ok().map(again);
            imports.files.push((step.step.path().to_owned(), content, *size));
        }
        imports
    }

    /// How many there are.
    fn count(&self) -> u64 {
        self.files.len() as u64 + self.more
    }

    /// The record of them.
    fn digested(self, run: u64) -> HookEntry {
        let mut left_out = self.more;
        let files = self.files.into_iter().map(|(path, content, bytes)| {
            let sha256 = content.and_then(|content| content.digest().ok().flatten());
            ImportedDigest { path: short(&path), bytes, sha256 }
        });
        let files = bounded(files, &mut left_out);
        HookEntry::Imported { run, files, left_out }
    }
}

/// The numbers of runs that found no room, with how many files they imported.
type PassedOver = Arc<Mutex<Vec<(u64, u64)>>>;

/// Those who hand over runs.
#[derive(Debug)]
pub(super) struct Digesting {
    waiting: SyncSender<(u64, Imports)>,
    passed_over: PassedOver,
}

/// The thread's work.
pub(super) struct Work {
    waiting: Receiver<(u64, Imports)>,
    passed_over: PassedOver,
    writer: Arc<Mutex<Writer>>,
}

impl Digesting {
    pub(super) fn start(writer: Arc<Mutex<Writer>>) -> io::Result<Self> {
        let (digesting, work) = Self::new(writer);
        std::thread::Builder::new()
            .name("hook digests".into())
            .stack_size(256 << 10)
            .spawn(move || work.until_closed())?;
        Ok(digesting)
    }

    /// Both ends; nothing happens before the work is begun.
    pub(super) fn new(writer: Arc<Mutex<Writer>>) -> (Self, Work) {
        let (sender, receiver) = sync_channel(WAITING);
        let passed_over = PassedOver::default();
        let work = Work { waiting: receiver, passed_over: Arc::clone(&passed_over), writer };
        (Self { waiting: sender, passed_over }, work)
    }

    /// Hands over a run. One that finds no room stays without digests, which is written down.
    pub(super) fn add(&self, run: u64, imports: Imports) {
        let count = imports.count();
        if count == 0 {
            return;
        }
        // Held until both are done: the thread looks here after each run, and there is one to come.
        let mut passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        match self.waiting.try_send((run, imports)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::warn!(run, "imported files stay without digests in the log of hooks");
                if passed_over.len() < PASSED_OVER {
                    passed_over.push((run, count));
                }
            }
        }
    }
}

impl Work {
    /// Works until the log is closed.
    pub(super) fn until_closed(self) {
        while let Ok((run, imports)) = self.waiting.recv() {
            let mut entries = vec![imports.digested(run)];
            let mut passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
            entries.extend(passed_over.drain(..).map(|(run, left_out)| HookEntry::Imported {
                run,
                files: Vec::new(),
                left_out,
            }));
            drop(passed_over);
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = writer.append(entries) {
                tracing::error!(run, %error, "digests of imported files cannot be written down");
            }
        }
    }
}
