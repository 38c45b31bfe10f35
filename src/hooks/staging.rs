//! What one plugin has planned so far: checked step by step, dropped as a whole when it fails.

use std::sync::Arc;

use super::limits;
use super::manifest::Limits;
use super::needs::Rights;
use super::occupied::{Occupied, Shape};
use super::paths;
use super::refusal::Refusal;
use super::source::Opened;
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::guest::{BlockPlace, PlanStep};

/// The growing plan of one plugin. It holds the plugin's rights, so that no caller can forget them.
#[derive(Debug)]
pub(super) struct Stage {
    rights: Arc<Rights>,
    limits: Limits,
    steps: Vec<PlannedStep>,
    occupied: Occupied,
    /// Bytes made by the plugin, those of unfinished writers included.
    bytes: u64,
    imported_bytes: u64,
}

impl Stage {
    pub(super) fn new(rights: Arc<Rights>, limits: Limits) -> Self {
        Self {
            rights,
            limits,
            steps: Vec::new(),
            occupied: Occupied::default(),
            bytes: 0,
            imported_bytes: 0,
        }
    }

    /// What was planned; the plan is empty afterwards.
    pub(super) fn take_steps(&mut self) -> Vec<PlannedStep> {
        std::mem::take(&mut self.steps)
    }

    /// Makes a folder.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<(), Refusal> {
        self.may(path, Some(mode))?;
        let step = PlanStep::MakeDirectory { path: path.to_owned(), mode };
        self.push(step, Content::None)
    }

    /// May a file be written here? Asked when a writer is made.
    pub(super) fn may(&self, path: &str, mode: Option<u32>) -> Result<(), Refusal> {
        paths::check(path)?;
        if !self.rights.may_write(path) {
            return Err(Refusal::not_granted(path));
        }
        match mode {
            Some(mode) if mode & !0o777 != 0 => {
                let message = format!("mode {mode:o} has more than permission bits");
                Err(Refusal::new("bad-argument", message))
            }
            _ => Ok(()),
        }
    }

    /// Counts bytes that the plugin made.
    pub(super) fn take_bytes(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > limits::PIECE_BYTES {
            let message = format!("a piece of content has at most {} bytes", limits::PIECE_BYTES);
            return Err(Refusal::new("too-large", message));
        }
        let total = self.bytes + bytes as u64;
        if total > self.limits.staged_bytes {
            let message = format!("a plugin makes at most {} bytes", self.limits.staged_bytes);
            return Err(Refusal::new("too-large", message));
        }
        self.bytes = total;
        Ok(())
    }

    /// Gives back bytes that were counted and are not planned after all.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    /// Writes a file from bytes that were counted before.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<(), Refusal> {
        self.may(path, Some(mode))?;
        let size = bytes.len() as u64;
        let step = PlanStep::WriteFile { path: path.to_owned(), mode, size };
        self.push(step, Content::Bytes(bytes))
    }

    /// Copies a file of the host.
    pub(super) fn import(&mut self, path: &str, mode: u32, file: Opened) -> Result<(), Refusal> {
        self.may(path, Some(mode))?;
        let content = match file {
            Opened::File(file, size) => Content::HostFile { file, size },
            Opened::Memory(bytes) => Content::Bytes(bytes.to_vec()),
        };
        let size = content.size();
        let total = self.imported_bytes.saturating_add(size);
        if total > limits::IMPORTED_BYTES {
            let message = format!(
                "`{}` would make more than {} MiB of imported files",
                path.escape_debug(),
                limits::IMPORTED_BYTES >> 20
            );
            return Err(Refusal::new("too-large", message));
        }
        self.push(PlanStep::WriteFile { path: path.to_owned(), mode, size }, content)?;
        self.imported_bytes = total;
        Ok(())
    }

    /// Keeps a block in a file.
    pub(super) fn block(
        &mut self,
        path: &str,
        mode: u32,
        (marker, at): (&str, BlockPlace),
        content: String,
    ) -> Result<(), Refusal> {
        self.may(path, Some(mode))?;
        check_marker(marker)?;
        // A line that looks like one of cove's own would end the block early.
        let forged = |line: &str| line.starts_with("# >>> ") || line.starts_with("# <<< ");
        if content.contains('\0') || content.lines().any(forged) {
            let message = "the content of a block has a NUL or a marker line in it";
            return Err(Refusal::new("bad-argument", message));
        }
        self.take_bytes(content.len())?;
        let size = content.len() as u64;
        let (path, marker) = (path.to_owned(), marker.to_owned());
        let step = PlanStep::EnsureBlock { path, mode, marker, at, size };
        self.push(step, Content::Bytes(content.into_bytes()))
    }

    /// Removes a file or a link.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), Refusal> {
        self.may(path, None)?;
        self.push(PlanStep::Remove { path: path.to_owned() }, Content::None)
    }

    /// Makes a link. What it leads to must be granted with all that may be in it: a later plan, which
    /// finds the link on the disk, could write through it.
    pub(super) fn symlink(&mut self, path: &str, target: &str) -> Result<(), Refusal> {
        self.may(path, None)?;
        let reached = paths::check_target(path, target)?;
        for written in [&reached, &format!("{reached}/*")] {
            if !self.rights.may_write(written) {
                return Err(Refusal::not_granted(written));
            }
        }
        let step = PlanStep::Symlink { path: path.to_owned(), target: target.to_owned() };
        self.push(step, Content::None)
    }

    fn push(&mut self, step: PlanStep, content: Content) -> Result<(), Refusal> {
        if self.steps.len() >= self.limits.staged_steps {
            let message = format!("a plugin plans at most {} steps", self.limits.staged_steps);
            return Err(Refusal::new("too-many", message));
        }
        if let Some(clash) = self.occupied.clash(step.path(), &Shape::of(&step), |_| false) {
            let path = clash.path.escape_debug();
            return Err(Refusal::new("conflict", format!("`{path}` is already planned")));
        }
        self.occupied.insert(&step, 0);
        self.steps.push(PlannedStep { step, content });
        Ok(())
    }
}

fn check_marker(marker: &str) -> Result<(), Refusal> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b" ._:-".contains(&b);
    let padded = marker.trim() != marker;
    if marker.is_empty()
        || padded
        || marker.len() > limits::MARKER_BYTES
        || !marker.bytes().all(good)
    {
        let shown: String = marker.chars().take(80).flat_map(char::escape_debug).collect();
        return Err(Refusal::new("bad-argument", format!("`{shown}` is no marker of a block")));
    }
    Ok(())
}
