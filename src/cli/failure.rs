//! How a failure of a command is written and which exit status it has.

use std::fmt::Write as _;

use crate::report::{Kind, Report, escape_control};

use super::output;

/// The exit status of every failure of cove itself where the remote command's statuses are shown.
pub(super) const OWN_FAILURE: u8 = 125;

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Something failed, and the user has to hear of it.
    Report(Box<Report>),
    /// Nobody reads stdout any more: end quietly, as Unix tools do.
    StdoutClosed,
    /// The user ended it: nothing to explain.
    Interrupted,
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}

/// Whose exit statuses a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statuses {
    /// Those of the remote command, so all failures of cove itself are one status.
    OfRemote,
    /// Those of the kinds of failures.
    OfKind,
}

/// The exit status of a failure.
pub(super) fn status(kind: Kind, statuses: Statuses) -> u8 {
    match statuses {
        Statuses::OfRemote => OWN_FAILURE,
        Statuses::OfKind => kind.exit_status(),
    }
}

/// Writes a failure to stderr and returns its exit status.
pub(super) fn show(report: &Report, statuses: Statuses) -> u8 {
    output::say(&render(report, statuses));
    status(report.kind, statuses)
}

/// A failure as text: message, chain of causes, operation, and the hint after a blank line. Where the
/// exit status cannot tell the kind of the failure, the text does. Guests, plugins and images may have
/// had a hand in every part, so control characters are escaped.
pub(super) fn render(report: &Report, statuses: Statuses) -> String {
    let mut text = String::new();
    let mut line = |start: &str, content: &str| {
        let content = escape_control(content.trim_end());
        let indented = content.replace('\n', &format!("\n{}", " ".repeat(start.len())));
        writeln!(text, "{start}{indented}").expect("writing to a String cannot fail");
    };
    line("error: ", &report.message);
    for cause in &report.cause {
        line("  cause: ", cause);
    }
    if let Some(operation) = &report.operation {
        line("  operation: ", operation.as_str());
    }
    match statuses {
        Statuses::OfRemote => line("  kind: ", report.kind.as_str()),
        Statuses::OfKind => {}
    }
    if let Some(hint) = &report.hint {
        text.push('\n');
        for hint in hint.lines() {
            let hint = escape_control(hint);
            writeln!(text, "hint: {hint}").expect("writing to a String cannot fail");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// Adds one more hint, on a line of its own.
pub(super) fn add_hint(report: &mut Report, hint: &str) {
    match &mut report.hint {
        Some(there) => {
            there.push('\n');
            there.push_str(hint);
        }
        None => report.hint = Some(hint.to_owned()),
    }
}
