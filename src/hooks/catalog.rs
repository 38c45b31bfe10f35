//! The plugins there are: what is in the folders, what is granted, and what keeps a plugin from running.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::engine::Machine;
use super::error::{HookError, Problem};
use super::files::{Component, Files, Found, Home, scan};
use super::inputs::HookSettings;
use super::manifest::{Manifest, OnFailure};
use super::needs::{Grant, Granted, shown};
use super::order::{Order, Wishes};
use super::outcome::Weight;
use super::plugin::{Loader, Plugin, Readiness};
use crate::id::{Digest, PluginId};
use crate::wire::rpc::{Hook, HookPoint};

/// All plugins of one daemon.
pub(super) struct Catalog {
    pub(super) machine: Machine,
    pub(super) settings: HookSettings,
    plugins: Mutex<Vec<Arc<Plugin>>>,
}

impl Catalog {
    pub(super) fn new(machine: Machine, settings: HookSettings) -> Self {
        Self { machine, settings, plugins: Mutex::default() }
    }

    /// Looks into the folders again and loads what is new or has changed.
    pub(super) async fn refresh(&self) -> Result<Vec<Arc<Plugin>>, HookError> {
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
                self.make_ready(component, manifest, digest).await
            }
            // What is not granted is not compiled either.
            (Ok(_), ..) => Readiness::Ungranted,
        };
        Plugin { found, manifest, digest, state }
    }

    async fn make_ready(
        &self,
        component: Component,
        manifest: &Manifest,
        digest: &Digest,
    ) -> Readiness {
        let loader = Loader {
            machine: &self.machine,
            cache_folder: &self.settings.cache_folder,
            compiler: &self.settings.compiler,
        };
        match loader.load(component, manifest, digest).await {
            Ok(loaded) => Readiness::Ready(Arc::new(loaded)),
            Err(problem) => Readiness::Broken(problem),
        }
    }

    /// The grant of exactly this component.
    pub(super) fn grant(&self, plugin: &PluginId, component: &Digest) -> Option<&Grant> {
        let mut grants = self.settings.grants.iter();
        grants.find(|grant| grant.plugin == *plugin && grant.component == *component)
    }

    /// How much of its needs a plugin has.
    pub(super) fn granted(&self, plugin: &Plugin) -> Granted<'_> {
        match (plugin.found.home, &plugin.manifest, &plugin.digest) {
            (Home::Standard, ..) => Granted::All,
            (Home::User, Some(manifest), Some(digest)) => self
                .grant(&manifest.id, digest)
                .map_or(Granted::Nothing, |grant| Granted::Words(&grant.needs)),
            (Home::User, ..) => Granted::Nothing,
        }
    }

    /// Why a plugin cannot run.
    pub(super) fn cannot_run(&self, plugin: &Plugin) -> Option<HookError> {
        match (&plugin.state, &plugin.manifest, &plugin.digest) {
            (Readiness::Ready(_), ..) => None,
            (Readiness::Broken(problem), ..) => Some(HookError::Broken {
                plugin: super::log::shortened(&plugin.found.name, 128),
                problem: problem.clone(),
            }),
            (Readiness::Ungranted, manifest, digest) => {
                let needs = manifest.iter().flat_map(|manifest| &manifest.needs);
                let needs = needs.flat_map(|need| need.words()).collect();
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

    /// All plugins by id; one that cannot run says why.
    pub(super) async fn list(&self) -> Result<Vec<Hook>, HookError> {
        let plugins = self.refresh().await?;
        let circle = HookPoint::ALL.into_iter().find_map(|point| order(&plugins, point).err());
        let place = |plugin: &Plugin| {
            let order = order(&plugins, HookPoint::PrepareWorkDisk).ok();
            let place = |order: Order| order.place(&plugin.found.id());
            order.and_then(place).unwrap_or(usize::MAX)
        };
        let mut sorted: Vec<_> = plugins.iter().collect();
        sorted.sort_by_key(|plugin| (place(plugin), plugin.found.id()));
        Ok(sorted.into_iter().map(|plugin| self.shown(plugin, circle.as_ref())).collect())
    }

    /// The plugin as clients see it.
    fn shown(&self, plugin: &Plugin, circle: Option<&HookError>) -> Hook {
        use crate::report::Explain;
        let manifest = plugin.manifest.as_ref();
        let needs = manifest.map_or(&[][..], |manifest| &manifest.needs);
        let problem = self.cannot_run(plugin);
        let problem = problem.as_ref().or(circle).map(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        });
        Hook {
            plugin: plugin.found.id(),
            version: manifest.map_or("?".into(), |manifest| manifest.version.clone()),
            hooks: manifest
                .into_iter()
                .flat_map(|manifest| manifest.hooks.keys().copied())
                .collect(),
            digest: plugin.digest.clone().unwrap_or_else(|| Digest::of(&[])),
            standard: plugin.found.home == Home::Standard,
            needs: shown(needs, self.granted(plugin)),
            problem,
        }
    }

    /// Whether all plugins can run.
    pub(super) async fn check(&self) -> Result<(), HookError> {
        let plugins = self.refresh().await?;
        for point in HookPoint::ALL {
            order(&plugins, point)?;
        }
        plugins.iter().try_for_each(|plugin| match self.cannot_run(plugin) {
            Some(error) if is_required(plugin) => Err(error),
            Some(_) | None => Ok(()),
        })
    }
}

/// Whether a plugin that cannot run is in the way of a start.
fn is_required(plugin: &Plugin) -> bool {
    HookPoint::ALL
        .into_iter()
        .any(|point| plugin.concerns(point) && weight(plugin, point) == Weight::Required)
}

/// What a failure of a plugin at a hook point means.
pub(super) fn weight(plugin: &Plugin, point: HookPoint) -> Weight {
    match point {
        HookPoint::Preflight
        | HookPoint::ConfigureMachine
        | HookPoint::PrepareWorkDisk
        | HookPoint::PostStart => {
            let rules = plugin.manifest.as_ref().and_then(|manifest| manifest.hooks.get(&point));
            match rules.map(|rules| rules.on_failure) {
                Some(OnFailure::Optional) => Weight::Optional,
                Some(OnFailure::Required) | None => Weight::Required,
            }
        }
        // Nothing keeps a VM from stopping and going.
        HookPoint::PreStop | HookPoint::Cleanup | HookPoint::Doctor => Weight::Optional,
    }
}

/// The order at a hook point of the plugins whose manifests could be read.
pub(super) fn order(plugins: &[Arc<Plugin>], point: HookPoint) -> Result<Order, HookError> {
    let manifests = plugins.iter().filter_map(|plugin| plugin.manifest.as_ref());
    let wishes = manifests.filter_map(|manifest| {
        let rules = manifest.hooks.get(&point)?;
        Some(Wishes { id: &manifest.id, after: &rules.after, before: &rules.before })
    });
    Order::new(&wishes.collect::<Vec<_>>())
}
