//! What one run has read and what it was refused, for the record that is kept of it: names, sizes and
//! digests, and never a byte of what was read. Bounded; what does not fit is counted.

use crate::id::Digest;

use super::limits;
use super::refusal::Refusal;

/// The journal of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    pub(super) reads: Vec<Read>,
    pub(super) refusals: Vec<String>,
    /// How much did not fit.
    pub(super) left_out: u64,
}

/// One read of a host file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The logical name it stands behind.
    pub name: String,
    /// What the file is called towards people.
    pub label: String,
    /// From where, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The digest of these bytes.
    pub digest: Digest,
}

impl Read {
    pub(super) fn of(name: &str, label: &str, offset: u64, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            label: label.to_owned(),
            offset,
            bytes: bytes.len() as u64,
            digest: Digest::of(bytes),
        }
    }
}

impl Journal {
    pub(super) fn read(&mut self, read: Read) {
        if self.reads.len() < limits::JOURNAL_ENTRIES {
            self.reads.push(read);
        } else {
            self.left_out += 1;
        }
    }

    /// Notes down that the plugin wanted what it may not.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        if refusal.code != Refusal::NOT_GRANTED || self.refusals.contains(&refusal.message) {
            return;
        }
        if self.refusals.len() < limits::JOURNAL_ENTRIES {
            self.refusals.push(refusal.message.clone());
        } else {
            self.left_out += 1;
        }
    }
}
