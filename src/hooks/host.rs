//! The host as the rest of the daemon sees it: hook points in, outcomes out.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::catalog::{Catalog, order, weight};
use super::contract::{Contract, KNOWN};
use super::engine::Machine;
use super::error::{Failure, HookError};
use super::guest::GuestPrograms;
use super::handles::{Remembered, Settings};
use super::inputs::{HookInputs, HookSettings, Purpose};
use super::limits;
use super::memory::Memory;
use super::merge::{merge, merge_wishes};
use super::needs::Rights;
use super::order::Order;
use super::outcome::{HookOutcome, HookRun, Wanted, Weight, judge, left_out};
use super::plugin::{Plugin, Readiness};
use super::run::{Ended, Run, View};
use super::state::Chance;
use super::wishes::Asked;
use crate::id::PluginId;
use crate::wire::rpc::{Hook, HookPoint};

/// Runs hooks. One per daemon.
pub struct HookHost {
    catalog: Catalog,
    memory: Memory,
    turns: Semaphore,
    turns_in_guests: Semaphore,
}

impl std::fmt::Debug for HookHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.catalog.settings;
        f.debug_struct("HookHost").field("settings", settings).finish_non_exhaustive()
    }
}

/// One hook that is to run.
struct Turn {
    plugin: Arc<Plugin>,
    weight: Weight,
    before: Remembered,
    run: Run,
}

/// What came of all hooks of a point.
struct Phase {
    order: Order,
    hooks: Vec<HookOutcome>,
    parts: Vec<Part>,
}

/// What one plugin wants, with what it remembered before.
struct Part {
    plugin: PluginId,
    before: Remembered,
    wanted: Wanted,
}

impl HookHost {
    /// Sets up the engine and loads the plugins. Broken plugins are no error here: see [`Self::list`].
    /// A plugin that is seen for the first time is compiled, which takes up to some seconds.
    ///
    /// # Errors
    /// When the engine cannot be set up or a folder of plugins cannot be read.
    pub async fn open(settings: HookSettings) -> Result<Self, HookError> {
        Self::open_for(settings, KNOWN).await
    }

    /// The same for these versions of the contract.
    pub(super) async fn open_for(
        settings: HookSettings,
        contracts: &'static [&'static dyn Contract],
    ) -> Result<Self, HookError> {
        let machine = tokio::task::spawn_blocking(move || Machine::new(contracts)).await;
        let machine = machine.map_err(|error| HookError::Engine(Box::new(error)))??;
        let memory = Memory::new(settings.state_folder.clone());
        let catalog = Catalog::new(machine, settings);
        catalog.refresh().await?;
        Ok(Self {
            catalog,
            memory,
            turns: Semaphore::new(limits::CONCURRENT as usize),
            turns_in_guests: Semaphore::new(limits::CONCURRENT_IN_GUESTS as usize),
        })
    }

    /// All plugins in the order in which they prepare a work disk; one that cannot run says why.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read.
    pub async fn list(&self) -> Result<Vec<Hook>, HookError> {
        self.catalog.list().await
    }

    /// Whether all plugins can run: what `doctor` asks, and every start.
    ///
    /// # Errors
    /// When a required plugin is broken or not granted, or the order is a circle.
    pub async fn check(&self) -> Result<(), HookError> {
        self.catalog.check().await
    }

    /// Whether any plugin has to do with a hook point: where none has, its inputs need not be gathered.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read.
    pub async fn has(&self, point: HookPoint) -> Result<bool, HookError> {
        let plugins = self.catalog.refresh().await?;
        Ok(plugins.iter().any(|plugin| plugin.concerns(point)))
    }

    /// Asks all plugins whether a machine may start. They run at the same time.
    ///
    /// # Errors
    /// When a required plugin cannot run, fails, or says that it may not.
    pub async fn preflight(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        Ok(self.phase(HookPoint::Preflight, inputs, None).await?.hooks)
    }

    /// Asks all plugins what they want a machine to be, one after the other.
    ///
    /// # Errors
    /// When a required plugin cannot run or fails, settings are wrong, or two plugins want different things.
    pub async fn configure_machine(
        &self,
        inputs: &HookInputs,
    ) -> Result<(Asked, Vec<HookOutcome>), HookError> {
        let mut phase = self.phase(HookPoint::ConfigureMachine, inputs, None).await?;
        let asked = phase.parts.iter_mut();
        let asked = asked.map(|part| (part.plugin.clone(), std::mem::take(&mut part.wanted.asked)));
        let asked = merge_wishes(asked.collect(), &phase.order)?;
        self.remember(inputs.purpose, &phase.parts)?;
        Ok((asked, phase.hooks))
    }

    /// Runs the hook `prepare-work-disk` of all plugins, one after the other.
    ///
    /// # Errors
    /// When a required plugin cannot run or fails, settings are wrong, or two plugins want different
    /// things of one path. Nothing has been written then, or ever.
    pub async fn prepare_work_disk(&self, inputs: &HookInputs) -> Result<HookRun, HookError> {
        let mut phase = self.phase(HookPoint::PrepareWorkDisk, inputs, None).await?;
        let steps = phase.parts.iter_mut();
        let steps = steps.map(|part| (part.plugin.clone(), std::mem::take(&mut part.wanted.steps)));
        let plan = merge(steps.collect(), &phase.order)?;
        self.remember(inputs.purpose, &phase.parts)?;
        Ok(HookRun { plan, hooks: phase.hooks })
    }

    /// Lets all plugins find a guest up, one after the other.
    ///
    /// # Errors
    /// When a required plugin cannot run or fails. What it ran in the guest has happened.
    pub async fn post_start(
        &self,
        inputs: &HookInputs,
        guest: Arc<dyn GuestPrograms>,
    ) -> Result<Vec<HookOutcome>, HookError> {
        let phase = self.phase(HookPoint::PostStart, inputs, Some(guest)).await?;
        self.remember(inputs.purpose, &phase.parts)?;
        Ok(phase.hooks)
    }

    /// Tells all plugins that a machine is about to stop. Failures of theirs are in the outcomes.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read or the order is a circle: no hook has run.
    pub async fn pre_stop(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        let phase = self.phase(HookPoint::PreStop, inputs, None).await?;
        self.remember(inputs.purpose, &phase.parts)?;
        Ok(phase.hooks)
    }

    /// Tells all plugins that a machine goes. Failures of theirs are in the outcomes.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read or the order is a circle: no hook has run.
    pub async fn cleanup(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        let phase = self.phase(HookPoint::Cleanup, inputs, None).await?;
        self.remember(inputs.purpose, &phase.parts)?;
        Ok(phase.hooks)
    }

    /// Asks all plugins what they find on the host. They run at the same time.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read or the order is a circle: no hook has run.
    pub async fn doctor(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        Ok(self.phase(HookPoint::Doctor, inputs, None).await?.hooks)
    }

    /// Runs all hooks of a point.
    async fn phase(
        &self,
        point: HookPoint,
        inputs: &HookInputs,
        guest: Option<Arc<dyn GuestPrograms>>,
    ) -> Result<Phase, HookError> {
        let plugins = self.catalog.refresh().await?;
        let order = order(&plugins, point)?;
        let mut hooks = Vec::new();
        let mut turns = Vec::new();
        for plugin in plugins.iter().filter(|plugin| plugin.concerns(point)) {
            let turn = match self.catalog.cannot_run(plugin) {
                Some(error) => Err(error),
                None => self.turn(plugin, point, inputs, guest.clone()),
            };
            match turn {
                Ok(turn) => turns.push(turn),
                Err(error) if weight(plugin, point) == Weight::Optional => {
                    hooks.push(left_out(plugin, point, &error));
                }
                Err(error) => return Err(error),
            }
        }
        turns.sort_by_key(|turn| order.place(&turn.plugin.found.id()));
        let ended = self.take_turns(point, turns).await;
        let mut parts = Vec::new();
        for ended in ended {
            let (plugin, before, outcome, wanted) = ended?;
            hooks.push(outcome);
            parts.push(Part { plugin, before, wanted });
        }
        Ok(Phase { order, hooks, parts })
    }

    /// Runs hooks at the same time where they change nothing, and one after the other elsewhere, up to the
    /// first that fails and must not.
    async fn take_turns(
        &self,
        point: HookPoint,
        turns: Vec<Turn>,
    ) -> Vec<Result<(PluginId, Remembered, HookOutcome, Wanted), HookError>> {
        let deadline = Instant::now() + limits::phase(point);
        match point {
            HookPoint::Preflight | HookPoint::Doctor => {
                join_all(turns.into_iter().map(|turn| self.take_turn(point, turn, deadline))).await
            }
            HookPoint::ConfigureMachine
            | HookPoint::PrepareWorkDisk
            | HookPoint::PostStart
            | HookPoint::PreStop
            | HookPoint::Cleanup => {
                let mut all = Vec::new();
                for turn in turns {
                    let ended = self.take_turn(point, turn, deadline).await;
                    let failed = ended.is_err();
                    all.push(ended);
                    if failed {
                        break;
                    }
                }
                all
            }
        }
    }

    async fn take_turn(
        &self,
        point: HookPoint,
        turn: Turn,
        deadline: Instant,
    ) -> Result<(PluginId, Remembered, HookOutcome, Wanted), HookError> {
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
        let waited = tokio::time::timeout_at(deadline, turns.acquire()).await;
        let left = deadline.saturating_duration_since(Instant::now());
        run.wall = run.wall.min(left);
        let ended = match waited {
            Ok(place) if !left.is_zero() => {
                let ended = run.go().await;
                drop(place);
                ended
            }
            Ok(_) | Err(_) => Ended::without_a_word(Failure::Phase(limits::phase(point))),
        };
        let (outcome, wanted) = judge(&plugin, (point, weight), ended)?;
        Ok((plugin.found.id(), before, outcome, wanted))
    }

    /// Puts together what a run needs.
    fn turn(
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
        let rights = Rights::new(&manifest.needs, self.catalog.granted(plugin), &table);
        let value = |key: &String| (key.clone(), inputs.git.0.get(key).cloned());
        let git = rights.git_keys().iter().map(value).collect();
        let settings = Settings::new(manifest.settings.clone(), table)
            .map_err(|reason| HookError::Settings { plugin: manifest.id.clone(), reason })?;
        let mut sources = inputs.host_files.clone();
        if let Some(grant) = self.catalog.grant(&manifest.id, digest) {
            sources.extend(grant.host_files.clone());
        }
        let before = match rights.may_remember() {
            true => {
                self.memory.load(&manifest.id).map_err(|source| forgetful(&manifest.id, source))?
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

    /// Keeps what plugins want to remember.
    fn remember(&self, purpose: Purpose, parts: &[Part]) -> Result<(), HookError> {
        if purpose == Purpose::Look {
            return Ok(());
        }
        parts.iter().try_for_each(|part| match &part.wanted.remembered {
            Some(after) => {
                let kept = self.memory.keep(&part.plugin, &part.before, after);
                kept.map_err(|source| forgetful(&part.plugin, source))
            }
            None => Ok(()),
        })
    }
}

fn forgetful(plugin: &PluginId, source: std::io::Error) -> HookError {
    HookError::Memory { plugin: plugin.clone(), source }
}
