//! What commands said that were cut, and how often each sort of cut struck.

use std::collections::BTreeMap;

use crate::harness::Ran;

use super::Cut;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Said {
    messages: BTreeMap<String, u32>,
    struck: BTreeMap<(&'static str, Cut), u32>,
    late: u32,
}

impl Said {
    /// A cut struck a command while it ran. What it says must be of use to somebody who has never seen cove.
    pub(super) fn struck(&mut self, operation: &'static str, cut: Cut, ran: &Ran, vm: &str) {
        *self.struck.entry((operation, cut)).or_default() += 1;
        assert!(cut.statuses().contains(&ran.status), "{operation}, {cut:?}: {}", ran.told());
        // Nobody is there to say something, or there is nothing to be said.
        if cut == Cut::Client || ran.status == 0 {
            return;
        }
        let text = last_words(&ran.stderr);
        for never in ["panicked", "internal error", "RUST_BACKTRACE"] {
            assert!(!ran.stderr.contains(never), "{operation}, {cut:?}: {}", ran.told());
        }
        if cut != Cut::Interrupt {
            assert_eq!(ran.stderr.matches("error: ").count(), 1, "{operation}: {}", ran.told());
            assert!(text.contains("\nhint: "), "{operation}, {cut:?}: {}", ran.told());
            let named = text.contains(vm);
            assert!(named, "{operation}, {cut:?}: the machine is not named: {}", ran.told());
        }
        if matches!(cut, Cut::Disk | Cut::Full) {
            let full = ["No space left", "make room"].iter().any(|words| text.contains(words));
            assert!(full, "{operation}: it is not said that the disk is full: {}", ran.told());
        }
        *self
            .messages
            .entry(format!("{operation}, {cut:?}, {}: {text}", ran.status))
            .or_default() += 1;
    }

    /// A cut came when its command had ended.
    pub(super) fn late(&mut self) {
        self.late += 1;
    }

    /// How often a sort of cut struck an operation.
    pub(super) fn times(&self, operation: &'static str, cut: Cut) -> u32 {
        self.struck.get(&(operation, cut)).copied().unwrap_or_default()
    }

    /// How many struck.
    pub(super) fn total(&self) -> u32 {
        self.struck.values().sum()
    }

    /// Prints all of it.
    #[expect(clippy::print_stderr, reason = "tests report to people")]
    pub(super) fn show(&self) {
        for ((operation, cut), times) in &self.struck {
            eprintln!("{operation} was cut {times} times: {cut:?}");
        }
        eprintln!("{} cuts in all, {} came too late; what was said:", self.total(), self.late);
        for (message, times) in &self.messages {
            eprintln!("--- {times} times: {message}");
        }
    }
}

/// What stands from the error on, or the last line, without what differs each time.
fn last_words(stderr: &str) -> String {
    let at = stderr.find("error: ").or_else(|| stderr.trim_end().rfind('\n').map(|at| at + 1));
    let lines = stderr[at.unwrap_or_default()..].lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("operation: "));
    lines.collect::<Vec<_>>().join("\n")
}
