//! The host as the rest of the daemon sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, Semaphore};

use super::engine::Machine;
use super::error::{Failure, HookError, PREPARE_WORK_DISK};
use super::files::{Found, Home, scan};
use super::handles::Settings;
use super::limits;
use super::log::{LogLevel, LogLine};
use super::manifest::{Manifest, OnFailure};
use super::merge::{digest, merge};
use super::needs::{Grant, Granted, Rights, git_key, shown};
use super::order::{Order, Wishes};
use super::plugin::{Loader, Plugin, Readiness};
use super::run::{Ended, Run};
use super::source::HostFilesSource;
use crate::id::{Digest, PluginId, VmId, VmName};
use crate::vm::plan::{PlannedStep, WorkDiskPlan};
use crate::wire::guest::PlanStep;
use crate::wire::rpc::{Hook, HookStep};

/// Where plugins are and what the operator allows.
#[derive(Debug, Clone)]
pub struct HookSettings {
    /// The folder of the standard plugins, `ID/plugin.toml` and the component in it.
    pub standard_folder: PathBuf,
    /// The user's folder, of the same shape. It need not be there.
    pub user_folder: PathBuf,
    /// Where compiled components are kept. Made with mode 0700 when it is not there.
    pub cache_folder: PathBuf,
    /// The program that compiles when it is called with [`super::compiler::ARGUMENT`]: `coved`.
    pub compiler: PathBuf,
    /// What the plugins of the user's folder may do.
    pub grants: Vec<Grant>,
    /// Plugins that are switched off, standard ones included.
    pub disabled: BTreeSet<PluginId>,
}

/// What hooks get to see at one start.
#[derive(Debug, Clone)]
pub struct HookInputs {
    /// The VM.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// The user's home on the host: what `~/` in mapped paths means.
    pub home: PathBuf,
    /// What stands behind the logical names of host files.
    pub host_files: BTreeMap<String, HostFilesSource>,
    /// The user's git configuration.
    pub git: GitValues,
    /// The settings of each plugin.
    pub settings: BTreeMap<PluginId, toml::Table>,
}

/// The user's git configuration. Plugins see the keys that are granted to them.
#[derive(Debug, Clone, Default)]
pub struct GitValues(BTreeMap<String, String>);

impl GitValues {
    /// From the output of `git config --list --null`: entries `KEY\nVALUE\0`, or `KEY\0` for a key
    /// without a value, which means true. The last one of several values wins. What is not UTF-8 is left
    /// out.
    #[must_use]
    pub fn from_list(output: &[u8]) -> Self {
        let entries = output.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        let entries = entries.filter_map(|entry| std::str::from_utf8(entry).ok());
        let entries = entries.map(|entry| entry.split_once('\n').unwrap_or((entry, "true")));
        Self(entries.map(|(key, value)| (git_key(key), value.to_owned())).collect())
    }
}

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

    /// All plugins in the order in which they run, those that cannot run last, with the reason.
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

    /// Whether all plugins can run: what a start asks before it makes anything.
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
        use super::error::Problem;
        let (found, read) = match tokio::task::spawn_blocking(move || {
            let read = found.read();
            (found, read)
        })
        .await
        {
            Ok(read) => read,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let files = match read {
            Ok(files) if twin => {
                let reason = "has the id of a standard plugin";
                let problem = Problem::Name { path: found.path.clone(), reason };
                let (manifest, digest) = (Some(files.manifest), Some(files.digest));
                return Plugin { found, manifest, digest, state: Readiness::Broken(problem) };
            }
            Ok(files) => files,
            Err(bad) => {
                let state = Readiness::Broken(bad.problem);
                return Plugin { found, manifest: bad.manifest, digest: bad.digest, state };
            }
        };
        let (manifest, digest) = (Some(files.manifest.clone()), Some(files.digest.clone()));
        let granted = match found.home {
            Home::Standard => true,
            Home::User => self.grant(&files.manifest.id, &files.digest).is_some(),
        };
        // What is not granted is not compiled either.
        if !granted {
            return Plugin { found, manifest, digest, state: Readiness::Ungranted };
        }
        let loader = Loader {
            machine: &self.machine,
            cache_folder: &self.settings.cache_folder,
            compiler: &self.settings.compiler,
        };
        let state = match loader.load(files).await {
            Ok(pre) => Readiness::Ready(Box::new(pre)),
            Err(problem) => Readiness::Broken(problem),
        };
        Plugin { found, manifest, digest, state }
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

/// The outcome of an optional plugin that cannot run.
fn left_out(plugin: &Plugin, error: &HookError) -> HookOutcome {
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
fn judge(
    plugin: &Plugin,
    manifest: &Manifest,
    ended: Ended,
) -> Result<(HookOutcome, Vec<PlannedStep>), HookError> {
    let Ended { result, log, dropped, host_calls, wall } = ended;
    let failed = |failure: Failure, log: &[LogLine]| HookError::Failed {
        plugin: manifest.id.clone(),
        failure,
        log: log.iter().map(|line| line.text.clone()).collect(),
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
