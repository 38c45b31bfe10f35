//! What users do with plugins: look, install, remove. `granting` has the rest.
//!
//! ```text
//!  path ─▶ files read once, signature ─▶ compiled, imports and exports checked ─▶ started once
//!                                                                                     │
//!                      record written ◀─ renamed to its place ◀─ copied beside ◀──────┘
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::failure::Failure;
use super::files::Component;
use super::granting::granted_words;
use super::host::HookHost;
use super::limits;
use super::package::Package;
use super::plugin::{Loaded, Plugin, Readiness};
use super::problem::Problem;
use super::registry::{
    ChangeError, Entry, Fit, GrantError, InstallError, Missing, Placed, Record, circle,
};
use super::run::explain;
use super::signature::Signed;
use super::state::{Chance, store};
use crate::id::{Digest, PluginId};
use crate::wire::rpc::{Happening, HookDetails, HookInstalled, InspectHook, InstallOutcome};

/// How long an installation waits for others: as long as the compiler may take.
const PATIENCE: Duration = Duration::from_secs(480);
/// How long a component may take to be started once.
const START: Duration = Duration::from_secs(10);

/// A plugin's files, compiled and started once.
pub(super) struct Tried {
    pub(super) package: Package,
    loaded: Loaded,
}

/// What became of a package that was put into the registry.
pub(super) struct Kept {
    pub(super) record: Record,
    placed: Placed,
    /// The plugins with which it would run in a circle.
    circle: Option<Vec<PluginId>>,
}

impl Kept {
    /// What is said of a version that does not take part yet.
    fn waits(&self, id: &PluginId, version: &str, key: &Digest) -> Vec<String> {
        let waits = self.record.pending.as_ref().is_some_and(|pending| pending.key == *key);
        let note = match (self.placed, active(&self.record)) {
            (Placed::Pending | Placed::Unchanged, Some(runs)) if waits => format!(
                "{version} does not take part before you grant it; {runs} goes on until then: `cove hook grant {id}`"
            ),
            (Placed::Pending | Placed::Unchanged, None) => format!(
                "it does not take part before you grant it what it asks for: `cove hook grant {id}`"
            ),
            (Placed::Pending | Placed::Unchanged, Some(_)) | (Placed::Active, _) => {
                return Vec::new();
            }
        };
        let circle = self
            .circle
            .iter()
            .map(|plugins| format!("as things are it cannot: {}", circle(plugins)));
        std::iter::once(note).chain(circle).collect()
    }
}

/// The version that takes part.
fn active(record: &Record) -> Option<String> {
    record.active.as_ref().map(|active| active.release.version.clone())
}

impl HookHost {
    /// All that is known of a plugin, or of files that need not be installed.
    ///
    /// # Errors
    /// When there is none, or the files are no plugin's.
    pub async fn inspect(&self, wanted: InspectHook) -> Result<HookDetails, GrantError> {
        match wanted {
            InspectHook { plugin: Some(plugin), path: None } => self.details(&plugin).await,
            InspectHook { plugin: None, path: Some(path) } => {
                let tried = self.try_out(Path::new(&path)).await;
                let tried = tried.map_err(|error| GrantError::Files(Box::new(error)))?;
                Ok(self.catalog.details_of_files(&tried.package, &tried.loaded))
            }
            InspectHook { .. } => Err(GrantError::NotSaid),
        }
    }

    /// Installs a plugin, or another version of it.
    ///
    /// # Errors
    /// When the files are not a plugin that can be used, or cannot be kept. Nothing of them is left.
    pub async fn install(&self, path: &Path) -> Result<HookInstalled, InstallError> {
        let Tried { package, loaded: _ } = self.try_out(path).await?;
        let (id, version) = (package.manifest.id.clone(), package.manifest.version.clone());
        let key = package.key();
        let before = self.catalog.record(&id);
        let unverified = package.signed == Signed::ByUnknown;
        let was_off = before.failures.as_ref().is_some_and(|failures| failures.off.is_some());
        let kept = self.keep(package).await?;
        let placed = kept.placed;
        if placed != Placed::Unchanged {
            self.tell(Happening::HookInstalled {
                plugin: id.clone(),
                version: version.clone(),
                pending: placed == Placed::Pending,
                before: active(&before),
            });
        }
        let plugin = self.details(&id).await.map_err(|error| match error {
            GrantError::Look(error) => InstallError::Look(error),
            other => InstallError::Gone(other.to_string()),
        })?;
        let mut notes = Vec::new();
        if unverified {
            notes.push(
                "its signature is of a key that is not in `hooks.signers`, and says nothing"
                    .to_owned(),
            );
        }
        if was_off && placed == Placed::Active {
            notes.push(format!("`{id}` was switched off; this version is on"));
            self.tell(Happening::HookSwitchedOn { plugin: id.clone(), version: version.clone() });
        }
        notes.extend(kept.waits(&id, &version, &key));
        let outcome = match placed {
            Placed::Active => InstallOutcome::Active,
            Placed::Pending => InstallOutcome::PendingGrant,
            Placed::Unchanged => InstallOutcome::Unchanged,
        };
        Ok(HookInstalled { plugin, version, outcome, notes })
    }

    /// Removes an installed plugin with its grant and what it remembers. Of a plugin that came with cove a
    /// record that cannot be read is removed, and nothing else.
    ///
    /// # Errors
    /// When there is no such plugin, it came with cove, or its files cannot be removed.
    pub async fn remove(&self, id: &PluginId) -> Result<(), GrantError> {
        let standard = self.catalog.is_standard(id).await.map_err(GrantError::Look)?;
        match (self.catalog.registry.entries().get(id), standard) {
            (Some(Entry::Damaged(_)), true) | (Some(_), false) => {}
            (Some(Entry::Known(_)) | None, true) => {
                return Err(GrantError::Standard { plugin: id.clone() });
            }
            (None, false) => return Err(GrantError::NotThere { plugin: id.clone() }),
        }
        let (catalog, memory, gone) =
            (Arc::clone(&self.catalog), Arc::clone(&self.memory), id.clone());
        let removed = tokio::task::spawn_blocking(move || {
            // In this order: what is left halfway is still an installed plugin.
            if !standard {
                memory.forget(&gone).map_err(ChangeError::Disk)?;
            }
            catalog.registry.remove(&gone)
        });
        let removed = removed.await.unwrap_or_else(|error| Err(ChangeError::Disk(error.into())));
        removed.map_err(|error| GrantError::of(id, self.registry_folder(), error))?;
        if !standard {
            self.tell(Happening::HookRemoved { plugin: id.clone() });
            return Ok(());
        }
        // Nobody knows any more what was revoked of it.
        tracing::warn!(plugin = %id, "removed its record; what was revoked of it is granted again");
        let plugin = self.details(id).await?;
        let (version, needs) = (plugin.hook.version.clone(), granted_words(&plugin));
        self.tell(Happening::HookGranted { plugin: id.clone(), version, needs });
        Ok(())
    }

    /// Reads, compiles and starts a plugin's files once.
    pub(super) async fn try_out(&self, path: &Path) -> Result<Tried, InstallError> {
        let turn = tokio::time::timeout(PATIENCE, self.installing.acquire()).await;
        let _turn = turn.map_err(|_| InstallError::Busy(PATIENCE))?;
        let (path, rules) = (path.to_owned(), self.catalog.settings.signatures.clone());
        let read = tokio::task::spawn_blocking(move || Package::read(&path, &rules)).await;
        let package = read.unwrap_or_else(|error| {
            let (file, reason) = (PathBuf::new(), error.to_string());
            Err(Problem::Unreadable { file, reason })
        });
        let package = package.map_err(InstallError::Unusable)?;
        let path = package.component_path();
        let component = Component { path: path.clone(), bytes: package.component.clone() };
        let loaded = self.catalog.compile(component, &package.manifest, &package.digest).await;
        let loaded = loaded.map_err(InstallError::Unusable)?;
        if let Err(failure) = start(&loaded, &package, &self.turns).await {
            let failure = failure.to_string();
            return Err(InstallError::Unusable(Problem::Instantiate { file: path, failure }));
        }
        Ok(Tried { package, loaded })
    }

    /// Puts a package into the registry.
    pub(super) async fn keep(&self, package: Package) -> Result<Kept, InstallError> {
        let id = package.manifest.id.clone();
        if self.catalog.is_standard(&id).await.map_err(InstallError::Look)? {
            return Err(InstallError::Standard { plugin: id });
        }
        let _alone = self.letting_in.acquire().await;
        let circle = self.catalog.circle_with(&package.manifest).await;
        let circle = circle.map_err(InstallError::Look)?;
        let configured = self.catalog.configured(&id);
        if let (Some(plugins), Some(grant)) = (&circle, configured)
            && grant.component == package.digest
        {
            return Err(InstallError::Circle { plugin: id, plugins: plugins.clone() });
        }
        let fit = if circle.is_some() { Fit::InACircle } else { Fit::Fits };
        let (catalog, memory) = (Arc::clone(&self.catalog), Arc::clone(&self.memory));
        let kept = tokio::task::spawn_blocking(move || {
            let id = &package.manifest.id;
            // What another plugin of this id remembered is none of its business.
            if !catalog.registry.entries().contains_key(id) {
                memory.forget(id)?;
            }
            let configured = catalog.configured(id);
            catalog.registry.install(&package, &package.release(), configured, fit)
        });
        let kept = kept.await.unwrap_or_else(|error| Err(ChangeError::Disk(error.into())));
        let folder = self.registry_folder();
        let kept = kept.map(|(record, placed)| Kept { record, placed, circle });
        kept.map_err(|error| match error {
            ChangeError::Damaged(problem) => InstallError::Unusable(problem),
            ChangeError::TooMany => InstallError::TooMany { limit: limits::PLUGINS },
            ChangeError::Disk(source) => InstallError::Keep { plugin: id, folder, source },
            ChangeError::NoRecord => {
                let source = std::io::ErrorKind::NotFound.into();
                InstallError::Keep { plugin: id, folder, source }
            }
        })
    }

    pub(super) async fn change<T: Send + 'static>(
        &self,
        id: &PluginId,
        missing: Missing,
        change: impl FnOnce(Record) -> (Record, T) + Send + 'static,
    ) -> Result<(Record, T), GrantError> {
        let (catalog, of) = (Arc::clone(&self.catalog), id.clone());
        let changed =
            tokio::task::spawn_blocking(move || catalog.registry.change(&of, missing, change))
                .await;
        let changed = changed.unwrap_or_else(|error| Err(ChangeError::Disk(error.into())));
        changed.map_err(|error| GrantError::of(id, self.registry_folder(), error))
    }

    pub(super) async fn details(&self, id: &PluginId) -> Result<HookDetails, GrantError> {
        let details = self.catalog.details(id).await.map_err(GrantError::Look)?;
        details.ok_or_else(|| GrantError::NotThere { plugin: id.clone() })
    }

    pub(super) async fn plugin(&self, id: &PluginId) -> Result<Arc<Plugin>, GrantError> {
        let found = self.catalog.one(id).await.map_err(GrantError::Look)?;
        let plugin = found.ok_or_else(|| GrantError::NotThere { plugin: id.clone() })?;
        match &plugin.state {
            Readiness::Broken(problem @ Problem::Record { .. }) => {
                let (plugin, problem) = (id.clone(), problem.clone());
                Err(GrantError::Damaged { plugin, problem })
            }
            Readiness::Ready(_)
            | Readiness::Disabled
            | Readiness::Off(_)
            | Readiness::Waiting
            | Readiness::Void
            | Readiness::Broken(_) => Ok(plugin),
        }
    }

    fn registry_folder(&self) -> PathBuf {
        self.catalog.settings.registry_folder.clone()
    }
}

/// Starts a component once, within the limits of a run, in one of the places for hooks that run at once.
async fn start(loaded: &Loaded, package: &Package, turns: &Arc<Semaphore>) -> Result<(), Failure> {
    let place = tokio::time::timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        let taken = "other hooks hang, and all places for hooks are taken: try again later";
        return Err(Failure::Instantiate(taken.to_owned()));
    };
    let (pre, clock) = (loaded.pre.clone(), Arc::clone(&loaded.clock));
    let (limits, digest): (_, Digest) = (package.manifest.limits, package.digest.clone());
    let runtime = tokio::runtime::Handle::current();
    let started = tokio::task::spawn_blocking(move || {
        let (_place, _ticking) = (place, clock.run());
        let chance = Chance::of("", &digest);
        let mut store = store(pre.engine(), &limits, &chance, Arc::new(AtomicBool::new(false)));
        let start = async { pre.instantiate_async(&mut store).await.map(drop) };
        match runtime.block_on(async { tokio::time::timeout(START, start).await }) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(explain(&error, store.data_mut())),
            Err(_) => Err(Failure::Wall(START)),
        }
    });
    started.await.unwrap_or_else(|error| Err(Failure::Instantiate(error.to_string())))
}
