//! What came of hooks, and what it means for a start.

use super::contract::{Answer, Finding};
use super::error::HookError;
use super::failure::Failure;
use super::handles::Remembered;
use super::journal::{Import, Read};
use super::limits;
use super::log::{LogLevel, LogLine, shortened};
use super::merge::Digests;
use super::plugin::Plugin;
use super::run::{Effects, Ended};
use super::state::Used;
use super::wishes::Asked;
use crate::id::{Digest, PluginId};
use crate::vm::plan::{PlannedStep, WorkDiskPlan};
use crate::wire::guest::PlanStep;
use crate::wire::rpc::{HookPoint, HookStep};

/// Lines of the log that a failure carries.
const LAST_LINES: usize = 8;

/// What came of the hooks that prepare a work disk.
#[derive(Debug)]
pub struct HookRun {
    /// The plan of all plugins together.
    pub plan: WorkDiskPlan,
    /// What each plugin did, in the order in which they ran.
    pub hooks: Vec<HookOutcome>,
}

/// What one plugin did at one hook point.
#[derive(Debug)]
pub struct HookOutcome {
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// The digest of its component.
    pub component: Digest,
    /// The hook point.
    pub point: HookPoint,
    /// What it planned for the work disk.
    pub steps: Vec<HookStep>,
    /// What it asked the machine to be.
    pub asked: Asked,
    /// What it said to the user in answer, control characters escaped.
    pub lines: Vec<String>,
    /// What it found for `doctor`.
    pub findings: Vec<Finding>,
    /// The digest of its plan: of steps and wishes.
    pub plan: Digest,
    /// What it logged, oldest first.
    pub log: Vec<LogLine>,
    /// How many lines before these were dropped.
    pub log_dropped: u64,
    /// What it has used.
    pub used: Used,
    /// What it read, in the order in which it did.
    pub reads: Vec<Read>,
    /// Which files of the host it had copied.
    pub imports: Vec<Import>,
    /// What it wanted and was not granted, as it was told.
    pub refusals: Vec<String>,
    /// Why it did not run or failed, where that is no reason to stop.
    pub failure: Option<String>,
}

impl HookOutcome {
    /// The lines that are for the user: its answer, warnings and errors, and the failure of an optional
    /// plugin.
    #[must_use]
    pub fn for_user(&self) -> Vec<String> {
        let lines = self.log.iter().filter(|line| line.level >= LogLevel::Warning);
        let lines = lines.map(|line| line.text.clone());
        self.lines.iter().cloned().chain(lines).chain(self.failure.clone()).collect()
    }

    /// What it wanted does not happen after all.
    pub(super) fn lose(&mut self, why: String) {
        self.steps.clear();
        self.asked = Asked::default();
        self.plan = Digests::of_nothing().plan;
        self.failure = Some(why);
    }
}

/// What an outcome is worth: whether a failure is a reason to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is.
    Required,
    /// It is told and no more.
    Optional,
}

/// The outcome of a plugin that cannot run, where that is no reason to stop.
pub(super) fn left_out(plugin: &Plugin, point: HookPoint, error: &HookError) -> HookOutcome {
    HookOutcome { failure: Some(error.to_string()), ..nothing_done(plugin, point) }
}

fn nothing_done(plugin: &Plugin, point: HookPoint) -> HookOutcome {
    HookOutcome {
        plugin: plugin.found.id(),
        version: plugin.version(),
        component: plugin.component(),
        point,
        steps: Vec::new(),
        asked: Asked::default(),
        lines: Vec::new(),
        findings: Vec::new(),
        plan: Digests::of_nothing().plan,
        log: Vec::new(),
        log_dropped: 0,
        used: Used::default(),
        reads: Vec::new(),
        imports: Vec::new(),
        refusals: Vec::new(),
        failure: None,
    }
}

/// What one plugin wants to happen.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) steps: Vec<PlannedStep>,
    pub(super) asked: Asked,
    /// What it wants to remember; none when it failed.
    pub(super) remembered: Option<Remembered>,
}

/// What a run means.
pub(super) fn judge(
    plugin: &Plugin,
    (point, weight): (HookPoint, Weight),
    ended: Ended,
    advice: Option<String>,
) -> Result<(HookOutcome, Wanted), HookError> {
    let Ended { result, log, dropped, used, journal } = ended;
    let failed = |failure: Failure, log: &[LogLine]| HookError::Failed {
        advice: advice.as_deref().map(Box::from),
        plugin: plugin.found.id(),
        point,
        failure,
        log: log
            .iter()
            .skip(log.len().saturating_sub(LAST_LINES))
            .map(|line| line.text.clone())
            .collect(),
    };
    let (wanted, answer, digests, failure) = match result {
        Ok(Effects { steps, asked, answer, remembered, digests }) => {
            (Wanted { steps, asked, remembered: Some(remembered) }, answer, digests, None)
        }
        Err(failure) if weight == Weight::Optional => {
            let failed = failed(failure, &log).to_string();
            let failed = match &advice {
                Some(advice) => format!("{failed}: {advice}"),
                None => failed,
            };
            (Wanted::default(), Answer::Nothing, Digests::of_nothing(), Some(failed))
        }
        Err(failure) => return Err(failed(failure, &log)),
    };
    let (lines, findings) = match answer {
        Answer::Nothing => (Vec::new(), Vec::new()),
        Answer::Lines(lines) => (said(&lines), Vec::new()),
        Answer::Findings(findings) => (Vec::new(), found(findings)),
    };
    let outcome = HookOutcome {
        steps: wanted.steps.iter().map(|step| shown_step(&step.step)).collect(),
        asked: wanted.asked.clone(),
        lines,
        findings,
        plan: digests.plan,
        log,
        log_dropped: dropped,
        used,
        reads: journal.reads,
        imports: journal.imports,
        refusals: journal.refusals,
        failure,
        ..nothing_done(plugin, point)
    };
    Ok((outcome, wanted))
}

fn said(lines: &[String]) -> Vec<String> {
    let lines = lines.iter().take(limits::ANSWERS);
    lines.map(|line| shortened(line, limits::LOG_LINE_BYTES)).collect()
}

fn found(findings: Vec<Finding>) -> Vec<Finding> {
    let findings = findings.into_iter().take(limits::ANSWERS);
    let short = |text: &str| shortened(text, limits::LOG_LINE_BYTES);
    let shown = findings.map(|Finding { verdict, found, advice }| Finding {
        verdict,
        found: short(&found),
        advice: advice.as_deref().map(short),
    });
    shown.collect()
}

/// A step for people.
#[must_use]
pub fn shown_step(step: &PlanStep) -> HookStep {
    let (action, mode) = match step {
        PlanStep::MakeDirectory { mode, .. } => ("make-directory", Some(*mode)),
        PlanStep::WriteFile { mode, .. } => ("write-file", Some(*mode)),
        PlanStep::EnsureBlock { mode, .. } => ("ensure-block", Some(*mode)),
        PlanStep::Symlink { .. } => ("symlink", None),
        PlanStep::Remove { .. } => ("remove", None),
    };
    HookStep {
        action: action.to_owned(),
        path: step.path().to_owned(),
        mode,
        bytes: step.content_size(),
    }
}
