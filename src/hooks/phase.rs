//! One hook point: the plugins that are there in order, each run, what came of it, and the record of it.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::audit::{About, Imports, run as recorded, turned_away};
use super::catalog::{order, weight};
use super::error::HookError;
use super::failure::Failure;
use super::guest::GuestPrograms;
use super::handles::{Remembered, Settings};
use super::host::{HookHost, forgetful};
use super::inputs::{HookInputs, Purpose};
use super::limits;
use super::merge::settle;
use super::needs::Rights;
use super::order::Order;
use super::outcome::{HookOutcome, Wanted, Weight, judge, left_out};
use super::plugin::{Plugin, Readiness};
use super::run::{Ended, Run, View};
use super::series::Series;
use super::state::Chance;
use crate::id::PluginId;
use crate::report::Explain;
use crate::task::blocking;
use crate::wire::rpc::{HookEntry, HookPoint};

/// One hook that is to run.
struct Turn {
    plugin: Arc<Plugin>,
    weight: Weight,
    before: Remembered,
    run: Run,
}

/// What came of all hooks of a point.
pub(super) struct Phase {
    pub(super) order: Order,
    pub(super) hooks: Vec<HookOutcome>,
    pub(super) parts: Vec<Part>,
    /// Those that ended well, with the numbers of their records.
    pub(super) runs: Vec<(PluginId, u64)>,
}

/// What came of one hook, and what is written down of it.
struct Taken {
    entry: HookEntry,
    imports: Imports,
    result: Result<(Part, HookOutcome), HookError>,
}

/// What one plugin wants, with what it remembered before.
pub(super) struct Part {
    pub(super) plugin: Arc<Plugin>,
    pub(super) weight: Weight,
    pub(super) before: Remembered,
    pub(super) wanted: Wanted,
}

/// Whether what the plugins want at a point becomes one plan or one set of wishes.
fn is_put_together(point: HookPoint) -> bool {
    match point {
        HookPoint::ConfigureMachine | HookPoint::PrepareWorkDisk => true,
        HookPoint::Preflight
        | HookPoint::PostStart
        | HookPoint::PreStop
        | HookPoint::Cleanup
        | HookPoint::Doctor => false,
    }
}

impl HookHost {
    /// Runs all hooks of a point, and writes down how they ended.
    pub(super) async fn phase(
        &self,
        point: HookPoint,
        inputs: &HookInputs,
        guest: Option<Arc<dyn GuestPrograms>>,
    ) -> Result<Phase, HookError> {
        let plugins = self.catalog.refresh().await?;
        let order = order(&plugins, point)?;
        let mut phase = Phase { order, hooks: Vec::new(), parts: Vec::new(), runs: Vec::new() };
        let mut away = Vec::new();
        let mut turns = Vec::new();
        for plugin in plugins.iter().filter(|plugin| plugin.concerns(point)) {
            let turn = match self.catalog.cannot_run(plugin) {
                Some(error) => Err(error),
                None => self.turn(plugin, point, inputs, guest.clone()).await,
            };
            let error = match turn {
                Ok(turn) => {
                    turns.push(turn);
                    continue;
                }
                Err(error) => error,
            };
            away.push(turned_away(self.about(plugin, point, inputs)));
            if weight(plugin, point) == Weight::Required {
                self.audit.write_down(point, away).await?;
                return Err(error);
            }
            phase.hooks.push(left_out(plugin, point, &error));
        }
        turns.sort_by_key(|turn| phase.order.place(&turn.plugin.found.id()));
        let taken = self.take_turns(point, inputs, (turns, away)).await?;
        let mut failed = None;
        for (number, result) in taken {
            match result {
                Ok((part, outcome)) => {
                    if outcome.failure.is_none() {
                        phase.runs.push((outcome.plugin.clone(), number));
                    }
                    phase.hooks.push(outcome);
                    phase.parts.push(part);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => {
                self.note_well(point, inputs.purpose, &phase.parts).await;
                self.or_dropped(point, &phase.runs, Err(error)).await
            }
            None => Ok(phase),
        }
    }

    /// Leaves out what optional plugins want against others: their hooks have failed then, as if they had
    /// returned an error.
    ///
    /// # Errors
    /// When required plugins are in each other's way.
    pub(super) async fn settle(
        &self,
        point: HookPoint,
        purpose: Purpose,
        phase: &mut Phase,
    ) -> Result<(), HookError> {
        let settled = settle(&mut phase.parts, &phase.order);
        self.note_well(point, purpose, &phase.parts).await;
        for (part, reason) in self.or_dropped(point, &phase.runs, settled).await? {
            let id = part.plugin.found.id();
            let hint = reason.hint().map(|hint| format!(": {hint}")).unwrap_or_default();
            let why = format!("`{id}`, which is optional, was left out: {reason}{hint}");
            let (gone, kept) =
                std::mem::take(&mut phase.runs).into_iter().partition(|run| run.0 == id);
            phase.runs = kept;
            self.write_dropped(point, &gone).await?;
            if purpose == Purpose::Act {
                let (code, message) = ("conflict".to_owned(), why.clone());
                let ended = Ended::without_a_word(Failure::Returned { code, message });
                self.note(&part.plugin, point, part.weight, &ended).await;
            }
            let outcome = phase.hooks.iter_mut().find(|outcome| outcome.plugin == id);
            outcome.into_iter().for_each(|outcome| outcome.lose(why.clone()));
        }
        Ok(())
    }

    /// Notes that hooks ended well whose wishes and steps still had to go together with those of others.
    async fn note_well(&self, point: HookPoint, purpose: Purpose, parts: &[Part]) {
        if purpose == Purpose::Look || !is_put_together(point) {
            return;
        }
        for part in parts.iter().filter(|part| part.wanted.remembered.is_some()) {
            self.note(&part.plugin, point, part.weight, &Ended::well()).await;
        }
    }

    /// Writes down that what these runs wanted was dropped, where it was.
    pub(super) async fn or_dropped<T>(
        &self,
        point: HookPoint,
        runs: &[(PluginId, u64)],
        result: Result<T, HookError>,
    ) -> Result<T, HookError> {
        if result.is_err() {
            self.write_dropped(point, runs).await?;
        }
        result
    }

    async fn write_dropped(
        &self,
        point: HookPoint,
        runs: &[(PluginId, u64)],
    ) -> Result<(), HookError> {
        if runs.is_empty() {
            return Ok(());
        }
        let entry = HookEntry::Dropped { runs: runs.iter().map(|(_, number)| *number).collect() };
        self.audit.write_down(point, vec![entry]).await.map(drop)
    }

    /// Runs hooks at the same time where they change nothing, and one after the other elsewhere, up to the
    /// first that fails and must not. They are written down when all have ended, because nothing has come of
    /// them yet; those that act in a guest are written down one by one.
    async fn take_turns(
        &self,
        point: HookPoint,
        inputs: &HookInputs,
        (turns, mut entries): (Vec<Turn>, Vec<HookEntry>),
    ) -> Result<Vec<(u64, Result<(Part, HookOutcome), HookError>)>, HookError> {
        let deadline = Instant::now() + limits::phase(point);
        let mut taken = Vec::new();
        let mut recorded = Vec::new();
        match point {
            HookPoint::Preflight | HookPoint::Doctor => {
                let turns = turns.into_iter();
                taken =
                    join_all(turns.map(|turn| self.take_turn(point, inputs, turn, deadline))).await;
            }
            HookPoint::ConfigureMachine
            | HookPoint::PrepareWorkDisk
            | HookPoint::PreStop
            | HookPoint::Cleanup => taken = self.in_order(point, inputs, turns, deadline).await,
            HookPoint::PostStart => {
                for turn in turns {
                    let turn = self.take_turn(point, inputs, turn, deadline).await;
                    let failed = turn.result.is_err();
                    let before = std::mem::take(&mut entries);
                    recorded
                        .extend(self.record(point, inputs.purpose, (vec![turn], before)).await?);
                    if failed {
                        break;
                    }
                }
            }
        }
        recorded.extend(self.record(point, inputs.purpose, (taken, entries)).await?);
        Ok(recorded)
    }

    /// Writes down what hooks did, after other entries, and returns the numbers of their records.
    async fn record(
        &self,
        point: HookPoint,
        purpose: Purpose,
        (taken, mut entries): (Vec<Taken>, Vec<HookEntry>),
    ) -> Result<Vec<(u64, Result<(Part, HookOutcome), HookError>)>, HookError> {
        let others = entries.len() as u64;
        let mut results = Vec::new();
        for Taken { entry, imports, result } in taken {
            entries.push(entry);
            results.push((imports, result));
        }
        let first = self.audit.write_down(point, entries).await? + others;
        let numbered = (first..).zip(results).map(|(number, (imports, result))| {
            if purpose == Purpose::Act {
                self.audit.digest_later(number, imports);
            }
            (number, result)
        });
        Ok(numbered.collect())
    }

    /// Runs hooks one after the other, up to the first that fails and must not.
    async fn in_order(
        &self,
        point: HookPoint,
        inputs: &HookInputs,
        turns: Vec<Turn>,
        deadline: Instant,
    ) -> Vec<Taken> {
        if turns.is_empty() {
            return Vec::new();
        }
        let (mut places, mut runs) = (Vec::new(), Vec::new());
        for Turn { plugin, weight, before, run } in turns {
            places.push((plugin, weight, before));
            runs.push((weight, run));
        }
        let turns = Arc::clone(&self.turns);
        let ended = Series { point, deadline, turns }.run(runs).await;
        let mut taken = Vec::new();
        for (place, ended) in places.into_iter().zip(ended) {
            taken.push(self.taken(point, inputs, place, ended).await);
        }
        taken
    }

    async fn take_turn(
        &self,
        point: HookPoint,
        inputs: &HookInputs,
        turn: Turn,
        deadline: Instant,
    ) -> Taken {
        let Turn { plugin, weight, before, mut run } = turn;
        let turns = match point {
            HookPoint::PostStart => &self.turns_in_guests,
            HookPoint::Preflight
            | HookPoint::ConfigureMachine
            | HookPoint::PrepareWorkDisk
            | HookPoint::PreStop
            | HookPoint::Cleanup
            | HookPoint::Doctor => &self.turns,
        };
        let waited = tokio::time::timeout_at(deadline, Arc::clone(turns).acquire_owned()).await;
        let left = deadline.saturating_duration_since(Instant::now());
        run.wall = run.wall.min(left);
        let ended = match waited {
            Ok(Ok(place)) if !left.is_zero() => run.go_holding(place).await,
            Ok(_) | Err(_) => Ended::without_a_word(Failure::Phase(limits::phase(point))),
        };
        self.taken(point, inputs, (plugin, weight, before), ended).await
    }

    /// What a run comes to.
    async fn taken(
        &self,
        point: HookPoint,
        inputs: &HookInputs,
        (plugin, weight, before): (Arc<Plugin>, Weight, Remembered),
        ended: Ended,
    ) -> Taken {
        // Whether one that ended well has done so is known when all have been put together.
        if inputs.purpose == Purpose::Act && (ended.result.is_err() || !is_put_together(point)) {
            self.note(&plugin, point, weight, &ended).await;
        }
        let advice = self.catalog.advice(&plugin, &ended.journal.wanted);
        let entry = recorded(self.about(&plugin, point, inputs), &ended);
        let imports = ended.result.as_ref().map(|effects| Imports::of(&effects.steps));
        let imports = imports.unwrap_or_default();
        let result = judge(&plugin, (point, weight), ended, advice)
            .map(|(outcome, wanted)| (Part { plugin, weight, before, wanted }, outcome));
        Taken { entry, imports, result }
    }

    /// What a record about a plugin begins with.
    fn about<'a>(&self, plugin: &'a Plugin, point: HookPoint, inputs: &'a HookInputs) -> About<'a> {
        About { point, plugin, grant: plugin.standing.name(), inputs }
    }

    /// Puts together what a run needs.
    async fn turn(
        &self,
        plugin: &Arc<Plugin>,
        point: HookPoint,
        inputs: &HookInputs,
        guest: Option<Arc<dyn GuestPrograms>>,
    ) -> Result<Turn, HookError> {
        let (Readiness::Ready(loaded), Some(manifest), Some(digest)) =
            (&plugin.state, &plugin.manifest, &plugin.digest)
        else {
            unreachable!("only plugins that can run get here");
        };
        let table = inputs.settings.get(&manifest.id).cloned().unwrap_or_default();
        let ceiling = &self.catalog.settings.ceiling;
        let rights = Rights::new(&manifest.needs, plugin.granted(), ceiling, &table);
        let value = |key: &String| (key.clone(), inputs.git.0.get(key).cloned());
        let git = rights.git_keys().iter().map(value).collect();
        let settings = Settings::new(manifest.settings.clone(), table)
            .map_err(|reason| HookError::Settings { plugin: manifest.id.clone(), reason })?;
        let mut sources = inputs.host_files.clone();
        sources.extend(plugin.standing.host_files());
        let before = match rights.may_remember() {
            true => {
                let (memory, id) = (Arc::clone(&self.memory), manifest.id.clone());
                let loaded = blocking(move || memory.load(&id)).await;
                loaded.map_err(|source| forgetful(&manifest.id, source))?
            }
            false => Remembered::new(),
        };
        let vm = inputs.machine.as_ref().map(|machine| machine.id.as_str());
        let run = Run {
            loaded: Arc::clone(loaded),
            point,
            limits: manifest.limits,
            wall: manifest.hooks[&point].wall,
            rights: Arc::new(rights),
            view: View {
                machine: inputs.machine.clone(),
                home: inputs.home.clone(),
                sources,
                git,
                settings,
                remembered: before.clone(),
            },
            guest,
            chance: Chance::of(vm.unwrap_or_default(), digest),
        };
        Ok(Turn { plugin: Arc::clone(plugin), weight: weight(plugin, point), before, run })
    }
}
