//! The work of a VM, put into the source repository's working tree.
//!
//! The daemon does it, not its client: it runs as the same user, has read the source when it went in, and compares and
//! writes in one go, for every client alike. The client asks its user in between: it gets a word for what would be
//! done, and says that word again. When the guest or the source has changed by then, nothing is done.

use std::path::Path;

use super::{Exports, Opened, notes, seen};
use crate::report::{Kind, Report};
use crate::wire::rpc::{MAX_CHANGES, WorkspaceApplied, WorkspaceApply};
use crate::workspace::{Kept, Seeing, Workspaces};

pub(super) async fn run(
    exports: &Exports,
    wanted: WorkspaceApply,
) -> Result<WorkspaceApplied, Report> {
    let Opened { vm, kept, .. } = &exports.open(&wanted.vm).await?;
    let seeing = seen(vm, kept).await?;
    let source = Path::new(&vm.workspace.source_path);
    apply(&exports.workspaces, kept, source, &seeing, &wanted).await
}

/// Applies what was seen to the working tree at `source`, if that is what was agreed to.
pub(super) async fn apply(
    workspaces: &Workspaces,
    kept: &Kept,
    source: &Path,
    seeing: &Seeing,
    wanted: &WorkspaceApply,
) -> Result<WorkspaceApplied, Report> {
    let application = workspaces.application(kept, source, &seeing.tree, wanted.how).await;
    let application = application.map_err(|error| Report::of(&error))?;
    let (mut runs, mut conflicts) = (application.runs(), application.conflicts());
    let (runs_total, conflicts_total) = (runs.len() as u64, conflicts.len() as u64);
    runs.truncate(MAX_CHANGES);
    conflicts.truncate(MAX_CHANGES);
    let mut applied = WorkspaceApplied {
        change: application.change(),
        source_path: source.to_string_lossy().into_owned(),
        files: application.files() as u64,
        runs,
        runs_total,
        conflicts,
        conflicts_total,
        applied: false,
        exported: false,
        notes: notes(seeing),
    };
    let Some(agreed) = &wanted.agreed else {
        return Ok(applied);
    };
    if *agreed != applied.change {
        let message =
            "files in the guest or in the source repository have changed since somebody agreed";
        return Err(Report::new(Kind::Conflict, message).with_hint(
            "nothing was changed; look at what would be written now, and agree to that",
        ));
    }
    application.carry_out().await.map_err(|error| Report::of(&error))?;
    applied.applied = true;
    // What was left out, or has one side of a conflict only, is in the guest alone.
    if seeing.beside().is_none() && conflicts_total == 0 {
        match kept.exported(&seeing.tree).await {
            Ok(()) => applied.exported = true,
            Err(error) => applied.notes.push(format!(
                "it was applied, but the work counts as unexported, as that could not be written down: {}",
                Report::of(&error).one_line()
            )),
        }
    }
    Ok(applied)
}
