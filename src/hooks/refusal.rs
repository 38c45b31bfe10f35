//! A host call that is refused: the error record that the plugin gets. It is never a crash, and never
//! stops the hook by itself.

use std::io;

use super::limits;
use super::paths::BadPath;

/// What the plugin gets as `error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// What was wanted, where it is not granted, and no longer than anything that can be.
    pub(super) wanted: Option<String>,
}

impl Refusal {
    /// The code of what is not granted.
    pub(super) const NOT_GRANTED: &'static str = "not-granted";

    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), wanted: None }
    }

    /// The plugin has no grant for it.
    pub(super) fn not_granted(what: &str) -> Self {
        let shown: String = what.chars().take(200).flat_map(char::escape_debug).collect();
        let refusal = Self::new(Self::NOT_GRANTED, format!("`{shown}` is not granted"));
        // A call may name megabytes, and what was wanted is kept to the end of the run.
        let wanted = (what.len() <= limits::PATH_BYTES).then(|| what.to_owned());
        Self { wanted, ..refusal }
    }

    /// A file of the host cannot be read.
    pub(super) fn io(label: &str, error: &io::Error) -> Self {
        Self::new("io", format!("`{}` cannot be read: {error}", label.escape_debug()))
    }
}

impl From<BadPath> for Refusal {
    fn from(error: BadPath) -> Self {
        Self::new("bad-path", error.to_string())
    }
}
