//! The course of a delivery into a guest: its stages, who may end it, and how much was sent.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::report::Report;
use crate::vm::cancelled;
use crate::vm::operation::{Running, StageGuard};

/// The course of one delivery. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Course {
    /// None where somebody else has the stages, and ends it by dropping it.
    operation: Option<Running>,
    sent: Arc<AtomicU64>,
}

impl Course {
    /// That of an operation.
    pub(super) fn of(operation: Running) -> Self {
        Self { operation: Some(operation), sent: Arc::default() }
    }

    /// Begins a stage, which lasts until the returned value is dropped.
    pub(super) fn stage(&self, name: &'static str) -> Option<StageGuard> {
        self.operation.as_ref().map(|operation| operation.stage(name))
    }

    /// Tells the user something.
    pub(super) fn note(&self, note: String) {
        if let Some(operation) = &self.operation {
            operation.note(note);
        }
    }

    /// Refuses to go on when somebody has cancelled it. What was sent but not ended is dropped by the guest.
    pub(super) fn check(&self) -> Result<(), Report> {
        match self.operation.as_ref().is_some_and(Running::is_cancelled) {
            true => Err(cancelled()),
            false => Ok(()),
        }
    }

    /// How many bytes were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// A sink that counts, and takes no more when it is cancelled.
    pub(super) fn over<'a>(&self, sink: &'a mut dyn Write) -> Watched<'a> {
        Watched { course: self.clone(), sink }
    }
}

/// A sink of a delivery.
pub(super) struct Watched<'a> {
    course: Course,
    sink: &'a mut dyn Write,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.course.check().map_err(|report| io::Error::other(report.message))?;
        let written = self.sink.write(bytes)?;
        self.course.sent.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
