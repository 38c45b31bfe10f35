//! A repository that goes in whole, where none is: what may have its place, and what is kept of it when it does not
//! arrive.
//!
//! What goes in is written down before the guest hears that it has all of it. That is forgotten again where it is
//! certain that the guest has none of it: it says so itself, or nothing was sent. However else a delivery ends (a
//! connection that breaks, a cancel in the last moment), the record stays, and the next one finds out by it what is
//! there (module `arrived`).

use super::prepare::Place;
use super::program;
use crate::daemon::checkouts;
use crate::daemon::course::Course;
use crate::report::{Kind, Report};
use crate::vm::ports::{Guest, GuestTrees};
use crate::wire::guest::{Exec, TreeFailure};
use crate::workspace::{Kept, Package, PackageSummary};

/// Sends a whole package into a new folder of the guest, and keeps what went in.
///
/// # Errors
/// When something has its place, or the guest does not take it.
pub(super) async fn send_whole(
    package: Package,
    guest: &dyn GuestTrees,
    name: &str,
    folder: &str,
    kept: &Kept,
    course: &Course,
) -> Result<PackageSummary, Report> {
    let earlier = kept.is_there().await;
    let not_taken = match checkouts::deliver(package, folder, guest, kept, course).await {
        Ok(summary) => return Ok(summary),
        Err(not_taken) => not_taken,
    };
    // Of an earlier one, of which nobody has heard, the guest says nothing by refusing this one.
    if not_taken.is_nowhere() && !earlier {
        kept.forget().await;
    }
    Err(match not_taken.reason {
        TreeFailure::ThereAlready => there_already(name, folder),
        TreeFailure::Untouched | TreeFailure::Unknown => not_taken.report,
    })
}

/// That something is where a repository is to go.
pub(super) fn there_already(name: &str, folder: &str) -> Report {
    let message = format!("cannot put the repository at `~/{folder}` in `{name}`");
    // As a shell takes it, whatever the source's folder is called.
    let quoted = folder.replace('\'', r"'\''");
    let mut report = Report::new(Kind::Conflict, message).with_hint(format!(
        "move it away (`cove exec {name} -- mv '{quoted}' '{quoted}.old'`), and try again"
    ));
    report.cause.push("something is there already".to_owned());
    report
}

/// Whether the guest says that the workspace's folder is not there. Where it is, nothing is put in its place.
pub(super) async fn is_gone(place: &Place<'_>) -> Result<bool, Report> {
    Ok(ask_if_gone(place.guest, place.folder).await?.is_success())
}

/// Whether the guest says that something is there. Where it cannot say, it does when it is to make the folder.
pub(super) async fn is_taken(guest: &dyn Guest, folder: &str) -> bool {
    ask_if_gone(guest, folder).await.is_ok_and(|ended| ended.says_no())
}

async fn ask_if_gone(guest: &dyn Guest, folder: &str) -> Result<program::Ended, Report> {
    let words = ["test", "!", "-e", folder];
    let argv = words.iter().map(ToString::to_string).collect();
    let exec = Exec { argv, env: Vec::new(), cwd: None, tty: None };
    program::run(guest, &exec, &mut tokio::io::sink(), program::QUESTION).await
}
