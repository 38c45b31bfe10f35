//! What a failure looks like to its reader: a message, the chain of causes, a hint, a kind.
//!
//! Errors inside the program are small enums that know nothing of terminals, RPC codes or exit
//! statuses; each says its [`Kind`] and its hint through [`Explain`]. A [`Report`] is made of one of
//! them at the rim, travels over the RPC as `data`, and is written by the command line. `Display` of
//! an error never repeats its source: the report walks the chain.

use std::error::Error;
use std::io;

use serde::{Deserialize, Serialize};

use crate::id::OperationId;

/// What sort of failure it is. Decides the RPC code and the exit status; both mappings are exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something went wrong on the host or in the guest.
    Failed,
    /// The request itself is wrong: a bad name, size, flag or configuration.
    Invalid,
    /// The VM, image, operation or path does not exist.
    NotFound,
    /// The request does not fit the present state: name taken, VM not running.
    Conflict,
    /// The daemon cannot be reached.
    Unreachable,
    /// A policy, a grant or a capability does not allow it.
    Refused,
    /// A deadline passed.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
}

impl Kind {
    /// The exit status of every command but `run`, `exec` and `ssh`, whose own failures are all 125.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unreachable => 5,
            Self::Refused => 6,
            Self::TimedOut => 7,
            Self::Cancelled => 130,
        }
    }

    /// The JSON-RPC error code. Wrong parameters keep the code of the standard; the others lie in
    /// the range the standard leaves to servers.
    #[must_use]
    pub fn rpc_code(self) -> i32 {
        match self {
            Self::Failed => -32000,
            Self::Invalid => -32602,
            Self::NotFound => -32001,
            Self::Conflict => -32002,
            Self::Unreachable => -32003,
            Self::Refused => -32004,
            Self::TimedOut => -32005,
            Self::Cancelled => -32006,
        }
    }

    /// The kind as it is written in JSON and on stderr.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What to do about a full disk, whatever was being written: no other hint helps before that is done.
pub const FULL_DISK: &str = "make room on that file system, and try again";

/// What an error enum adds to `std::error::Error`, so that a report can be made of it.
pub trait Explain: Error {
    /// The kind of this failure.
    fn kind(&self) -> Kind;

    /// What the reader can do next, as one sentence, where there is something to do.
    fn hint(&self) -> Option<String>;
}

/// A failure as its reader gets it. This is the `data` of an RPC error, next to `message`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Report {
    /// The kind of the failure.
    pub kind: Kind,
    /// What happened, to which thing.
    pub message: String,
    /// Why: the sources of the error, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cause: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The operation in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

impl Report {
    /// A report of one sentence.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: Vec::new(), hint: None, operation: None }
    }

    /// A report of an error and the whole chain of its sources.
    #[must_use]
    pub fn of(error: &impl Explain) -> Self {
        Self {
            cause: causes(error),
            hint: full_disk(error.source()).or_else(|| error.hint()),
            ..Self::new(error.kind(), error.to_string())
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more cause at the end of the chain.
    #[must_use]
    pub fn with_cause(mut self, error: &dyn Error) -> Self {
        self.cause.push(error.to_string());
        self.cause.extend(causes(error));
        self
    }

    /// The same as the cause of something that failed because of it.
    #[must_use]
    pub fn behind(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.cause.insert(0, cause);
        self
    }

    /// The same with the operation in which it happened.
    #[must_use]
    pub fn in_operation(mut self, operation: OperationId) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Message and causes on one line, for logs and for the cause of a VM's `error` state.
    #[must_use]
    pub fn one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.cause).cloned().collect::<Vec<_>>().join(": ")
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Report {}

/// The hint about a full disk, when that is the reason at the end of these sources.
fn full_disk(source: Option<&(dyn Error + 'static)>) -> Option<String> {
    let mut chain = std::iter::successors(source, |error| (*error).source());
    let full = chain.any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    });
    full.then(|| FULL_DISK.to_owned())
}

/// So many of something, whose plural ends with `s`: `1 step`, `2 steps`.
#[must_use]
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The sources of an error, outermost first.
#[must_use]
pub fn causes(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |error| (*error).source())
        .map(ToString::to_string)
        .collect()
}

/// An error and its sources on one line, outermost first.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    std::iter::once(error.to_string()).chain(causes(error)).collect::<Vec<_>>().join(": ")
}

/// Text of a guest, a plugin or an image made fit for a terminal: control characters are escaped,
/// except for newline and tab.
#[must_use]
pub fn escape_control(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            // Bidirectional overrides are no control characters to Unicode, but they lie to readers.
            c if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                shown.extend(c.escape_unicode())
            }
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start `web`")]
    struct Outer(#[source] io::Error);

    impl Explain for Outer {
        fn kind(&self) -> Kind {
            Kind::Failed
        }
        fn hint(&self) -> Option<String> {
            Some("see `cove logs web`".to_owned())
        }
    }

    #[test]
    fn the_chain_is_kept_and_not_repeated() {
        let report = Report::of(&Outer(io::Error::other("no space")));
        assert_eq!(report.message, "cannot start `web`");
        assert_eq!(report.cause, ["no space"]);
        assert_eq!(report.one_line(), "cannot start `web`: no space");
        assert_eq!(with_causes(&Outer(io::Error::other("no space"))), report.one_line());
    }

    #[test]
    fn a_full_disk_has_one_hint() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let report = Report::of(&Outer(kind.into()));
            assert_eq!(report.hint.as_deref(), Some(FULL_DISK));
        }
        let report = Report::of(&Outer(io::ErrorKind::NotFound.into()));
        assert_eq!(report.hint.as_deref(), Some("see `cove logs web`"));
    }

    #[test]
    fn escape_sequences_do_not_survive() {
        assert_eq!(escape_control("a\u{1b}]0;x\u{7}\r\nb\tc"), "a\\u{1b}]0;x\\u{7}\\u{d}\nb\tc");
        assert_eq!(escape_control("\u{9b}31m\u{202e}"), "\\u{9b}31m\\u{202e}");
    }
}
