//! What hooks have done and would do, for the RPC.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::hooks::Hooks;
use crate::hooks::{HookError, HookOutcome};
use crate::id::{Digest, hex};
use crate::report::{Kind, Report, escape_control};
use crate::rpc::server::HookRuns;
use crate::vm::VmService;
use crate::vm::plan::{Content, PlannedStep};
use crate::vm::ports::{HookedVm, Intent};
use crate::wire::guest::PlanStep;
use crate::wire::rpc::{
    HookChain, HookPlanQuery, HookPlans, HookPoint, HookRunPage, HookRunQuery, PlannedWrite,
    PluginPlan,
};

/// Bytes of text that one step shows.
const TEXT_BYTES: usize = 16 << 10;
/// Bytes of text that all steps of all plugins show together.
const ALL_TEXT_BYTES: usize = 512 << 10;

/// The runs of one daemon's hooks.
pub(super) struct Runs {
    pub(super) hooks: Arc<Hooks>,
    pub(super) vms: VmService,
}

#[async_trait]
impl HookRuns for Runs {
    async fn plan(&self, wanted: HookPlanQuery) -> Result<HookPlans, Report> {
        let vm: HookedVm = match (&wanted.vm, &wanted.create) {
            (Some(vm), None) => self.vms.hooked(vm)?,
            (None, Some(create)) => self.vms.would_be(create).await?,
            (Some(_), Some(_)) | (None, None) => {
                let message = "one of `vm` and `create` is wanted";
                return Err(Report::new(Kind::Invalid, message));
            }
        };
        let client = &wanted.client;
        let inputs = async |point| self.hooks.inputs(point, Some(&vm), client, Intent::Look).await;
        let host = &self.hooks.host;
        let (_, configured) = host
            .configure_machine(&inputs(HookPoint::ConfigureMachine).await?)
            .await
            .map_err(report)?;
        let prepared = host
            .prepare_work_disk(&inputs(HookPoint::PrepareWorkDisk).await?)
            .await
            .map_err(report)?;
        let shown = move || shown(prepared.hooks, prepared.plan.steps, configured);
        let shown = tokio::task::spawn_blocking(shown).await;
        let plugins = shown.map_err(|error| {
            Report::new(Kind::Failed, "the plans cannot be shown").with_cause(&error)
        })?;
        Ok(HookPlans { name: vm.name, plugins })
    }

    async fn page(&self, query: HookRunQuery) -> Result<HookRunPage, Report> {
        self.hooks.host.runs(query).await.map_err(report)
    }

    async fn verify(&self) -> Result<HookChain, Report> {
        self.hooks.host.verify_runs().await.map_err(report)
    }
}

fn report(error: HookError) -> Report {
    Report::of(&error)
}

/// Each plugin with what it would do: those that prepare the work disk, in order, and before them those that
/// only ask the machine to be something.
fn shown(
    prepared: Vec<HookOutcome>,
    steps: Vec<PlannedStep>,
    configured: Vec<HookOutcome>,
) -> Vec<PluginPlan> {
    let mut room = ALL_TEXT_BYTES;
    let mut steps = steps.into_iter();
    let mut plans: Vec<PluginPlan> = Vec::new();
    for outcome in &prepared {
        let own = steps.by_ref().take(outcome.steps.len());
        let writes = own.map(|step| write(&step, outcome, &mut room)).collect();
        plans.push(plan(outcome, writes));
    }
    let mut first = 0;
    for outcome in configured {
        match plans.iter_mut().find(|plan| plan.plugin == outcome.plugin) {
            Some(plan) => {
                plan.wishes = outcome.asked.shown();
                plan.log.extend(outcome.for_user());
            }
            None => {
                plans.insert(first, plan(&outcome, Vec::new()));
                first += 1;
            }
        }
    }
    plans
}

fn plan(outcome: &HookOutcome, steps: Vec<PlannedWrite>) -> PluginPlan {
    PluginPlan {
        plugin: outcome.plugin.clone(),
        version: outcome.version.clone(),
        component: outcome.component.clone(),
        plan: outcome.plan.clone(),
        steps,
        wishes: outcome.asked.shown(),
        log: outcome.for_user(),
    }
}

/// A step with its content, as far as that is told: what a plugin made is shown, because it is what goes in;
/// files of the host are not, and neither is what a plugin may have made of a private one.
fn write(step: &PlannedStep, outcome: &HookOutcome, room: &mut usize) -> PlannedWrite {
    let path = step.step.path();
    let (action, marker, target) = match &step.step {
        PlanStep::MakeDirectory { .. } => ("make-directory", None, None),
        PlanStep::WriteFile { .. } => ("write-file", None, None),
        PlanStep::EnsureBlock { marker, .. } => ("ensure-block", Some(marker.clone()), None),
        PlanStep::Symlink { target, .. } => ("symlink", None, Some(target.clone())),
        PlanStep::Remove { .. } => ("remove", None, None),
    };
    let mode = match &step.step {
        PlanStep::MakeDirectory { mode, .. }
        | PlanStep::WriteFile { mode, .. }
        | PlanStep::EnsureBlock { mode, .. } => Some(*mode),
        PlanStep::Symlink { .. } | PlanStep::Remove { .. } => None,
    };
    let import = outcome.imports.iter().find(|import| import.path == path);
    let from = import.map(|import| import.label.clone());
    let (text, withheld) = match &step.content {
        Content::Bytes(bytes) if from.is_none() => {
            told(bytes, outcome.reads.iter().any(|read| read.private), room)
        }
        Content::None | Content::Bytes(_) | Content::HostFile { .. } => (None, None),
    };
    PlannedWrite {
        action: action.to_owned(),
        path: path.to_owned(),
        mode,
        bytes: step.step.content_size(),
        sha256: digest(&step.content),
        from,
        marker,
        target,
        text,
        withheld: withheld.map(str::to_owned),
    }
}

/// The text of some content, and why it is not all of it.
fn told(bytes: &[u8], private: bool, room: &mut usize) -> (Option<String>, Option<&'static str>) {
    if private && !bytes.is_empty() {
        return (None, Some("private"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return (None, Some("binary"));
    };
    let mut end = text.len().min(TEXT_BYTES).min(*room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    *room -= end;
    let withheld = (end < text.len()).then_some("long");
    (Some(escape_control(&text[..end])), withheld)
}

/// The digest of some content; none where there is no content, or it cannot be read any more.
fn digest(content: &Content) -> Option<Digest> {
    if matches!(content, Content::None) {
        return None;
    }
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    let mut offset = 0;
    loop {
        match content.read_at(offset, &mut piece).ok()? {
            0 => return hex(&hash.finalize()).parse().ok(),
            read => {
                hash.update(&piece[..read]);
                offset += read as u64;
            }
        }
    }
}
