//! Plugins as clients see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::catalog::{Catalog, order};
use super::error::HookError;
use super::files::{Found, Home};
use super::manifest::Manifest;
use super::needs::Granted;
use super::order::Order;
use super::package::Package;
use super::plugin::{Loaded, Plugin, Readiness};
use super::problem::Problem;
use super::registry::{Record, Release};
use super::standing::{Holds, Standing};
use super::words::{all_words, digest_of_words, shown};
use crate::id::PluginId;
use crate::report::Explain as _;
use crate::wire::rpc::{
    Hook, HookDetails, HookGrantShown, HookLimits, HookPoint, HookRelease, HookState,
};

impl Catalog {
    /// All plugins by the order in which they prepare a work disk, then those that do not take part; one that
    /// does not run says why.
    pub(super) async fn list(&self) -> Result<Vec<Hook>, HookError> {
        let plugins = self.all().await?;
        let taking_part: Vec<_> =
            plugins.iter().filter(|plugin| plugin.takes_part()).cloned().collect();
        let circle = HookPoint::ALL.into_iter().find_map(|point| order(&taking_part, point).err());
        let by_order = order(&taking_part, HookPoint::PrepareWorkDisk).ok();
        let place = |plugin: &Plugin| {
            let place = |order: &Order| order.place(&plugin.found.id());
            by_order.as_ref().and_then(place).unwrap_or(usize::MAX)
        };
        let mut sorted: Vec<&Arc<Plugin>> = plugins.iter().collect();
        sorted.sort_by_key(|plugin| (place(plugin), plugin.found.id()));
        let mut hooks: Vec<_> =
            sorted.into_iter().map(|plugin| self.shown(plugin, circle.as_ref())).collect();
        let failed = |source| {
            let folder = self.settings.registry_folder.clone();
            HookError::Folder { folder, source }
        };
        let strangers = self.registry.strangers().map_err(failed)?;
        hooks.extend(strangers.into_iter().map(|path| self.stranger(path)));
        Ok(hooks)
    }

    /// What was put into the registry's folder by hand.
    fn stranger(&self, path: std::path::PathBuf) -> Hook {
        let reason = "was not installed, and does not take part";
        let problem = Problem::Name { path: path.clone(), reason };
        let plugin = Plugin {
            found: Found::stranger(path),
            standing: Standing::of_stranger(),
            manifest: None,
            digest: None,
            manifest_digest: None,
            state: Readiness::Broken(problem),
        };
        self.shown(&plugin, None)
    }

    /// The plugin as lists have it.
    fn shown(&self, plugin: &Plugin, circle: Option<&HookError>) -> Hook {
        let manifest = plugin.manifest.as_ref();
        let needs = manifest.map_or(&[][..], |manifest| &manifest.needs);
        let problem = self.cannot_run(plugin);
        let problem = problem.as_ref().or(circle.filter(|_| plugin.takes_part()));
        let problem = problem.map(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        });
        let id = plugin.found.id();
        let pending = self.record(&id).pending.filter(|pending| {
            plugin.standing.release.as_ref().is_some_and(|release| release.key != pending.key)
        });
        Hook {
            version: plugin.version(),
            state: match &plugin.state {
                Readiness::Ready(_) => HookState::Active,
                Readiness::Disabled => HookState::Disabled,
                Readiness::Off(_) => HookState::Off,
                Readiness::Waiting => HookState::PendingGrant,
                Readiness::Void => HookState::Void,
                Readiness::Broken(_) => HookState::Broken,
            },
            hooks: manifest
                .into_iter()
                .flat_map(|manifest| manifest.hooks.keys().copied())
                .collect(),
            digest: plugin.component(),
            standard: plugin.found.home == Home::Standard,
            needs: shown(needs, plugin.granted(), &self.settings.ceiling),
            problem,
            pending: pending.map(|release| release.version),
            plugin: id,
        }
    }

    /// All that is known of a plugin; none where there is none of this id.
    pub(super) async fn details(&self, id: &PluginId) -> Result<Option<HookDetails>, HookError> {
        let Some(plugin) = self.one(id).await? else {
            return Ok(None);
        };
        let plugin = &plugin;
        let record = self.record(id);
        let loaded = match &plugin.state {
            Readiness::Ready(loaded) => Some(Arc::clone(loaded)),
            // Its compiled code is in the cache since it was installed.
            Readiness::Waiting | Readiness::Void | Readiness::Off(_) | Readiness::Disabled => {
                self.load_to_look(plugin).await
            }
            Readiness::Broken(_) => None,
        };
        let hook = self.shown(plugin, None);
        let details = known(hook, plugin.manifest.as_ref(), loaded.as_deref());
        let release = plugin.standing.release.as_ref();
        Ok(Some(HookDetails {
            manifest: plugin.manifest_digest.clone(),
            release: plugin.release_key(),
            signer: release.and_then(|release| release.signer.clone()),
            grant: grant(&plugin.standing),
            releases: releases(&record, release),
            failures: record.failures.as_ref().map(|one| one.in_a_row.clone()).unwrap_or_default(),
            asks_anew: asks_anew(&record),
            ..details
        }))
    }

    async fn load_to_look(&self, plugin: &Plugin) -> Option<Arc<Loaded>> {
        let (files, _) = self.read(&plugin.found).await;
        let (manifest, digest) = (files.manifest?, files.digest?);
        self.compile(files.component.ok()?, &manifest, &digest).await.ok().map(Arc::new)
    }

    /// All that is known of files that need not be installed.
    pub(super) fn details_of_files(&self, package: &Package, loaded: &Loaded) -> HookDetails {
        let manifest = &package.manifest;
        let hook = Hook {
            plugin: manifest.id.clone(),
            version: manifest.version.clone(),
            state: HookState::PendingGrant,
            hooks: manifest.hooks.keys().copied().collect(),
            digest: package.digest.clone(),
            standard: false,
            needs: shown(&manifest.needs, Granted::Nothing, &self.settings.ceiling),
            problem: None,
            pending: None,
        };
        HookDetails {
            manifest: Some(package.manifest_digest()),
            release: Some(package.key()),
            signer: package.signed.signer().cloned(),
            ..known(hook, Some(manifest), Some(loaded))
        }
    }
}

/// What a manifest and a component say of themselves.
fn known(hook: Hook, manifest: Option<&Manifest>, loaded: Option<&Loaded>) -> HookDetails {
    let limits = manifest.map(|manifest| manifest.limits);
    let asks = manifest.map(|manifest| all_words(&manifest.needs)).unwrap_or_default();
    let bytes = |bytes: usize| bytes as u64;
    HookDetails {
        hook,
        api: manifest.map_or_else(String::new, |manifest| manifest.api.clone()),
        class: limits.map_or("?", |limits| limits.class.as_str()).to_owned(),
        limits: HookLimits {
            memory_bytes: limits.map_or(0, |limits| bytes(limits.memory)),
            cpu_ms: limits
                .map_or(0, |limits| u64::try_from(limits.cpu.as_millis()).unwrap_or(u64::MAX)),
            output_bytes: limits.map_or(0, |limits| limits.staged_bytes),
            output_steps: limits.map_or(0, |limits| bytes(limits.staged_steps)),
        },
        imports: loaded.map(|loaded| loaded.imports.clone()).unwrap_or_default(),
        exports: loaded.map(|loaded| loaded.hooks.clone()).unwrap_or_default(),
        manifest: None,
        needs_digest: digest_of_words(&asks),
        release: None,
        signer: None,
        grant: None,
        releases: Vec::new(),
        failures: std::collections::BTreeMap::new(),
        asks_anew: Vec::new(),
    }
}

fn grant(standing: &Standing) -> Option<HookGrantShown> {
    let words = |words: &BTreeSet<String>| words.iter().cloned().collect();
    match &standing.holds {
        Holds::AllBut(_) | Holds::Nothing => None,
        Holds::Configured(grant) => Some(HookGrantShown {
            needs: words(&grant.needs),
            host_files: grant.host_files.clone(),
            by: "the configuration".to_owned(),
            at: None,
        }),
        Holds::Granted(grant) => Some(HookGrantShown {
            needs: words(&grant.words),
            host_files: grant.host_files.clone(),
            by: grant.by.to_string(),
            at: Some(grant.at.clone()),
        }),
    }
}

/// The installed releases; the one that counts first.
fn releases(record: &Record, counts: Option<&Release>) -> Vec<HookRelease> {
    let mut all: Vec<&Release> = record.releases().collect();
    all.sort_by_key(|release| counts.is_none_or(|counts| counts.key != release.key));
    let pending = |release: &Release| counts.is_none_or(|counts| counts.key != release.key);
    let shown = all.into_iter().map(|release| HookRelease {
        release: release.key.clone(),
        version: release.version.clone(),
        component: release.component.clone(),
        pending: pending(release) || record.active.is_none(),
        installed_at: release.installed_at.clone(),
        from: release.from.clone(),
        signer: release.signer.clone(),
    });
    shown.collect()
}

/// What a release that waits asks for, and the active one does not.
fn asks_anew(record: &Record) -> Vec<String> {
    match (&record.active, &record.pending) {
        (Some(active), Some(pending)) => {
            pending.asks.difference(&active.release.asks).cloned().collect()
        }
        (None | Some(_), None) | (None, Some(_)) => Vec::new(),
    }
}
