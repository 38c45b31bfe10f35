//! What can go wrong between the host and a guest's agent.

use std::io;
use std::time::Duration;

use crate::report::{Explain, Kind};
use crate::wire::guest::TreeFailure;

/// The longest text that is taken from a guest: a sentence and its causes fit, a guest that wants to
/// fill the log does not.
const MAX_GUEST_TEXT: usize = 4 * 1024;

/// How a guest says that its disk is full, somewhere in its chain of errors.
const FULL: &str = "No space left on device";

/// What to do about it.
const MAKE_ROOM: &str = "make room in the guest, or give it a larger work disk (`cove set --disk`)";

/// A request that an agent did not do.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// It never answered.
    #[error("the guest did not answer within {} s", waited.as_secs())]
    NotAnswering {
        /// How long it was waited for.
        waited: Duration,
        /// The last attempt.
        #[source]
        source: Box<GuestError>,
    },
    /// Its socket cannot be connected to.
    #[error("cannot connect to the guest's agent")]
    Connect(#[source] io::Error),
    /// The one that answers does not hold the key of this boot.
    #[error("another machine answers in the guest's place")]
    AnotherMachine,
    /// The agent speaks another version of the protocol.
    #[error("the guest's agent speaks version {theirs} of the protocol, not {ours}")]
    Version {
        /// The agent's.
        theirs: u32,
        /// This daemon's.
        ours: u32,
    },
    /// The connection broke, or the agent said something that fits nowhere.
    #[error("the connection to the guest's agent failed")]
    Connection(#[source] io::Error),
    /// One exchange took too long.
    #[error("the guest's agent did not {doing} within {} s", deadline.as_secs())]
    TimedOut {
        /// What was waited for.
        doing: &'static str,
        /// The bound.
        deadline: Duration,
    },
    /// The agent could not do it.
    #[error("the guest could not {step}: {message}")]
    Failed {
        /// What was being done, in the guest's words.
        step: String,
        /// The guest's chain of errors.
        message: String,
    },
    /// The agent did not take a tree.
    #[error("the guest could not {step}: {message}")]
    NotTaken {
        /// What it knows of the tree.
        reason: TreeFailure,
        /// What was being done, in the guest's words.
        step: String,
        /// The guest's chain of errors.
        message: String,
    },
    /// A file of the host, part of the plan, could not be read.
    #[error("cannot read the content for `~/{path}`")]
    Content {
        /// The path in the guest.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl GuestError {
    /// What the guest says of a failure, cut to a length fit for messages.
    #[must_use]
    pub fn failed(step: &str, message: &str) -> Self {
        Self::Failed { step: cut(step), message: cut(message) }
    }

    /// What the guest says of a tree that it did not take, cut in the same way.
    #[must_use]
    pub fn not_taken(reason: TreeFailure, step: &str, message: &str) -> Self {
        Self::NotTaken { reason, step: cut(step), message: cut(message) }
    }
}

impl Explain for GuestError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotAnswering { .. } | Self::TimedOut { .. } => Kind::TimedOut,
            Self::Connect(_)
            | Self::AnotherMachine
            | Self::Version { .. }
            | Self::Connection(_)
            | Self::Failed { .. }
            | Self::NotTaken { .. }
            | Self::Content { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotAnswering { .. } | Self::Connect(_) | Self::Connection(_) => {
                Some("see what the guest printed with `cove logs`".to_owned())
            }
            Self::TimedOut { .. } => Some(
                "the guest may be busy or stopped: look at `cove stats`, then at `cove logs`"
                    .to_owned(),
            ),
            Self::AnotherMachine => Some(
                "its vsock address is in use by a machine that cove does not know; stop that one"
                    .to_owned(),
            ),
            Self::Version { .. } => {
                Some("stop and start the VM: it then gets this daemon's agent".to_owned())
            }
            Self::Failed { message, .. } | Self::NotTaken { message, .. }
                if message.contains(FULL) =>
            {
                Some(MAKE_ROOM.to_owned())
            }
            Self::Failed { .. } | Self::NotTaken { .. } | Self::Content { .. } => None,
        }
    }
}

/// A guest's words, cut to a length fit for messages.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > MAX_GUEST_TEXT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_of_the_guest_is_told_with_what_to_do() {
        let (step, full) = ("unpack `~/song`", "cannot write `a`: No space left on device");
        let untouched = TreeFailure::Untouched;
        for full in [GuestError::failed(step, full), GuestError::not_taken(untouched, step, full)] {
            assert!(full.hint().is_some_and(|hint| hint.contains("make room in the guest")));
        }
        assert_eq!(GuestError::failed("set the hostname", "no such file").hint(), None);
        assert_eq!(GuestError::not_taken(untouched, step, "no such file").hint(), None);
    }

    #[test]
    fn a_guests_words_are_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        let long = "ä".repeat(MAX_GUEST_TEXT);
        let shown = cut(&long);
        assert_eq!(shown.len(), MAX_GUEST_TEXT + "…".len());
        assert!(shown.ends_with("ä…"));
        let not_taken = GuestError::not_taken(TreeFailure::Unknown, &long, &long).to_string();
        assert!(not_taken.len() < 3 * MAX_GUEST_TEXT, "{} bytes", not_taken.len());
    }
}
