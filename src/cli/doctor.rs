//! `cove doctor`: what the daemon finds on this host. A daemon that does not start is a finding too.

use crate::report::Report;
use crate::wire::rpc::{Check, DoctorRun, Nothing, Verdict};

use super::connect::connect;
use super::failure::Failure;
use super::output::{Format, table};
use crate::report::escape_control;

/// Arguments of `cove doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let checks = match connect().await {
            Ok(client) => client.call::<DoctorRun>(Nothing {}).await?,
            Err(report) => vec![no_daemon(&report)],
        };
        self.format.print(&checks, |checks| render(checks))?;
        let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
        Ok(u8::from(failed))
    }
}

/// The one row there is when the daemon, which does the checks, cannot be had.
pub(super) fn no_daemon(report: &Report) -> Check {
    Check {
        name: "daemon".to_owned(),
        verdict: Verdict::Fail,
        found: report.one_line(),
        hint: report.hint.clone(),
    }
}

/// The rows, each with what to do below it.
pub(super) fn render(checks: &[Check]) -> String {
    let verdict = |verdict| match verdict {
        Verdict::Pass => "PASS",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    };
    let row = |check: &Check| {
        [verdict(check.verdict).to_owned(), check.name.clone(), check.found.clone()]
    };
    let rows = table(["VERDICT", "CHECK", "FOUND"], checks.iter().map(row));
    let mut lines = rows.lines();
    let mut text: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (line, check) in lines.zip(checks) {
        text.push(line.to_owned());
        let hints = check.hint.iter().flat_map(|hint| hint.lines());
        text.extend(hints.map(|hint| format!("         hint: {}", escape_control(hint))));
    }
    text.join("\n")
}
