//! Why a guest has not taken a tree, for whoever must know whether that may be in it all the same.

use crate::report::Report;
use crate::wire::guest::TreeFailure;

/// A tree that a guest has not taken, as far as anybody has heard.
#[derive(Debug)]
pub struct NotTaken {
    /// What is known of it.
    pub reason: TreeFailure,
    /// The failure.
    pub report: Report,
}

impl NotTaken {
    /// One of which the guest has got nothing.
    #[must_use]
    pub fn unsent(report: Report) -> Self {
        Self { reason: TreeFailure::Untouched, report }
    }

    /// One of which the guest may have got all.
    #[must_use]
    pub fn unheard(report: Report) -> Self {
        Self { reason: TreeFailure::Unknown, report }
    }

    /// Whether nothing of it is in the guest, nor comes there later.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        match self.reason {
            TreeFailure::Untouched | TreeFailure::ThereAlready => true,
            TreeFailure::Unknown => false,
        }
    }
}

impl From<NotTaken> for Report {
    fn from(not_taken: NotTaken) -> Self {
        not_taken.report
    }
}
