//! What came of hooks, and what it means for a start.

use std::time::Duration;

use super::error::{Failure, HookError};
use super::log::{LogLevel, LogLine};
use super::manifest::{Manifest, OnFailure};
use super::merge::digest;
use super::plugin::Plugin;
use super::run::Ended;
use crate::id::{Digest, PluginId};
use crate::vm::plan::{PlannedStep, WorkDiskPlan};
use crate::wire::guest::PlanStep;
use crate::wire::rpc::HookStep;

/// Lines of the log that a failure carries.
const LAST_LINES: usize = 8;

/// What came of the hooks of one start.
#[derive(Debug)]
pub struct HookRun {
    /// The plan of all plugins together.
    pub plan: WorkDiskPlan,
    /// What each plugin did, in the order in which they ran.
    pub hooks: Vec<HookOutcome>,
}

/// What one plugin did.
#[derive(Debug)]
pub struct HookOutcome {
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// The digest of its component.
    pub component: Digest,
    /// What it planned.
    pub steps: Vec<HookStep>,
    /// The digest of its plan.
    pub plan: Digest,
    /// What it logged, oldest first.
    pub log: Vec<LogLine>,
    /// How many lines before these were dropped.
    pub log_dropped: u64,
    /// How often it called the host.
    pub host_calls: u64,
    /// How long it took.
    pub wall: Duration,
    /// Why it did not run or failed, where its manifest says that this is no reason to stop.
    pub failure: Option<String>,
}

impl HookOutcome {
    /// The lines that are for the user: warnings and errors, and the failure of an optional plugin.
    #[must_use]
    pub fn for_user(&self) -> Vec<String> {
        let lines = self.log.iter().filter(|line| line.level >= LogLevel::Warning);
        let lines = lines.map(|line| line.text.clone());
        lines.chain(self.failure.clone()).collect()
    }
}

/// The outcome of an optional plugin that cannot run.
pub(super) fn left_out(plugin: &Plugin, error: &HookError) -> HookOutcome {
    HookOutcome { failure: Some(error.to_string()), ..nothing_done(plugin) }
}

fn nothing_done(plugin: &Plugin) -> HookOutcome {
    HookOutcome {
        plugin: plugin.found.id(),
        version: plugin.manifest.as_ref().map_or("?".into(), |manifest| manifest.version.clone()),
        component: plugin.digest.clone().unwrap_or_else(|| Digest::of(&[])),
        steps: Vec::new(),
        plan: digest(&[]),
        log: Vec::new(),
        log_dropped: 0,
        host_calls: 0,
        wall: Duration::ZERO,
        failure: None,
    }
}

/// What a run means for the start.
pub(super) fn judge(
    plugin: &Plugin,
    manifest: &Manifest,
    ended: Ended,
) -> Result<(HookOutcome, Vec<PlannedStep>), HookError> {
    let Ended { result, log, dropped, host_calls, wall } = ended;
    let failed = |failure: Failure, log: &[LogLine]| HookError::Failed {
        plugin: manifest.id.clone(),
        failure,
        log: log
            .iter()
            .skip(log.len().saturating_sub(LAST_LINES))
            .map(|line| line.text.clone())
            .collect(),
    };
    let (steps, failure) = match result {
        Ok(steps) => (steps, None),
        Err(failure) if manifest.on_failure == OnFailure::Optional => {
            (Vec::new(), Some(failed(failure, &log).to_string()))
        }
        Err(failure) => return Err(failed(failure, &log)),
    };
    let outcome = HookOutcome {
        steps: steps.iter().map(|step| shown_step(&step.step)).collect(),
        plan: digest(&steps),
        log,
        log_dropped: dropped,
        host_calls,
        wall,
        failure,
        ..nothing_done(plugin)
    };
    Ok((outcome, steps))
}

fn shown_step(step: &PlanStep) -> HookStep {
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
