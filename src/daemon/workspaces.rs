//! Repositories in VMs, for the RPC: what was done there, and taking it out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::report::{Kind, Report};
use crate::rpc::server::{ExportStream, Exported, WorkspaceRuns};
use crate::task::blocking;
use crate::vm::ports::Guest;
use crate::vm::{InUse, VmService, WorkspaceVm};
use crate::wire::guest::Exec;
use crate::wire::rpc::{
    ExportWhat, MAX_CHANGES, Operation, VmWorkspace, WorkspaceApplied, WorkspaceApply,
    WorkspaceExport, WorkspaceMode, WorkspacePrepare, WorkspaceState,
};
use crate::workspace::{Against, Comparison, Kept, Limit, Seeing, WorkspaceError, Workspaces};

mod anew;
mod apply;
mod arrived;
mod commits;
mod looks;
mod prepare;
mod program;
mod settings;

pub(super) use looks::Looks;

/// A number, from a git that reads the history.
const COUNT: program::Bounds = program::Bounds { bytes: 1024, deadline: Duration::from_secs(30) };

/// How long the guest's git may take for a bundle.
const BUNDLE: Duration = Duration::from_secs(600);

/// The exports and prepares of one daemon. Clones are the same.
#[derive(Clone)]
pub(super) struct Exports {
    workspaces: Arc<Workspaces>,
    vms: VmService,
    looks: Arc<Looks>,
}

impl Exports {
    pub(super) fn new(workspaces: Arc<Workspaces>, vms: VmService, looks: Arc<Looks>) -> Self {
        Self { workspaces, vms, looks }
    }
}

/// A workspace that nobody else looks at meanwhile.
struct Opened {
    vm: WorkspaceVm,
    kept: Kept,
    _in_use: InUse,
}

impl Exports {
    async fn open(&self, wanted: &str) -> Result<Opened, Report> {
        let found = self.vms.workspace(wanted).await?;
        let _in_use = found.usage.begin();
        let alone = self.looks.alone(&found.id).await;
        // While others were waited for, another repository may have taken its place.
        let vm = self.vms.workspace(found.id.as_str()).await?;
        let kept = Kept::at(vm.kept.clone()).while_alone(alone);
        Ok(Opened { vm, kept, _in_use })
    }
}

#[async_trait]
impl WorkspaceRuns for Exports {
    async fn prepare(&self, wanted: WorkspacePrepare) -> Result<Operation, Report> {
        self.begin_prepare(wanted).await
    }

    async fn export(&self, wanted: WorkspaceExport) -> Result<Exported, Report> {
        let Opened { vm, kept, .. } = &self.open(&wanted.vm).await?;
        let seeing = seen(vm, kept).await?;
        let against = match &wanted.base {
            Some(commit) => {
                Against::Commit { source: Path::new(&vm.workspace.source_path), commit }
            }
            None => Against::Base,
        };
        let folder = self.workspaces.scratch_folder().await.map_err(report)?;
        let file = folder.path().join("export");
        let comparison = Comparison::of(kept, against, &seeing.tree).await.map_err(report)?;
        let file = match wanted.what {
            ExportWhat::Patch => comparison.patch(&file).await.map(|()| file).map_err(report)?,
            ExportWhat::Names => comparison.names(&file).await.map(|()| file).map_err(report)?,
            ExportWhat::Bundle => bundle(&self.workspaces, vm, kept, folder.path()).await?,
        };
        // It is read after the folder is gone.
        let open = move || {
            let made = std::fs::File::open(&file)?;
            let bytes = made.metadata()?.len();
            Ok((made, bytes))
        };
        let (file, bytes) = blocking(open).await.map_err(|error: std::io::Error| {
            Report::new(Kind::Failed, "cannot read the export that was made").with_cause(&error)
        })?;
        let notes = all_notes(vm, kept, &seeing).await;
        let counts = wanted.what == ExportWhat::Patch && is_all(&seeing, &comparison);
        // Nobody waits for the workspace until it was read.
        let (kept, tree) = (Kept::at(vm.kept.clone()), seeing.tree.clone());
        let taken = async move {
            match counts {
                true => kept.exported(&tree).await.map_err(report),
                false => Ok(()),
            }
        };
        let stream = ExportStream { file, bytes, taken: Box::pin(taken) };
        Ok(Exported { stream, tree: seeing.tree, notes })
    }

    async fn apply(&self, wanted: WorkspaceApply) -> Result<WorkspaceApplied, Report> {
        apply::run(self, wanted).await
    }

    async fn state(&self, wanted: &str) -> Result<WorkspaceState, Report> {
        let Opened { vm, kept, .. } = &self.open(wanted).await?;
        let seeing = seen(vm, kept).await?;
        let comparison = Comparison::of(kept, Against::Base, &seeing.tree).await;
        let mut changes = comparison.map_err(report)?.changes().await.map_err(report)?;
        let changes_total = changes.len() as u64;
        changes.truncate(MAX_CHANGES);
        let safe = kept.is_safe(&seeing.tree).await.map_err(report)?;
        let unexported = !safe || seeing.beside().is_some();
        let base_commit = vm.workspace.base_commit.as_deref();
        let source = Path::new(&vm.workspace.source_path);
        let (commits_ahead, moved) = tokio::join!(
            commits_ahead(vm, base_commit),
            self.workspaces.has_moved(source, base_commit),
        );
        let mut notes = all_notes(vm, kept, &seeing).await;
        if let Err(error) = &moved {
            let why = Report::of(error).one_line();
            notes.push(format!("the source repository cannot be looked at: {why}"));
        }
        Ok(WorkspaceState {
            workspace: vm.workspace.clone(),
            unexported,
            changes,
            changes_total,
            commits_ahead,
            source_moved: moved.ok(),
            notes,
        })
    }
}

/// What is in a VM's workspace: now, or when it stopped.
async fn seen(vm: &WorkspaceVm, kept: &Kept) -> Result<Seeing, Report> {
    let Some(guest) = &vm.guest else {
        let left = kept.left().await.map_err(report)?;
        return left
            .map(Seeing::plain)
            .ok_or_else(|| at_rest(vm, "what it held then is not known"));
    };
    let VmWorkspace { guest_path, mode, .. } = &vm.workspace;
    let seeing = looks::look(&**guest, guest_path, *mode, Limit(vm.disk_bytes), kept).await;
    seeing.map_err(|report| match &report.hint {
        Some(_) => report,
        None => report.with_hint(format!(
            "nothing in the guest was touched; look there with `cove exec {}`, and try again when nothing \
             writes to the workspace",
            vm.name
        )),
    })
}

/// That something cannot be had of a VM that does not run.
fn at_rest(vm: &WorkspaceVm, why: &str) -> Report {
    let name = &vm.name;
    Report::new(Kind::Conflict, format!("the VM `{name}` is not running, and {why}"))
        .with_hint(format!("start it with `cove start {name}`"))
}

/// How many commits the guest's HEAD has beyond the base, as the guest's git says.
async fn commits_ahead(vm: &WorkspaceVm, base: Option<&str>) -> Option<u64> {
    if vm.workspace.mode == WorkspaceMode::Full {
        return None;
    }
    let range = base.map_or_else(|| "HEAD".to_owned(), |base| format!("{base}..HEAD"));
    let mut printed = Vec::new();
    let exec = in_workspace(vm, &["rev-list", "--count", &range, "--"]);
    let ended = program::run(&**vm.guest.as_ref()?, &exec, &mut printed, COUNT).await.ok()?;
    let count = String::from_utf8(printed).ok().filter(|_| ended.is_success())?;
    count.trim().parse().ok()
}

/// Has the guest's git make a bundle of the commits since the base, and looks whether it is a sound one.
async fn bundle(
    workspaces: &Workspaces,
    vm: &WorkspaceVm,
    kept: &Kept,
    folder: &Path,
) -> Result<PathBuf, Report> {
    if vm.workspace.mode == WorkspaceMode::Full {
        let message = format!(
            "there are no commits to make a bundle of: the repository is in `{}` in the mode `full`, without its git",
            vm.name
        );
        return Err(Report::new(Kind::Conflict, message)
            .with_hint("all that was done is in `cove workspace export` without `--bundle`"));
    }
    let guest = vm.guest.as_ref().ok_or_else(|| at_rest(vm, "a bundle is made by its git"))?;
    let without = vm.workspace.base_commit.as_ref().map(|base| format!("^{base}"));
    let mut words = vec!["bundle", "create", "--quiet", "-", "HEAD", "--branches"];
    words.extend(without.as_deref());
    let path = folder.join("bundle");
    let failed = |error: &dyn std::error::Error| {
        Report::new(Kind::Failed, "cannot write the bundle").with_cause(error)
    };
    let mut file = tokio::fs::File::create(&path).await.map_err(|error| failed(&error))?;
    let bounds = program::Bounds { bytes: vm.disk_bytes, deadline: BUNDLE };
    let ended = program::run(&**guest, &in_workspace(vm, &words), &mut file, bounds).await?;
    if !ended.is_success() {
        if is_without_commits(&**guest, &vm.workspace.guest_path, without.as_deref()).await {
            let message = format!("there are no commits in `{}` since its base commit", vm.name);
            return Err(Report::new(Kind::Conflict, message).with_hint(
                "what was not committed is in `cove workspace export` without `--bundle`",
            ));
        }
        let why = std::io::Error::other(ended.complaint);
        return Err(
            Report::new(Kind::Failed, "the guest's git cannot make a bundle").with_cause(&why)
        );
    }
    workspaces.check_bundle(kept, folder, &path).await.map_err(report)?;
    Ok(path)
}

/// Whether the guest's git has no commits in HEAD and its branches but those that are `without`: of nothing it makes no
/// bundle, and says so by words alone.
async fn is_without_commits(guest: &dyn Guest, folder: &str, without: Option<&str>) -> bool {
    let mut words = vec!["git", "rev-list", "--max-count=1", "HEAD", "--branches"];
    words.extend(without);
    let commits = program::ask(guest, folder, &words).await;
    commits.is_ok_and(|commits| commits.is_some_and(|commits| commits.is_empty()))
}

fn in_workspace(vm: &WorkspaceVm, words: &[&str]) -> Exec {
    let git = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"];
    Exec {
        argv: git.iter().chain(words).map(ToString::to_string).collect(),
        env: vec![("GIT_OPTIONAL_LOCKS".to_owned(), "0".to_owned())],
        cwd: Some(vm.workspace.guest_path.clone()),
        tty: None,
    }
}

/// Whether a patch of a comparison has all of the work: where repositories or submodules are left out, not
/// everything is exported.
fn is_all(seeing: &Seeing, comparison: &Comparison<'_>) -> bool {
    seeing.beside().is_none() && comparison.is_whole()
}

/// What the user should know of a workspace, running or not.
async fn all_notes(vm: &WorkspaceVm, kept: &Kept, seeing: &Seeing) -> Vec<String> {
    let mut notes = notes(seeing);
    if let Some(guest) = &vm.guest {
        let folder = &vm.workspace.guest_path;
        notes.extend(commits::notes(&**guest, folder, &vm.name, kept).await);
    }
    notes
}

fn notes(seeing: &Seeing) -> Vec<String> {
    let beside = seeing.beside();
    let note = |what| format!("{what} left out: what is in there is not exported");
    beside.map(note).into_iter().collect()
}

fn report(error: WorkspaceError) -> Report {
    Report::of(&error)
}

#[cfg(all(test, feature = "agent"))]
mod tests;
