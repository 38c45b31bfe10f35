//! Putting a repository into a VM that runs, or bringing the one in it up to date.
//!
//! ```text
//!  nothing is in it:    inspect ─▶ pack ─▶ the whole tree ───────────────────────────────▶ row
//!  something is in it:  inspect ─▶ look ─▶ safe? ─▶ pack ─▶ what differs ─▶ what is kept ─▶ row
//! ```
//!
//! Up to the sending everything may be dropped at any time. What is sent takes effect in the guest as a whole, when
//! the last of it has come; so a cancel is looked at until then.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::anew::{is_gone, is_taken, send_whole, there_already};
use super::arrived::Arrived;
use super::looks::look;
use super::{Exports, commits, program, report, settings};
use crate::daemon::GUEST_HOME;
use crate::daemon::checkouts::{self, inspection};
use crate::daemon::course::Course;
use crate::report::{Kind, Report, counted};
use crate::vm::ports::Guest;
use crate::vm::{Prepare, PrepareVm, Unexported, WorkspaceVm};
use crate::wire::guest::TreeChange;
use crate::wire::rpc::{
    CreateWorkspace, Operation, Vm, VmWorkspace, WorkspaceMode, WorkspacePrepare,
};
use crate::workspace::{
    Against, Already, Comparison, Inspection, Kept, Limit, PackageSummary, Renewal, Workspaces,
};

/// How many files a refusal names.
const NAMED: usize = 5;

/// A workspace in a guest.
pub(super) struct Place<'a> {
    pub(super) guest: &'a dyn Guest,
    /// The VM's name.
    pub(super) name: &'a str,
    /// Its folder, relative to the home.
    pub(super) folder: &'a str,
    /// The commit that went in.
    pub(super) base_commit: Option<&'a str>,
    pub(super) mode: WorkspaceMode,
    pub(super) limit: Limit,
    pub(super) kept: &'a Kept,
}

impl<'a> Place<'a> {
    pub(super) fn of(vm: &'a PrepareVm, viewed: &'a WorkspaceVm, kept: &'a Kept) -> Self {
        let there = &viewed.workspace;
        let in_home = there.guest_path.strip_prefix(GUEST_HOME);
        let folder = in_home.and_then(|path| path.strip_prefix('/'));
        Self {
            guest: &*vm.guest,
            name: &viewed.name,
            folder: folder.unwrap_or(&there.guest_path),
            base_commit: there.base_commit.as_deref(),
            mode: there.mode,
            limit: Limit(viewed.disk_bytes),
            kept,
        }
    }
}

impl Exports {
    pub(super) async fn begin_prepare(
        &self,
        wanted: WorkspacePrepare,
    ) -> Result<Operation, Report> {
        let (name, wait, exports) = (wanted.vm.clone(), wanted.wait, self.clone());
        let work: Prepare =
            Box::new(move |vm| Box::pin(async move { exports.carry_out(vm, wanted).await }));
        self.vms.prepare(&name, wait, work).await
    }

    async fn carry_out(self, vm: PrepareVm, wanted: WorkspacePrepare) -> Result<Vm, Report> {
        let alone = vm.unless_given_up(async { Ok(self.looks.alone(&vm.id).await) }).await?;
        let kept = Kept::at(vm.kept.clone()).while_alone(alone);
        let course = Course::of(vm.operation.clone());
        let done = match (vm.workspace(), wanted.path.clone()) {
            (None, Some(path)) => match self.arrived(&vm, &kept, &wanted, &path).await? {
                Arrived::There(there) => self.renew(&vm, &kept, there, wanted, &course).await,
                Arrived::Gone => self.put_in(&vm, &kept, wanted, path, &course).await,
                Arrived::Other(refusal) => Err(refusal),
            },
            (None, None) => {
                let message = format!("no repository is in the VM `{}` yet", vm.name);
                let hint = format!("name one: `cove workspace prepare {} PATH`", vm.name);
                Err(Report::new(Kind::Invalid, message).with_hint(hint))
            }
            (Some(there), _) => self.renew(&vm, &kept, there, wanted, &course).await,
        };
        // Why the sending ended is not what the guest, or the sink, said of it.
        let workspace = done.map_err(|error| course.check().err().unwrap_or(error))?;
        vm.prepared(workspace).await
    }

    /// The first one of a VM.
    async fn put_in(
        &self,
        vm: &PrepareVm,
        kept: &Kept,
        wanted: WorkspacePrepare,
        path: String,
        course: &Course,
    ) -> Result<VmWorkspace, Report> {
        let gather = async {
            let inspection = inspect(&self.workspaces, wanted, path, course).await?;
            let _stage = course.stage("pack");
            let package = self.workspaces.pack(&inspection).await.map_err(report)?;
            package.notes().for_each(|note| course.note(note));
            Ok((inspection, package))
        };
        let (inspection, package) = vm.unless_given_up(gather).await?;
        let folder = inspection.guest_folder_name();
        // Before anything is kept of what goes in, by which that would be known again.
        let taken = async { Ok(!kept.is_there().await && is_taken(&*vm.guest, &folder).await) };
        if vm.unless_given_up(taken).await? {
            return Err(there_already(&vm.name, &folder));
        }
        let _stage = course.stage("workspace");
        let summary = send_whole(package, &*vm.guest, &vm.name, &folder, kept, course).await?;
        tell(course, &summary, 0);
        Ok(checkouts::record(&inspection))
    }

    /// Any later one.
    async fn renew(
        &self,
        vm: &PrepareVm,
        kept: &Kept,
        there: VmWorkspace,
        wanted: WorkspacePrepare,
        course: &Course,
    ) -> Result<VmWorkspace, Report> {
        let viewed = vm.with(there);
        let there = &viewed.workspace;
        let place = Place::of(vm, &viewed, kept);
        let unexported = match wanted.discard_work {
            true => Unexported::Discard,
            false => Unexported::Keep,
        };
        let path = wanted.path.clone().unwrap_or_else(|| there.source_path.clone());
        if unexported == Unexported::Discard && is_gone(&place).await? {
            let mode = wanted.mode.or(Some(there.mode));
            let wanted = WorkspacePrepare { mode, ..wanted };
            return self.put_in(vm, kept, wanted, path, course).await;
        }
        let wanted = in_mode(&place, wanted)?;
        let gather = async {
            let inspection = inspect(&self.workspaces, wanted, path, course).await?;
            let renewal = gather(&self.workspaces, &place, &inspection, unexported, course).await?;
            Ok((inspection, renewal))
        };
        let (inspection, renewal) = vm.unless_given_up(gather).await?;
        if checkouts::record(&inspection).source_path != there.source_path {
            course.note(format!(
                "another repository takes the place of `{}`: the configuration of git in the guest stays as it is, \
                 its remotes, too",
                there.source_path
            ));
        }
        send(&place, renewal, course).await?;
        let guest_path = there.guest_path.clone();
        Ok(VmWorkspace { guest_path, ..checkouts::record(&inspection) })
    }
}

/// What is wanted of a workspace that is there, in the mode that it has: to have another, git in the guest would have
/// to become another, too.
fn in_mode(place: &Place<'_>, wanted: WorkspacePrepare) -> Result<WorkspacePrepare, Report> {
    let (mode, name) = (place.mode, place.name);
    match wanted.mode {
        Some(other) if other != mode => {
            let (is, wanted) = (mode.as_str(), other.as_str());
            let message = format!(
                "the repository is in `{name}` in the mode `{is}`, which stays: not in `{wanted}`"
            );
            Err(Report::new(Kind::Conflict, message)
                .with_hint(format!("put it into another VM: `cove run --mode {wanted} PATH`")))
        }
        Some(_) | None => Ok(WorkspacePrepare { mode: Some(mode), ..wanted }),
    }
}

/// What of the repository at a path is wanted.
pub(super) fn sources(wanted: &WorkspacePrepare, path: String) -> CreateWorkspace {
    let WorkspacePrepare { mode, include_untracked, depth, full_history, branch, from, .. } =
        wanted.clone();
    CreateWorkspace { path, mode, include_untracked, depth, full_history, branch, from }
}

async fn inspect(
    workspaces: &Workspaces,
    wanted: WorkspacePrepare,
    path: String,
    course: &Course,
) -> Result<Inspection, Report> {
    let _stage = course.stage("inspect");
    let inspection = inspection(workspaces, &sources(&wanted, path)).await?;
    inspection.notes().into_iter().for_each(|note| course.note(note));
    Ok(inspection)
}

/// Finds out what is to be sent to a guest that has an older tree.
///
/// # Errors
/// When it has work that was not exported, unless that is given up; or something cannot be read.
pub(super) async fn gather(
    workspaces: &Workspaces,
    place: &Place<'_>,
    inspection: &Inspection,
    unexported: Unexported,
    course: &Course,
) -> Result<Renewal, Report> {
    let kept = place.kept;
    let (seeing, packs) = {
        let _stage = course.stage("look");
        let looking = look(place.guest, place.folder, place.mode, place.limit, kept);
        let listing = async {
            match place.mode {
                WorkspaceMode::Full => Ok(None),
                WorkspaceMode::Shallow | WorkspaceMode::Metadata => {
                    program::ask(place.guest, place.folder, &["ls", "-1", ".git/objects/pack"])
                        .await
                }
            }
        };
        let (looked, packs) = tokio::join!(looking, listing);
        (looked.map_err(|error| unless_hinted(error, place.name))?, packs?.unwrap_or_default())
    };
    let tree = &seeing.tree;
    if unexported == Unexported::Keep && !kept.is_safe(tree).await.map_err(report)? {
        return Err(refusal(place, tree).await?);
    }
    if unexported == Unexported::Keep
        && let Some(first) = seeing.unseen.first()
    {
        let message = format!(
            "git in `{}` has changed `{first}`, which is not checked out there",
            place.name
        );
        return Err(Report::new(Kind::Conflict, message).with_hint(
            "check it out (`git sparse-checkout disable` in the guest) and take it out with \
             `cove workspace export`, or give it up with `--discard-work`",
        ));
    }
    kept.keep_arrived(tree).await.map_err(report)?;
    let _stage = course.stage("pack");
    if place.mode == WorkspaceMode::Full {
        let package = workspaces.pack(inspection).await.map_err(report)?;
        return kept.renew(package, &seeing).await.map_err(report);
    }
    let next = inspection.submodules_to_go_in();
    let there = commits::before(place, &next).await?;
    let packs: Vec<&str> = packs.lines().collect();
    // Where its git has put objects together anew, or away, it gets all of them.
    let history = kept.is_all_in(&packs).await.then_some(kept);
    let already = Already { history, submodules: commits::unchanged(&there, next) };
    let package = workspaces.pack_onto(inspection, already).await.map_err(report)?;
    package.notes().for_each(|note| course.note(note));
    let sent = commits::sent(there, &package);
    let renewal = kept.renew(package, &seeing).await.map_err(report)?;
    commits::keep(place, inspection, &renewal, course).await?;
    commits::keep_in_submodules(place, &sent, &renewal, course).await?;
    commits::deepen(place, &sent, &renewal).await?;
    Ok(renewal)
}

/// Sends what differs, and writes down that the guest has it.
///
/// # Errors
/// When the guest does not take it: then nothing has changed in it, unless it was cut off when it had all of it.
pub(super) async fn send(
    place: &Place<'_>,
    renewal: Renewal,
    course: &Course,
) -> Result<(), Report> {
    let _stage = course.stage("workspace");
    let (record, import) = renewal.record().map_err(report)?;
    let removals = renewal.removals;
    let renewal = Arc::new(renewal);
    let (sum, summed) = oneshot::channel();
    let write = Box::new({
        let (renewal, course) = (renewal.clone(), course.clone());
        move |sink: &mut dyn io::Write| {
            let summary = renewal.write_tar(course.over(sink), record).map_err(report)?;
            course.check()?;
            // Whoever asked may have gone.
            sum.send(summary).ok();
            Ok(())
        }
    });
    let sending = place.guest.receive_tree(place.folder, TreeChange::Update, write);
    let (sent, imported) = tokio::join!(sending, import.done());
    // A record that ended early because nothing more was sent says nothing of the cause.
    sent?;
    let statuses = imported.map_err(report)?;
    let lost = || Report::new(Kind::Failed, "what was sent to the guest was not written down");
    let renewal = Arc::into_inner(renewal).ok_or_else(lost)?;
    let settings = renewal.settings().to_vec();
    renewal.done(statuses).await.map_err(report)?;
    settings::follow(place, &settings, course).await;
    let summary = summed.await.map_err(|error| lost().with_cause(&error))?;
    tell(course, &summary, removals);
    Ok(())
}

/// Tells what went in, and how much was sent for it.
fn tell(course: &Course, summary: &PackageSummary, removals: u64) {
    let files = counted(summary.files, "file");
    let gone = match removals {
        0 => String::new(),
        count => format!(", {} taken out", counted(count, "file")),
    };
    let (bytes, sent) = (summary.bytes, course.sent());
    course.note(format!("{files} put in ({bytes} bytes){gone}; {sent} bytes sent with git's own"));
}

/// That there is work in the guest which was not exported.
async fn refusal(place: &Place<'_>, tree: &str) -> Result<Report, Report> {
    let comparison = Comparison::of(place.kept, Against::Base, tree).await.map_err(report)?;
    let changes = comparison.changes().await.map_err(report)?;
    let named = changes.iter().take(NAMED).map(|change| format!("`{}`", change.path));
    let more = changes.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {more} more"));
    let named: Vec<String> = named.chain(more).collect();
    let (name, named) = (place.name, named.join(", "));
    let message = format!("there is work in `{name}` that was not exported: {named}");
    Ok(Report::new(Kind::Conflict, message).with_hint(format!(
        "take it out with `cove workspace export {name}`, or give it up with `--discard-work`"
    )))
}

/// How to go on when the workspace cannot be looked at.
fn unless_hinted(error: Report, name: &str) -> Report {
    match error.hint {
        Some(_) => error,
        None => error.with_hint(format!(
            "nothing in the guest was touched; look there with `cove exec {name}`. When its folder is gone, \
             `--discard-work` puts the repository in anew"
        )),
    }
}
