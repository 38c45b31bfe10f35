//! `cove workspace prepare`: put a repository into a VM that runs, or bring the one in it up to date.

use std::path::PathBuf;

use crate::report::{Kind, Report};
use crate::wire::rpc::{CreateWorkspace, Vm, VmWorkspacePrepare, WorkspacePrepare};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::operation::{Ended, follow};
use super::super::output::{Format, one_line};
use super::super::progress::{Progress, took};
use super::super::repository::RepositoryArguments;
use super::super::run::existing_folder;
use super::super::signals::Signals;
use super::on_the_way;

/// Arguments of `cove workspace prepare`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// A folder inside the git repository to put in; the one that went in last when not given
    #[arg(value_hint = clap::ValueHint::DirPath)]
    path: Option<PathBuf>,
    #[command(flatten)]
    repository: RepositoryArguments,
    /// Give up the work in the VM that was not exported
    #[arg(long)]
    discard_work: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let path = self.path.as_deref().map(existing_folder).transpose()?;
        let given = path.is_some();
        let wanted = self.repository.of(path.unwrap_or_default())?;
        let CreateWorkspace { path, mode, include_untracked, depth, full_history, branch, from } =
            wanted;
        let wanted = WorkspacePrepare {
            vm: self.vm,
            path: given.then_some(path),
            mode,
            include_untracked,
            depth,
            full_history,
            branch,
            from,
            discard_work: self.discard_work,
            wait: false,
        };
        let mut signals = Signals::listen()?;
        let client = signals.unless_interrupted(connect()).await?;
        let name = wanted.vm.clone();
        let failed = |report| {
            let what = format!("cannot put the repository into `{name}`");
            let hint = format!("`{name}` has what it had, or all of the new: prepare it again");
            on_the_way(report, &what, &hint)
        };
        let operation = client.call::<VmWorkspacePrepare>(wanted).await.map_err(failed)?;
        let progress = Progress::default();
        let mut view = progress.view();
        let followed = follow(&client, operation, &mut view, &mut signals).await;
        let vm = match followed.map_err(failed)? {
            Ended::Done { vm, operation } => {
                let seconds = took(&operation).as_secs_f64();
                view.say(&format!("the repository is in `{}` ({seconds:.1} s)", vm.name));
                vm
            }
            Ended::Failed { report, .. } => return Err(failed(*report).into()),
            Ended::Abandoned { report } => return Err(Failure::Report(report)),
            Ended::Interrupted { too_late: None } => return Err(Failure::Interrupted),
            Ended::Interrupted { too_late: Some(vm) } => {
                let message = format!("the prepare of `{}` was interrupted", vm.name);
                let report = Report::new(Kind::Cancelled, message)
                    .with_hint("it was too late to cancel it: the repository is in it");
                return Err(Failure::Report(Box::new(report)));
            }
        };
        drop(view);
        self.format.print(vm.as_ref(), place)?;
        Ok(0)
    }
}

/// Where the repository is in the VM.
fn place(vm: &Vm) -> String {
    vm.workspace.as_ref().map(|workspace| one_line(&workspace.guest_path)).unwrap_or_default()
}
