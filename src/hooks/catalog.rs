//! The plugins there are: what came with cove, what is installed, and what keeps a plugin from running.

use std::sync::Arc;

use super::engine::Machine;
use super::error::HookError;
use super::files::{Component, Files, Found, Home, scan};
use super::inputs::HookSettings;
use super::manifest::{Manifest, OnFailure};
use super::needs::Grant;
use super::order::{Order, Wishes};
use super::outcome::Weight;
use super::package::{Package, read_manifest};
use super::plugin::{Loaded, Loader, Plugin, Readiness};
use super::problem::Problem;
use super::registry::{Entry, Record, Registry};
use super::slots::{Known, Slots};
use super::standing::{Disabled, Holds, Standing};
use super::words::all_words;
use crate::id::{Digest, PluginId};
use crate::task::blocking;
use crate::wire::rpc::HookPoint;

/// All plugins of one daemon.
pub(super) struct Catalog {
    pub(super) machine: Machine,
    pub(super) settings: HookSettings,
    pub(super) registry: Registry,
    slots: Slots,
}

impl Catalog {
    pub(super) fn new(machine: Machine, settings: HookSettings, registry: Registry) -> Self {
        Self { machine, settings, registry, slots: Slots::default() }
    }

    /// All plugins as they are now. What is new, has changed, or was decided anew is loaded.
    pub(super) async fn all(&self) -> Result<Vec<Arc<Plugin>>, HookError> {
        let found = self.found().await?;
        self.slots.keep_only(&found.iter().map(|(found, _)| found.path.as_path()).collect());
        let mut plugins = Vec::new();
        for index in 0..found.len() {
            plugins.push(self.current(&found, index).await);
        }
        Ok(plugins)
    }

    /// The plugin of an id as it is now: the one that came with cove before another. No other is loaded.
    pub(super) async fn one(&self, id: &PluginId) -> Result<Option<Arc<Plugin>>, HookError> {
        let all = self.found().await?;
        match all.iter().position(|(found, _)| found.id() == *id) {
            Some(index) => Ok(Some(self.current(&all, index).await)),
            None => Ok(None),
        }
    }

    /// One of the plugins that were found, loaded unless it is known.
    async fn current(&self, all: &[(Found, Standing)], index: usize) -> Arc<Plugin> {
        let (found, standing) = &all[index];
        let slot = self.slots.of(&found.path);
        let mut known = slot.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.holds(found, standing)) {
            return Arc::clone(&known.plugin);
        }
        let twin = all[..index].iter().any(|(other, _)| other.name == found.name);
        let new = Known::now(self.load(found.clone(), standing.clone(), twin).await);
        Arc::clone(&known.insert(new).plugin)
    }

    /// Whether there is a plugin of this id. Blocks.
    pub(super) fn is_there(&self, id: &PluginId) -> bool {
        self.registry.entries().contains_key(id)
            || self.settings.standard_folder.join(id.as_str()).exists()
    }

    /// Whether a plugin of this id came with cove.
    pub(super) async fn is_standard(&self, id: &PluginId) -> Result<bool, HookError> {
        let standard = self.standard().await?;
        Ok(standard.iter().any(|found| found.id() == *id))
    }

    /// Those that take part.
    pub(super) async fn refresh(&self) -> Result<Vec<Arc<Plugin>>, HookError> {
        let mut plugins = self.all().await?;
        plugins.retain(|plugin| plugin.takes_part());
        Ok(plugins)
    }

    /// The plugins that came with cove.
    async fn standard(&self) -> Result<Vec<Found>, HookError> {
        let folder = self.settings.standard_folder.clone();
        blocking(move || scan(&folder)).await
    }

    /// Where plugins lie, and what was decided about them.
    async fn found(&self) -> Result<Vec<(Found, Standing)>, HookError> {
        let standard = self.standard().await?;
        let entries = self.registry.entries();
        let mut all = Vec::new();
        for found in standard {
            let id = found.name.parse::<PluginId>().ok();
            let record = match id.as_ref().and_then(|id| entries.get(id)) {
                Some(Entry::Known(record)) => Some(&**record),
                // What it says is listed with the registry's plugins.
                Some(Entry::Damaged(_)) | None => None,
            };
            let disabled = self.disabled(id.as_ref());
            all.push((found, Standing::of_standard(record, disabled)));
        }
        for (id, entry) in entries.iter() {
            let standing = match entry {
                Entry::Known(record) => {
                    Standing::of_installed(record, self.configured(id), self.disabled(Some(id)))
                }
                // It may have been granted: whoever damages a record does not get rid of a plugin.
                Entry::Damaged(_) => Some(Standing::of_standard(None, self.disabled(Some(id)))),
            };
            let Some(standing) = standing else {
                continue;
            };
            let place = match &standing.release {
                Some(release) => self.registry.place(id, &release.key),
                None => self.settings.registry_folder.join(id.as_str()),
            };
            all.push((Found::in_registry(place, id), standing));
        }
        Ok(all)
    }

    fn disabled(&self, id: Option<&PluginId>) -> Disabled {
        match id.is_some_and(|id| self.settings.disabled.contains(id)) {
            true => Disabled::Yes,
            false => Disabled::No,
        }
    }

    async fn load(&self, found: Found, standing: Standing, twin: bool) -> Plugin {
        let (read, manifest_digest) = self.read(&found).await;
        let Files { manifest, digest, component } = read;
        let damaged = match self.registry.entries().get(&found.id()) {
            Some(Entry::Damaged(problem)) if found.home == Home::Registry => Some(problem.clone()),
            Some(Entry::Damaged(_) | Entry::Known(_)) | None => None,
        };
        let is_for = match (&manifest, &digest, &manifest_digest) {
            (Some(manifest), Some(digest), Some(file)) => {
                standing.is_for(file, digest, &all_words(&manifest.needs))
            }
            _ => true,
        };
        let off = digest.as_ref().and_then(|digest| standing.off(digest));
        let state = match (component, &manifest, &digest) {
            _ if standing.disabled == Disabled::Yes => Readiness::Disabled,
            _ if damaged.is_some() => Readiness::Broken(damaged.expect("there is one")),
            (Err(problem), ..) => Readiness::Broken(problem),
            (Ok(_), ..) if twin => {
                let reason = "has the id of a plugin that came with cove";
                Readiness::Broken(Problem::Name { path: found.path.clone(), reason })
            }
            (Ok(_), ..) if !standing.is_granted() => Readiness::Waiting,
            (Ok(_), ..) if !is_for => Readiness::Void,
            (Ok(_), ..) if off.is_some() => Readiness::Off(off.expect("there is one").clone()),
            (Ok(component), Some(manifest), Some(digest)) => {
                self.make_ready(component, manifest, digest).await
            }
            (Ok(_), ..) => unreachable!("a component comes with its manifest and its digest"),
        };
        Plugin { found, standing, manifest, digest, manifest_digest, state }
    }

    /// Reads a plugin's files; with the digest of its manifest, where that matters.
    pub(super) async fn read(&self, found: &Found) -> (Files, Option<Digest>) {
        let (reading, rules) = (found.clone(), self.settings.signatures.clone());
        let read = tokio::task::spawn_blocking(move || match reading.home {
            Home::Standard => (reading.read(), None),
            Home::Registry | Home::Stranger => match Package::read_folder(&reading.path, &rules) {
                Ok(package) => {
                    let manifest_digest = package.manifest_digest();
                    let component =
                        Component { path: package.component_path(), bytes: package.component };
                    let (manifest, digest) = (Some(package.manifest), Some(package.digest));
                    (Files { manifest, digest, component: Ok(component) }, Some(manifest_digest))
                }
                Err(problem) => {
                    // What it is for says what it is in the way of.
                    let manifest = read_manifest(&reading.path).ok().map(|(_, manifest)| manifest);
                    (Files { manifest, digest: None, component: Err(problem) }, None)
                }
            },
        });
        read.await.unwrap_or_else(|error| {
            let (file, reason) = (found.path.clone(), error.to_string());
            let component = Err(Problem::Unreadable { file, reason });
            (Files { manifest: None, digest: None, component }, None)
        })
    }

    async fn make_ready(
        &self,
        component: Component,
        manifest: &Manifest,
        digest: &Digest,
    ) -> Readiness {
        match self.compile(component, manifest, digest).await {
            Ok(loaded) => Readiness::Ready(Arc::new(loaded)),
            Err(problem) => Readiness::Broken(problem),
        }
    }

    /// Compiles, loads and checks a component.
    pub(super) async fn compile(
        &self,
        component: Component,
        manifest: &Manifest,
        digest: &Digest,
    ) -> Result<Loaded, Problem> {
        let loader = Loader {
            machine: &self.machine,
            cache_folder: &self.settings.cache_folder,
            compiler: &self.settings.compiler,
        };
        loader.load(component, manifest, digest).await
    }

    /// What the configuration grants to a plugin, whichever component it means.
    pub(super) fn configured(&self, plugin: &PluginId) -> Option<&Grant> {
        self.settings.grants.iter().find(|grant| grant.plugin == *plugin)
    }

    /// What is written down of a plugin.
    pub(super) fn record(&self, plugin: &PluginId) -> Record {
        match self.registry.entries().get(plugin) {
            Some(Entry::Known(record)) => Record::clone(record),
            Some(Entry::Damaged(_)) | None => Record::default(),
        }
    }

    /// Why a plugin does not run.
    pub(super) fn cannot_run(&self, plugin: &Plugin) -> Option<HookError> {
        let id = plugin.found.id();
        Some(match &plugin.state {
            Readiness::Ready(_) => return None,
            Readiness::Broken(problem) => HookError::Broken {
                plugin: super::log::shortened(&plugin.found.name, 128),
                problem: problem.clone(),
            },
            Readiness::Disabled => HookError::Disabled { plugin: id },
            Readiness::Off(off) => HookError::SwitchedOff {
                plugin: id,
                point: off.point,
                failure: off.failure.clone(),
            },
            Readiness::Waiting => HookError::NotGranted { plugin: id },
            Readiness::Void => match (&plugin.standing.holds, &plugin.digest) {
                (Holds::Configured(grant), Some(digest)) if grant.component != *digest => {
                    let needs =
                        plugin.manifest.iter().flat_map(|manifest| all_words(&manifest.needs));
                    let (component, needs) = (digest.clone(), needs.collect());
                    HookError::GrantOfAnother { plugin: id, component, needs }
                }
                (
                    Holds::Configured(_) | Holds::AllBut(_) | Holds::Granted(_) | Holds::Nothing,
                    Some(_) | None,
                ) => HookError::GrantVoid { plugin: id },
            },
        })
    }

    /// The plugins in the circle that there is as soon as one with this manifest takes part.
    pub(super) async fn circle_with(
        &self,
        manifest: &Manifest,
    ) -> Result<Option<Vec<PluginId>>, HookError> {
        let plugins = self.refresh().await?;
        let others = plugins.iter().filter_map(|plugin| plugin.manifest.as_ref());
        let others: Vec<_> = others.filter(|other| other.id != manifest.id).collect();
        let circle = HookPoint::ALL.into_iter().find_map(|point| {
            match order_of(others.iter().copied().chain([manifest]), point) {
                // One without it was there before.
                Err(HookError::Circle { plugins }) if plugins.contains(&manifest.id) => {
                    Some(plugins)
                }
                Ok(_) | Err(_) => None,
            }
        });
        Ok(circle)
    }

    /// Whether all plugins that take part can run.
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
pub(super) fn is_required(plugin: &Plugin) -> bool {
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
    order_of(plugins.iter().filter_map(|plugin| plugin.manifest.as_ref()), point)
}

fn order_of<'a>(
    manifests: impl Iterator<Item = &'a Manifest>,
    point: HookPoint,
) -> Result<Order, HookError> {
    let wishes = manifests.filter_map(|manifest| {
        let rules = manifest.hooks.get(&point)?;
        Some(Wishes { id: &manifest.id, after: &rules.after, before: &rules.before })
    });
    Order::new(&wishes.collect::<Vec<_>>())
}
