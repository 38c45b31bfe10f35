//! What hooks have done and would do, for the RPC.

use std::sync::Arc;

use async_trait::async_trait;

use super::hooks::Hooks;
use crate::hooks::{HookError, HookOutcome, shown_step};
use crate::report::{Kind, Report, escape_control};
use crate::rpc::server::HookRuns;
use crate::vm::VmService;
use crate::vm::plan::{Content, PlannedStep};
use crate::vm::ports::{HookedVm, Intent};
use crate::wire::guest::PlanStep;
use crate::wire::rpc::{
    HookChain, HookPlanQuery, HookPlans, HookPoint, HookRunPage, HookRunQuery, HookStep,
    PlannedWrite, PluginPlan,
};

/// Bytes of text that one step shows.
const TEXT_BYTES: usize = 16 << 10;
/// Bytes that all steps of all plugins have together, before they are escaped: a small part of what an answer may
/// have, because escaping can make six of one.
const ALL_BYTES: usize = 2 << 20;
/// What a step takes of these besides its names and its text: a digest and the words around it.
const STEP_BYTES: usize = 256;

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
                return Err(Report::new(Kind::Invalid, message).with_hint("give one of them"));
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
    let mut room = ALL_BYTES;
    let mut steps = steps.into_iter();
    let mut plans: Vec<PluginPlan> = Vec::new();
    for outcome in &prepared {
        // All of them are taken: those of the next plugin come after them.
        let own: Vec<_> = steps.by_ref().take(outcome.steps.len()).collect();
        let own = own.iter();
        let writes: Vec<_> = own.map_while(|step| write(step, outcome, &mut room)).collect();
        let left_out = (outcome.steps.len() - writes.len()) as u64;
        plans.push(PluginPlan { left_out, ..plan(outcome, writes) });
    }
    let mut first = 0;
    for outcome in configured {
        match plans.iter_mut().find(|plan| plan.plugin == outcome.plugin) {
            Some(plan) => {
                plan.wishes = outcome.asked.shown();
                plan.log.extend(all_said(&outcome));
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
        left_out: 0,
        log: all_said(outcome),
    }
}

/// Everything that a plugin said: its answer, all that it logged, and why it failed.
fn all_said(outcome: &HookOutcome) -> Vec<String> {
    let mut lines = outcome.lines.clone();
    if outcome.log_dropped > 0 {
        lines.push(format!("({} older lines did not fit)", outcome.log_dropped));
    }
    lines.extend(outcome.log.iter().map(|line| line.text.clone()));
    lines.extend(outcome.failure.clone());
    lines
}

/// A step with its content, as far as that is told: what a plugin made is shown, because it is what goes in;
/// files of the host are not, and neither is what a plugin may have made of a private one. None when there is
/// no room for it.
fn write(step: &PlannedStep, outcome: &HookOutcome, room: &mut usize) -> Option<PlannedWrite> {
    let HookStep { action, path, mode, bytes } = shown_step(&step.step);
    let (marker, target) = match &step.step {
        PlanStep::EnsureBlock { marker, .. } => (Some(marker.clone()), None),
        PlanStep::Symlink { target, .. } => (None, Some(target.clone())),
        PlanStep::MakeDirectory { .. } | PlanStep::WriteFile { .. } | PlanStep::Remove { .. } => {
            (None, None)
        }
    };
    let import = outcome.imports.iter().find(|import| import.path == path);
    let from = import.map(|import| import.label.clone());
    let names = [Some(path.as_str()), marker.as_deref(), target.as_deref(), from.as_deref()];
    let names: usize = names.into_iter().flatten().map(str::len).sum();
    *room = room.checked_sub(STEP_BYTES + names)?;
    let (text, withheld) = match &step.content {
        Content::Bytes(bytes) if from.is_none() => {
            told(bytes, outcome.reads.iter().any(|read| read.private), room)
        }
        Content::None | Content::Bytes(_) | Content::HostFile { .. } => (None, None),
    };
    Some(PlannedWrite {
        action,
        path,
        mode,
        bytes,
        // None, too, when the host's file cannot be read any more.
        sha256: step.content.digest().unwrap_or_default(),
        from,
        marker,
        target,
        text,
        withheld: withheld.map(str::to_owned),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::{Asked, LogLevel, LogLine};
    use crate::id::Digest;
    use crate::wire::rpc::HookStep;

    /// A plugin that planned so many steps.
    fn outcome(plugin: &str, steps: usize) -> HookOutcome {
        let step = HookStep { action: String::new(), path: String::new(), mode: None, bytes: None };
        HookOutcome {
            plugin: plugin.parse().expect("an id"),
            version: "1".to_owned(),
            component: Digest::of(b"component"),
            point: HookPoint::PrepareWorkDisk,
            steps: vec![step; steps],
            asked: Asked::default(),
            lines: Vec::new(),
            findings: Vec::new(),
            plan: Digest::of(b"plan"),
            log: Vec::new(),
            log_dropped: 0,
            used: Default::default(),
            reads: Vec::new(),
            imports: Vec::new(),
            refusals: Vec::new(),
            failure: None,
        }
    }

    /// Steps with names as long as they can be.
    fn steps(count: usize, content: &str) -> Vec<PlannedStep> {
        let step = |number: usize| PlannedStep {
            step: PlanStep::WriteFile {
                path: format!("{}/{number}", "p".repeat(4000)),
                mode: 0o644,
                size: content.len() as u64,
            },
            content: Content::Bytes(content.as_bytes().to_vec()),
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn names_and_texts_have_one_room_and_what_has_none_is_counted() {
        for content in ["", "text", &"\u{1}".repeat(TEXT_BYTES)] {
            let mut all = steps(2048, content);
            all.extend(steps(3, content));
            let plans = shown(vec![outcome("one", 2048), outcome("two", 3)], all, Vec::new());
            let [one, two] = &plans[..] else { panic!("{plans:?}") };
            assert_eq!(one.steps.len() as u64 + one.left_out, 2048);
            assert!(one.steps.len() > 50 && one.left_out > 0, "{}", one.steps.len());
            assert_eq!((two.steps.len(), two.left_out), (0, 3), "there is no room any more");
            let answer = serde_json::to_vec(&plans).expect("plain data").len();
            assert!(answer < 32 << 20, "{answer} bytes");
        }
        // A plugin's steps are its own, also after one that could not show all of its.
        let plans = shown(vec![outcome("one", 1), outcome("two", 1)], steps(2, "x"), Vec::new());
        assert!(plans[1].steps[0].path.ends_with("/1"), "{plans:?}");
        assert_eq!((plans[0].left_out, plans[1].left_out), (0, 0));
    }

    #[test]
    fn everything_that_a_plugin_said_is_told() {
        let line = |level, text: &str| LogLine { level, text: text.to_owned() };
        let talkative = HookOutcome {
            lines: vec!["answer".to_owned()],
            log: vec![line(LogLevel::Debug, "quiet"), line(LogLevel::Error, "loud")],
            log_dropped: 7,
            failure: Some("failed".to_owned()),
            ..outcome("one", 0)
        };
        let plans = shown(Vec::new(), Vec::new(), vec![talkative]);
        let expected = ["answer", "(7 older lines did not fit)", "quiet", "loud", "failed"];
        assert_eq!(plans[0].log, expected);
    }
}
