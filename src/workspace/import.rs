//! A git tree out of contents as they come: what is written here goes to `git fast-import`, which hashes it,
//! and keeps what it does not have yet.

use std::io::{self, BufWriter, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::WorkspaceError;
use super::git::{self, Size, in_scratch};
use super::unchanged::{Status, Statuses};
use crate::process::Tool;
use crate::wire::survey::EntryKind;

/// How much is handed to git at once.
const BUFFER: usize = 256 * 1024;

/// How much of a content is read at once.
const COPIED_AT_ONCE: usize = 128 * 1024;

/// How long git may take: as long as it is being written to, which is bounded where that is done.
const DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

const RECORDING: &str = "write down what is in the guest";

/// Takes the entries of a tree. What git does not take is not told here but by the [`Import`], so that whoever
/// writes need not stop for it.
#[derive(Debug)]
pub struct TreeWriter {
    /// None when nobody wants the tree, or git is gone.
    pipe: Option<BufWriter<PipeWriter>>,
    /// What is known of files of the tree, and who gets that with it.
    statuses: Option<(Statuses, oneshot::Sender<Statuses>)>,
}

/// The other end of a [`TreeWriter`].
pub struct Import {
    tool: Tool,
    statuses: oneshot::Receiver<Statuses>,
}

/// Begins a tree in a repository of our own: the commit of `reference` will have it. It begins as the tree of
/// the commit `from`, or empty.
pub(super) fn begin(
    repository: &Path,
    reference: &str,
    from: Option<&str>,
) -> io::Result<(TreeWriter, Import)> {
    let (reader, pipe) = io::pipe()?;
    let import = in_scratch(repository, Size::Work)
        .args(["fast-import", "--quiet", "--force", "--done"])
        .deadline(DEADLINE)
        .stdin(reader);
    let (sender, statuses) = oneshot::channel();
    let mut writer = TreeWriter {
        pipe: Some(BufWriter::with_capacity(BUFFER, pipe)),
        statuses: Some((Statuses::default(), sender)),
    };
    let from = from.map(|from| format!("M 040000 {from} \"\"\n")).unwrap_or_default();
    // The name and the time are those of nobody and never: only the tree matters.
    let head = format!("commit {reference}\ncommitter cove <> 0 +0000\ndata 0\n{from}");
    writer.write(head.as_bytes());
    Ok((writer, Import { tool: import, statuses }))
}

impl Import {
    /// Waits until the tree is there, and returns what the writer knows of its files.
    ///
    /// # Errors
    /// When git fails, or the writer was dropped before it finished.
    pub async fn done(mut self) -> Result<Statuses, WorkspaceError> {
        git::run(self.tool, RECORDING).await?;
        // They were handed over before git was told that this is all.
        Ok(self.statuses.try_recv().unwrap_or_default())
    }
}

impl TreeWriter {
    /// One whose tree nobody wants.
    #[must_use]
    pub fn to_nowhere() -> Self {
        Self { pipe: None, statuses: None }
    }

    /// Begins an entry, in whose place another may have been. Exactly `size` bytes of content follow.
    pub fn begin(&mut self, path: &[u8], kind: EntryKind, size: u64) {
        let mode = format!("M {} inline ", kind.mode());
        self.write(
            &[mode.as_bytes(), &quoted(path), format!("\ndata {size}\n").as_bytes()].concat(),
        );
    }

    /// Writes content of the entry that was begun.
    pub fn content(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }

    /// Writes `size` bytes of content of the entry that was begun, or as many as there are, and returns how many
    /// are missing.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn copy(&mut self, contents: &mut dyn Read, size: u64) -> io::Result<u64> {
        let mut buffer = vec![0; COPIED_AT_ONCE];
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match contents.read(&mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(read) => {
                    self.content(&buffer[..read]);
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    /// Puts an entry in whose content git has.
    pub fn put(&mut self, path: &[u8], kind: EntryKind, object: &str) {
        let head = format!("M {} {object} ", kind.mode());
        self.write(&[head.as_bytes(), &quoted(path), b"\n"].concat());
    }

    /// Takes by what a file is known again that is in the tree as it was with this status.
    pub(super) fn know(&mut self, path: &[u8], status: Status) {
        if let Some((statuses, _)) = &mut self.statuses {
            statuses.insert(path, status);
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, path: &[u8]) {
        self.write(&[b"D ", &quoted(path)[..], b"\n"].concat());
    }

    /// Says that this is all.
    pub fn finish(mut self) {
        if let Some((statuses, whom)) = self.statuses.take() {
            // Whoever wanted the tree may have gone.
            whom.send(statuses).ok();
        }
        self.write(b"done\n");
        if let Some(mut pipe) = self.pipe.take() {
            // Git says itself what it has not got.
            pipe.flush().ok();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.pipe.as_mut().is_some_and(|pipe| pipe.write_all(bytes).is_err()) {
            self.pipe = None;
        }
    }
}

/// A path as git reads it in quotes: any bytes but zero.
pub(super) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            b'\n' => quoted.extend(b"\\n"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// A path as a line of `objects/info/alternates`, quoted, because it may hold newlines or begin with `#`.
pub(super) fn alternate(path: &Path) -> Vec<u8> {
    [&quoted(path.as_os_str().as_bytes())[..], b"\n"].concat()
}
