//! The host as the rest of the daemon sees it: hook points in, outcomes out.

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use super::audit::Audit;
use super::catalog::Catalog;
use super::contract::{Contract, KNOWN};
use super::engine::Machine;
use super::error::HookError;
use super::guest::GuestPrograms;
use super::handles::Remembered;
use super::inputs::{HookInputs, HookSettings, Purpose};
use super::limits;
use super::memory::Memory;
use super::merge::{merge, merge_wishes};
use super::outcome::{HookOutcome, HookRun};
use super::phase::Part;
use super::registry::Registry;
use super::signature::check_signers;
use super::wishes::Asked;
use crate::id::PluginId;
use crate::vm::events::Events;
use crate::wire::rpc::{Hook, HookChain, HookPoint, HookRunPage, HookRunQuery};

/// Runs hooks. One per daemon.
pub struct HookHost {
    pub(super) catalog: Arc<Catalog>,
    pub(super) audit: Arc<Audit>,
    pub(super) memory: Arc<Memory>,
    /// Plugins are installed one after the other.
    pub(super) installing: Semaphore,
    /// Plugins are let in one after the other: whether one fits depends on those that take part already.
    pub(super) letting_in: Semaphore,
    /// Who hears of what happens to plugins.
    pub(super) events: OnceLock<Events>,
    /// The places for hooks that run at once, and for those that act in guests. Together they are the slots of
    /// the engine's pool, and whoever instantiates a component has one for as long as its instance lives.
    pub(super) turns: Arc<Semaphore>,
    pub(super) turns_in_guests: Arc<Semaphore>,
}

impl std::fmt::Debug for HookHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.catalog.settings;
        f.debug_struct("HookHost").field("settings", settings).finish_non_exhaustive()
    }
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
        check_signers(&settings.signatures.signers)?;
        let memory = Arc::new(Memory::new(settings.state_folder.clone()));
        let audit = Audit::open_in(&settings.log_folder).await?;
        let folder = settings.registry_folder.clone();
        let opened = tokio::task::spawn_blocking(move || Registry::open(&folder)).await;
        let registry = opened.unwrap_or_else(|error| Err(error.into())).map_err(|source| {
            HookError::Folder { folder: settings.registry_folder.clone(), source }
        })?;
        let catalog = Arc::new(Catalog::new(machine, settings, registry));
        catalog.refresh().await?;
        Ok(Self {
            catalog,
            audit,
            memory,
            installing: Semaphore::new(1),
            letting_in: Semaphore::new(1),
            events: OnceLock::new(),
            turns: Arc::new(Semaphore::new(limits::CONCURRENT as usize)),
            turns_in_guests: Arc::new(Semaphore::new(limits::CONCURRENT_IN_GUESTS as usize)),
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

    /// Asks all plugins what they want a machine to be, one after the other. What an optional plugin asks for
    /// against others, or beyond what a VM can have, is left out, and its outcome says so.
    ///
    /// # Errors
    /// When a required plugin cannot run or fails, settings are wrong, or two required plugins want different
    /// things.
    pub async fn configure_machine(
        &self,
        inputs: &HookInputs,
    ) -> Result<(Asked, Vec<HookOutcome>), HookError> {
        let mut phase = self.phase(HookPoint::ConfigureMachine, inputs, None).await?;
        self.settle(HookPoint::ConfigureMachine, inputs.purpose, &mut phase).await?;
        let kept = self.remember(inputs.purpose, &phase.parts).await;
        self.or_dropped(HookPoint::ConfigureMachine, &phase.runs, kept).await?;
        let asked = merge_wishes(&phase.parts);
        Ok((asked, phase.hooks))
    }

    /// Runs the hook `prepare-work-disk` of all plugins, one after the other. What an optional plugin wants
    /// against others is left out, and its outcome says so.
    ///
    /// # Errors
    /// When a required plugin cannot run or fails, settings are wrong, or two required plugins want different
    /// things of one path. Nothing has been written then, or ever.
    pub async fn prepare_work_disk(&self, inputs: &HookInputs) -> Result<HookRun, HookError> {
        let mut phase = self.phase(HookPoint::PrepareWorkDisk, inputs, None).await?;
        self.settle(HookPoint::PrepareWorkDisk, inputs.purpose, &mut phase).await?;
        let kept = self.remember(inputs.purpose, &phase.parts).await;
        self.or_dropped(HookPoint::PrepareWorkDisk, &phase.runs, kept).await?;
        let plan = merge(&mut phase.parts);
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
        self.remember(inputs.purpose, &phase.parts).await?;
        Ok(phase.hooks)
    }

    /// Tells all plugins that a machine is about to stop. Failures of theirs are in the outcomes.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read or the order is a circle: no hook has run.
    pub async fn pre_stop(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        let phase = self.phase(HookPoint::PreStop, inputs, None).await?;
        self.remember(inputs.purpose, &phase.parts).await?;
        Ok(phase.hooks)
    }

    /// Tells all plugins that a machine goes. Failures of theirs are in the outcomes.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read or the order is a circle: no hook has run.
    pub async fn cleanup(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        let phase = self.phase(HookPoint::Cleanup, inputs, None).await?;
        self.remember(inputs.purpose, &phase.parts).await?;
        Ok(phase.hooks)
    }

    /// Asks all plugins what they find on the host. They run at the same time.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read or the order is a circle: no hook has run.
    pub async fn doctor(&self, inputs: &HookInputs) -> Result<Vec<HookOutcome>, HookError> {
        Ok(self.phase(HookPoint::Doctor, inputs, None).await?.hooks)
    }

    /// What has been written down of runs.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn runs(&self, query: HookRunQuery) -> Result<HookRunPage, HookError> {
        self.audit.read(move |audit| audit.page(&query)).await
    }

    /// Whether what has been written down of runs is as it was written.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn verify_runs(&self) -> Result<HookChain, HookError> {
        self.audit.read(Audit::verify).await
    }

    /// Keeps what plugins want to remember. One that was removed while it ran is forgotten.
    pub(super) async fn remember(&self, purpose: Purpose, parts: &[Part]) -> Result<(), HookError> {
        if purpose == Purpose::Look {
            return Ok(());
        }
        for part in parts {
            if let Some(after) = &part.wanted.remembered {
                self.keep_memory(&part.plugin.found.id(), &part.before, after).await?;
            }
        }
        Ok(())
    }

    /// Keeps what one run of a plugin has changed of what it remembers.
    pub(super) async fn keep_memory(
        &self,
        plugin: &PluginId,
        before: &Remembered,
        after: &Remembered,
    ) -> Result<(), HookError> {
        if before == after {
            return Ok(());
        }
        let (catalog, memory) = (Arc::clone(&self.catalog), Arc::clone(&self.memory));
        let (id, before, after) = (plugin.clone(), before.clone(), after.clone());
        let kept = tokio::task::spawn_blocking(move || match catalog.is_there(&id) {
            true => memory.keep(&id, &before, &after),
            false => Ok(()),
        });
        let kept = kept.await.unwrap_or_else(|error| Err(error.into()));
        kept.map_err(|source| forgetful(plugin, source))
    }
}

pub(super) fn forgetful(plugin: &PluginId, source: std::io::Error) -> HookError {
    HookError::Memory { plugin: plugin.clone(), source }
}
