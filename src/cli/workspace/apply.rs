//! `cove workspace export --apply`: the work of a VM, put into the files of the repository that went in.

use std::fmt::Write as _;

use crate::report::{Kind, Report, counted};
use crate::rpc::client::Client;
use crate::wire::rpc::{ApplyHow, VmWorkspaceApply, WorkspaceApplied, WorkspaceApply};

use super::super::failure::Failure;
use super::super::output::{one_line, say, tell};
use super::super::terminal::{can_ask, confirm};

/// How many files are named of those that run by themselves, and of those in conflict.
const NAMED: usize = 50;

/// Whether the user has to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// Where there is a terminal. Where there is none, files that run by themselves are refused.
    Ask,
    /// It was said on the command line.
    Given,
}

/// Looks at what would be written, asks, and has it written. The exit status says whether all fits together.
pub(super) async fn run(
    client: &Client,
    vm: String,
    how: ApplyHow,
    consent: Consent,
) -> Result<u8, Failure> {
    let wanted = |agreed| WorkspaceApply { vm: vm.clone(), how, agreed };
    let planned = client.call::<VmWorkspaceApply>(wanted(None)).await?;
    tell(&planned.notes);
    if planned.files > 0 {
        say_what(&planned);
        if consent == Consent::Ask && !agreed(&planned).await? {
            say("nothing was changed");
            return Ok(0);
        }
    }
    // Where nothing is to be written, it is written down that the source has all of it.
    let applied = client.call::<VmWorkspaceApply>(wanted(Some(planned.change))).await?;
    let source = one_line(&applied.source_path);
    match (applied.files, applied.conflicts_total) {
        (0, 0) => say(&format!("nothing to apply: `{source}` has it all")),
        (0, _) => {}
        (files, _) => say(&format!("applied {} to `{source}`", counted(files, "file"))),
    }
    tell(applied.notes.strip_prefix(&planned.notes[..]).unwrap_or(&applied.notes));
    match applied.conflicts_total {
        0 => Ok(0),
        _ => Err(in_conflict(&applied).into()),
    }
}

/// What is in danger of being overlooked.
fn say_what(planned: &WorkspaceApplied) {
    if planned.runs_total > 0 {
        let count = counted(planned.runs_total, "file");
        let mut text = format!("{count} of them may run by themselves on this machine:");
        for file in planned.runs.iter().take(NAMED) {
            write!(text, "\n  {} ({})", one_line(&file.path), one_line(&file.why))
                .expect("writing to a String cannot fail");
        }
        more(&mut text, planned.runs_total, planned.runs.len());
        say(&format!("{} to be written or removed; {text}", counted(planned.files, "file")));
    }
    if planned.conflicts_total > 0 {
        say(&format!("changed in both places, and to be in conflict: {}", conflicts(planned)));
    }
}

async fn agreed(planned: &WorkspaceApplied) -> Result<bool, Report> {
    if can_ask() {
        let (files, path) = (counted(planned.files, "file"), one_line(&planned.source_path));
        return confirm(&format!("apply {files} to `{path}`?")).await;
    }
    if planned.runs_total == 0 {
        return Ok(true);
    }
    let message =
        "there is no terminal to ask whether files that may run by themselves are to be written";
    Err(Report::new(Kind::Invalid, message)
        .with_hint("nothing was changed; look at them, and say `--yes` to have them written"))
}

fn conflicts(of: &WorkspaceApplied) -> String {
    let named = of.conflicts.iter().take(NAMED).map(|path| format!("`{}`", one_line(path)));
    let mut text = named.collect::<Vec<_>>().join(", ");
    more(&mut text, of.conflicts_total, of.conflicts.len());
    text
}

/// Says how many there are beside those that were named, out of a list of this length.
fn more(text: &mut String, total: u64, listed: usize) {
    let rest = total.saturating_sub(listed.min(NAMED) as u64);
    if rest > 0 {
        write!(text, " and {rest} more").expect("writing to a String cannot fail");
    }
}

fn in_conflict(applied: &WorkspaceApplied) -> Report {
    let message = format!(
        "applied, but what was done in both places does not fit together in {}: {}",
        counted(applied.conflicts_total, "file"),
        conflicts(applied)
    );
    Report::new(Kind::Failed, message).with_hint(
        "text has both sides between `<<<<<<< source` and `>>>>>>> guest`; of other files one side is there, \
         and the guest has its own. The work counts as unexported",
    )
}
