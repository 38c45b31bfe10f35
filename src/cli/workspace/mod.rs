//! `cove workspace`: repositories in VMs. One file per command.

mod apply;
mod export;
mod prepare;
mod status;

use super::failure::{Failure, add_hint};
use crate::report::{Kind, Report};

/// The commands of `cove workspace`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print a patch of all that was done in a VM since its repository went in, or apply it to that repository
    Export(export::Arguments),
    /// Put a repository into a VM that runs, or bring the one in it up to date
    Prepare(prepare::Arguments),
    /// Show what has changed in a VM's repository, and whether it was exported
    Status(status::Arguments),
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Export(arguments) => arguments.run().await,
            Self::Prepare(arguments) => arguments.run().await,
            Self::Status(arguments) => arguments.run().await,
        }
    }
}

/// A failure on the way to a guest or back, as one of what was to be done there. What is wrong with the request, or in
/// its way, speaks for itself.
fn on_the_way(report: Report, what: &str, hint: &str) -> Report {
    match report.kind {
        Kind::Failed | Kind::TimedOut | Kind::Unreachable => {
            let mut report = report.behind(what);
            add_hint(&mut report, hint);
            report
        }
        Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Refused | Kind::Cancelled => report,
    }
}
