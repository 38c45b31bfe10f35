//! Digests of imported files, taken after their run by a thread that does only this.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::writer::Writer;
use crate::id::hex;
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::rpc::{HookEntry, ImportedDigest};

/// Runs that may wait for their digests. Each holds its files open.
const WAITING: usize = 16;
/// Files of one run that are digested; others stay without a digest. They are open twice until they are.
const FILES: usize = 256;

/// Imported files of one run: where they go, and their descriptors.
#[derive(Debug, Default)]
pub(in crate::hooks) struct Imports(Vec<(String, File, u64)>);

impl Imports {
    /// Those of a plan, by descriptors of their own.
    pub(in crate::hooks) fn of(steps: &[PlannedStep]) -> Self {
        let files = steps.iter().filter_map(|step| match &step.content {
            Content::HostFile { file, size } => {
                Some((step.step.path().to_owned(), file.try_clone().ok()?, *size))
            }
            Content::None | Content::Bytes(_) => None,
        });
        Self(files.take(FILES).collect())
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Digesting(SyncSender<(u64, Imports)>);

impl Digesting {
    pub(super) fn start(writer: Arc<Mutex<Writer>>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let work = move || digest_all(&receiver, &writer);
        std::thread::Builder::new()
            .name("hook digests".into())
            .stack_size(256 << 10)
            .spawn(work)?;
        Ok(Self(sender))
    }

    /// Hands over a run. One that finds no room stays without digests.
    pub(super) fn add(&self, run: u64, imports: Imports) {
        if imports.0.is_empty() {
            return;
        }
        match self.0.try_send((run, imports)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                tracing::warn!(run, "imported files stay without digests in the log of hooks");
            }
        }
    }
}

/// Works until the log is closed.
fn digest_all(receiver: &Receiver<(u64, Imports)>, writer: &Mutex<Writer>) {
    while let Ok((run, imports)) = receiver.recv() {
        let files = imports.0.into_iter().map(|(path, file, bytes)| {
            let sha256 = digest(&file, bytes).ok().and_then(|digest| digest.parse().ok());
            ImportedDigest { path: super::entry::short(&path), bytes, sha256 }
        });
        let entry = HookEntry::Imported { run, files: files.collect() };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.append(vec![entry]) {
            tracing::error!(run, %error, "digests of imported files cannot be written down");
        }
    }
}

/// The digest of the first `size` bytes of a file.
fn digest(file: &File, size: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    let mut offset = 0;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(usize::MAX).min(piece.len());
        let read = file.read_at(&mut piece[..wanted], offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&piece[..read]);
        offset += read as u64;
    }
    Ok(hex(&hash.finalize()))
}
