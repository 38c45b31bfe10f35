//! Programs of a guest, as hooks after a start run them: the operations that the host needs for that.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

/// A program to run as the guest's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestProgram {
    /// Its name, without a slash, looked up in the guest.
    pub program: String,
    /// What follows it.
    pub arguments: Vec<String>,
    /// Where it runs, relative to the home; the home itself when not given.
    pub folder: Option<String>,
    /// Variables on top of those of every command.
    pub environment: BTreeMap<String, String>,
    /// Its standard input.
    pub input: Vec<u8>,
}

/// How a program ended, and what it said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestOutput {
    /// Its exit status; 128 + n when signal n ended it.
    pub status: i32,
    /// The end of its standard output, [`super::limits::GUEST_OUTPUT_BYTES`] at most.
    pub stdout: Vec<u8>,
    /// The end of its standard error, the same.
    pub stderr: Vec<u8>,
    /// Whether something before these was dropped.
    pub truncated: bool,
}

/// Runs programs in one guest.
pub trait GuestPrograms: Send + Sync {
    /// Runs one and waits for its end. Dropping the future ends the program. The error is a sentence.
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>>;
}
