//! The host as the rest of the daemon sees it.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Semaphore};

use super::engine::Machine;
use super::error::{HookError, PREPARE_WORK_DISK, Problem};
use super::files::{Component, Files, Found, Home, scan};
use super::handles::Settings;
use super::inputs::{HookInputs, HookSettings};
use super::limits;
use super::manifest::{Manifest, OnFailure};
use super::merge::merge;
use super::needs::{Grant, Granted, Rights, shown};
use super::order::{Order, Wishes};
use super::outcome::{HookRun, judge, left_out};
use super::plugin::{Loader, Plugin, Readiness};
use super::run::Run;
use crate::id::{Digest, PluginId};
use crate::wire::rpc::Hook;

/// Runs hooks. One per daemon.
pub struct HookHost {
    machine: Arc<Machine>,
    settings: HookSettings,
    plugins: Mutex<Vec<Arc<Plugin>>>,
    turns: Semaphore,
}

impl std::fmt::Debug for HookHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookHost").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl HookHost {
    /// Sets up the engine and loads the plugins. Broken plugins are no error here: see [`Self::list`].
    /// A plugin that is seen for the first time is compiled, which takes up to some seconds.
    ///
    /// # Errors
    /// When the engine cannot be set up or a folder of plugins cannot be read.
    pub async fn open(settings: HookSettings) -> Result<Self, HookError> {
        let machine = tokio::task::spawn_blocking(Machine::new).await;
        let machine = machine.map_err(|error| HookError::Engine(Box::new(error)))??;
        let host = Self {
            machine: Arc::new(machine),
            settings,
            plugins: Mutex::default(),
            turns: Semaphore::new(limits::CONCURRENT as usize),
        };
        host.refresh().await?;
        Ok(host)
    }

    /// All plugins in the order in which they would run; one that cannot says why.
    ///
    /// # Errors
    /// When a folder of plugins cannot be read.
    pub async fn list(&self) -> Result<Vec<Hook>, HookError> {
        let plugins = self.refresh().await?;
        let order = order(&plugins);
        let place = |plugin: &Plugin| {
            let order = order.as_ref().ok();
            order.and_then(|order| order.sequence.iter().position(|id| *id == plugin.found.id()))
        };
        let mut sorted: Vec<_> = plugins.iter().collect();
        sorted.sort_by_key(|plugin| (place(plugin).unwrap_or(usize::MAX), plugin.found.id()));
        Ok(sorted.into_iter().map(|plugin| self.shown(plugin, order.as_ref().err())).collect())
    }

    /// Whether all plugins can run: what `doctor` asks. A start hears it from the run itself.
    ///
    /// # Errors
    /// When a required plugin is broken or not granted, or the order is a circle.
    pub async fn check(&self) -> Result<(), HookError> {
        let plugins = self.refresh().await?;
        order(&plugins)?;
        plugins.iter().try_for_each(|plugin| match self.cannot_run(plugin) {
            Some(error) if !is_optional(plugin) => Err(error),
            _ => Ok(()),
        })
    }

    /// Runs the hook `prepare-work-disk` of all plugins, one after the other.
    ///
    /// # Errors
    /// When a required plugin cannot run or fails, settings are wrong, or two plugins want different
    /// things of one path. Nothing has been written then, or ever.
    pub async fn prepare_work_disk(&self, inputs: HookInputs) -> Result<HookRun, HookError> {
        let plugins = self.refresh().await?;
        let order = order(&plugins)?;
        let mut hooks = Vec::new();
        let mut ready = Vec::new();
        for plugin in &plugins {
            match self.cannot_run(plugin) {
                Some(error) if is_optional(plugin) => hooks.push(left_out(plugin, &error)),
                Some(error) => return Err(error),
                None => ready.push(self.run_of(plugin, &inputs)?),
            }
        }
        ready.sort_by_key(|(plugin, ..)| {
            let id = plugin.found.id();
            order.sequence.iter().position(|other| *other == id)
        });
        let mut parts = Vec::new();
        for (plugin, manifest, run) in ready {
            let turn = self.turns.acquire().await;
            let ended = run.go().await;
            drop(turn);
            let (outcome, steps) = judge(plugin, manifest, ended)?;
            hooks.push(outcome);
            parts.push((manifest.id.clone(), steps));
        }
        Ok(HookRun { plan: merge(parts, &order)?, hooks })
    }

    /// Looks into the folders again and loads what is new or has changed.
    async fn refresh(&self) -> Result<Vec<Arc<Plugin>>, HookError> {
        let mut known = self.plugins.lock().await;
        let standard = scan(Home::Standard, &self.settings.standard_folder)?;
        let user = scan(Home::User, &self.settings.user_folder)?;
        let mut plugins: Vec<Arc<Plugin>> = Vec::new();
        for found in standard.into_iter().chain(user) {
            if found.name.parse().is_ok_and(|id: PluginId| self.settings.disabled.contains(&id)) {
                continue;
            }
            let twin = plugins.iter().any(|other| other.found.name == found.name);
            let old = known.iter().find(|old| old.found == found);
            let plugin = match old {
                Some(old) => Arc::clone(old),
                None => Arc::new(self.load(found, twin).await),
            };
            plugins.push(plugin);
        }
        known.clone_from(&plugins);
        Ok(plugins)
    }

    async fn load(&self, found: Found, twin: bool) -> Plugin {
        let reading = found.clone();
        let read = tokio::task::spawn_blocking(move || reading.read()).await;
        let Files { manifest, digest, component } = read.unwrap_or_else(|error| Files {
            manifest: None,
            digest: None,
            component: Err(Problem::Unreadable {
                file: found.path.clone(),
                reason: error.to_string(),
            }),
        });
        let state = match (component, &manifest, &digest) {
            (Err(problem), ..) => Readiness::Broken(problem),
            (Ok(_), ..) if twin => {
                let reason = "has the id of a standard plugin";
                Readiness::Broken(Problem::Name { path: found.path.clone(), reason })
            }
            (Ok(component), Some(manifest), Some(digest))
                if found.home == Home::Standard || self.grant(&manifest.id, digest).is_some() =>
            {
                self.make_ready(component, digest).await
            }
            // What is not granted is not compiled either.
            (Ok(_), ..) => Readiness::Ungranted,
        };
        Plugin { found, manifest, digest, state }
    }

    async fn make_ready(&self, component: Component, digest: &Digest) -> Readiness {
        let loader = Loader {
            machine: &self.machine,
            cache_folder: &self.settings.cache_folder,
            compiler: &self.settings.compiler,
        };
        match loader.load(component, digest).await {
            Ok(pre) => Readiness::Ready(Box::new(pre)),
            Err(problem) => Readiness::Broken(problem),
        }
    }

    fn grant(&self, plugin: &PluginId, component: &Digest) -> Option<&Grant> {
        let mut grants = self.settings.grants.iter();
        grants.find(|grant| grant.plugin == *plugin && grant.component == *component)
    }

    fn granted(&self, plugin: &Plugin) -> Granted<'_> {
        match (plugin.found.home, &plugin.manifest, &plugin.digest) {
            (Home::Standard, ..) => Granted::All,
            (Home::User, Some(manifest), Some(digest)) => self
                .grant(&manifest.id, digest)
                .map_or(Granted::Nothing, |grant| Granted::Words(&grant.needs)),
            (Home::User, ..) => Granted::Nothing,
        }
    }

    /// Why a plugin cannot run.
    fn cannot_run(&self, plugin: &Plugin) -> Option<HookError> {
        match (&plugin.state, &plugin.manifest, &plugin.digest) {
            (Readiness::Ready(_), ..) => None,
            (Readiness::Broken(problem), ..) => Some(HookError::Broken {
                plugin: super::log::shortened(&plugin.found.name, 128),
                problem: problem.clone(),
            }),
            (Readiness::Ungranted, manifest, digest) => {
                let needs = manifest.iter().flat_map(|manifest| &manifest.needs);
                let needs = needs.flat_map(|need| need.words().collect::<Vec<_>>()).collect();
                let (plugin, component) = (plugin.found.id(), digest.clone()?);
                let mut grants = self.settings.grants.iter();
                Some(if grants.any(|grant| grant.plugin == plugin) {
                    HookError::GrantVoid { plugin, component, needs }
                } else {
                    HookError::NotGranted { plugin, component, needs }
                })
            }
        }
    }

    /// The plugin as clients see it.
    fn shown(&self, plugin: &Plugin, circle: Option<&HookError>) -> Hook {
        use crate::report::Explain;
        let needs = plugin.manifest.as_ref().map_or(&[][..], |manifest| &manifest.needs);
        let problem = self.cannot_run(plugin);
        let problem = problem.as_ref().or(circle).map(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        });
        Hook {
            plugin: plugin.found.id(),
            version: plugin
                .manifest
                .as_ref()
                .map_or("?".into(), |manifest| manifest.version.clone()),
            hook: PREPARE_WORK_DISK.to_owned(),
            digest: plugin.digest.clone().unwrap_or_else(|| Digest::of(&[])),
            standard: plugin.found.home == Home::Standard,
            needs: shown(needs, self.granted(plugin)),
            problem,
        }
    }

    /// Puts together what a run needs.
    fn run_of<'a>(
        &self,
        plugin: &'a Plugin,
        inputs: &HookInputs,
    ) -> Result<(&'a Plugin, &'a Manifest, Run), HookError> {
        let (Readiness::Ready(pre), Some(manifest), Some(digest)) =
            (&plugin.state, &plugin.manifest, &plugin.digest)
        else {
            unreachable!("only plugins that can run get here");
        };
        let table = inputs.settings.get(&manifest.id).cloned().unwrap_or_default();
        let rights = Rights::new(&manifest.needs, self.granted(plugin));
        let keys = rights.git_keys(table.get("keys"));
        let git = keys.into_iter().map(|key| (key.clone(), inputs.git.0.get(&key).cloned()));
        let git = git.collect();
        let settings = Settings::new(manifest.settings.clone(), table)
            .map_err(|reason| HookError::Settings { plugin: manifest.id.clone(), reason })?;
        let mut sources = inputs.host_files.clone();
        if let Some(grant) = self.grant(&manifest.id, digest) {
            sources.extend(grant.host_files.clone());
        }
        let seed = Sha256::new().chain_update(inputs.vm.as_str()).chain_update(digest.as_str());
        let run = Run {
            pre: (**pre).clone(),
            clock: Arc::clone(&self.machine.clock),
            limits: manifest.limits,
            rights: Arc::new(rights),
            home: inputs.home.clone(),
            sources,
            git,
            settings,
            seed: seed.finalize().to_vec(),
        };
        Ok((plugin, manifest, run))
    }
}

fn is_optional(plugin: &Plugin) -> bool {
    plugin.manifest.as_ref().is_some_and(|manifest| manifest.on_failure == OnFailure::Optional)
}

/// The order of the plugins whose manifests could be read.
fn order(plugins: &[Arc<Plugin>]) -> Result<Order, HookError> {
    let manifests = plugins.iter().filter_map(|plugin| plugin.manifest.as_ref());
    let wishes = manifests.map(|manifest| Wishes {
        id: &manifest.id,
        after: &manifest.after,
        before: &manifest.before,
    });
    Order::new(&wishes.collect::<Vec<_>>())
}
