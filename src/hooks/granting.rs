//! What users let plugins have: grant, revoke.

use std::collections::{BTreeMap, BTreeSet};

use super::files::Home;
use super::host::HookHost;
use super::limits;
use super::log::shortened;
use super::manifest::Manifest;
use super::plugin::Plugin;
use super::problem::Problem;
use super::registry::{GrantError, Granting, InstallError, Missing, Record, Release};
use super::words::{all_words, asks_for_files};
use crate::id::{Digest, PluginId};
use crate::wire::rpc::{GrantHook, Happening, HookChanged, HookDetails, HookState, RevokeHook};

/// Paths that may stand behind all names of one plugin's files: each is looked at in every run that lists them.
const PATHS: usize = 64;
/// Bytes of a refused path that are shown.
const PATH_SHOWN: usize = 200;

impl HookHost {
    /// Grants a plugin what it asks for, or parts of that.
    ///
    /// # Errors
    /// When there is no such plugin, it does not ask for that, or the files are no more those that the user
    /// has seen.
    pub async fn grant(&self, wanted: GrantHook) -> Result<HookChanged, GrantError> {
        let id = wanted.plugin.clone();
        let plugin = self.plugin(&id).await?;
        let record = self.catalog.record(&id);
        let was_off = record.failures.as_ref().is_some_and(|failures| failures.off.is_some());
        let (after, version) = if self.is_configured(&plugin) {
            // All that a command can do here is to switch it on again.
            if !was_off || !wanted.needs.is_empty() || !wanted.host_files.is_empty() {
                return Err(GrantError::Configured { plugin: id });
            }
            let forgiven = |record: Record| (Record { failures: None, ..record }, ());
            let manifest = plugin.manifest.as_ref();
            let (after, ()) = self.let_in(&id, manifest, Missing::IsAnError, forgiven).await?;
            (after, plugin.version())
        } else if plugin.found.home == Home::Standard {
            (self.grant_standard(&plugin, wanted).await?, plugin.version())
        } else {
            self.grant_installed(&record, wanted).await?
        };
        self.granted(&id, version, was_off, &after).await
    }

    /// Gives a plugin that came with cove back what was taken.
    async fn grant_standard(
        &self,
        plugin: &Plugin,
        wanted: GrantHook,
    ) -> Result<Record, GrantError> {
        let GrantHook { plugin: id, needs, host_files, release: _ } = wanted;
        let asks = plugin.manifest.as_ref().map(|manifest| all_words(&manifest.needs));
        let asks = asks.unwrap_or_default();
        let words = chosen(&id, needs.into_iter().collect(), &asks)?;
        check_mapping(&id, &host_files, 0, &BTreeSet::new())?;
        let granted = move |record: Record| (record.grant_standard(&words, &asks), ());
        let manifest = plugin.manifest.as_ref();
        Ok(self.let_in(&id, manifest, Missing::IsEmpty, granted).await?.0)
    }

    /// Grants an installed plugin what it asks for. Returns which version that was, too.
    async fn grant_installed(
        &self,
        record: &Record,
        wanted: GrantHook,
    ) -> Result<(Record, String), GrantError> {
        let GrantHook { plugin: id, needs, host_files, release } = wanted;
        let (target, manifest) = self.target(&id, record, release.as_ref()).await?;
        let words = chosen(&id, needs.into_iter().collect(), &target.asks)?;
        let others = record.paths_beside(&host_files, &target.asks);
        check_mapping(&id, &host_files, others, &target.asks)?;
        let granting = Granting {
            words,
            host_files,
            uid: nix::unistd::geteuid().as_raw(),
            at: crate::vm::now(),
        };
        let key = target.key.clone();
        let granted = move |record: Record| match record.candidate() {
            Some(candidate) if candidate.key == key => (record.grant(granting), true),
            Some(_) | None => (record, false),
        };
        let (after, same) = self.let_in(&id, Some(&manifest), Missing::IsAnError, granted).await?;
        match same {
            true => Ok((after, target.version)),
            false => Err(GrantError::Changed { plugin: id }),
        }
    }

    /// Changes the record of a plugin so that it takes part, unless it would do so in a circle.
    async fn let_in<T: Send + 'static>(
        &self,
        id: &PluginId,
        manifest: Option<&Manifest>,
        missing: Missing,
        change: impl FnOnce(Record) -> (Record, T) + Send + 'static,
    ) -> Result<(Record, T), GrantError> {
        let _alone = self.letting_in.acquire().await;
        if let Some(manifest) = manifest {
            let circle = self.catalog.circle_with(manifest).await.map_err(GrantError::Look)?;
            if let Some(plugins) = circle {
                return Err(GrantError::Circle { plugin: id.clone(), plugins });
            }
        }
        self.change(id, missing, change).await
    }

    /// Tells of a grant, and what the user should know of it.
    async fn granted(
        &self,
        id: &PluginId,
        version: String,
        was_off: bool,
        after: &Record,
    ) -> Result<HookChanged, GrantError> {
        let plugin = self.details(id).await?;
        let mut notes = Vec::new();
        if was_off {
            notes.push(format!("`{id}` was switched off, and is on again"));
            self.tell(Happening::HookSwitchedOn { plugin: id.clone(), version: version.clone() });
        }
        let needs = granted_words(&plugin);
        self.tell(Happening::HookGranted { plugin: id.clone(), version, needs });
        let active = after.active.as_ref().and_then(|active| active.grant.as_ref());
        for need in plugin.hook.needs.iter().filter(|need| need.kind.starts_with("host-files.")) {
            for name in need.what.iter().filter(|_| need.granted && !plugin.hook.standard) {
                if active.is_some_and(|grant| !grant.host_files.contains_key(name)) {
                    let note = format!(
                        "nothing stands behind its files `{name}` unless cove has some of that name: `cove hook grant {id} --map {name}=PATH`"
                    );
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
            }
        }
        let above = plugin.hook.needs.iter().flat_map(|need| &need.above_ceiling);
        let above: Vec<_> = above.cloned().collect();
        if !above.is_empty() {
            notes.push(format!("`hooks.ceiling` cuts `{}`", above.join("`, `")));
        }
        Ok(HookChanged { plugin, notes })
    }

    /// Takes back what a plugin was granted, or parts of that.
    ///
    /// # Errors
    /// When there is no such plugin, it does not ask for that, or the configuration grants it.
    pub async fn revoke(&self, wanted: RevokeHook) -> Result<HookChanged, GrantError> {
        let RevokeHook { plugin: id, needs } = wanted;
        let plugin = self.plugin(&id).await?;
        if self.is_configured(&plugin) {
            return Err(GrantError::Configured { plugin: id });
        }
        let words: BTreeSet<String> = needs.into_iter().collect();
        let record = self.catalog.record(&id);
        let asks = match (&plugin.manifest, record.active) {
            (_, Some(active)) => active.release.asks,
            (Some(manifest), None) => all_words(&manifest.needs),
            (None, None) => BTreeSet::new(),
        };
        if !words.is_empty() {
            chosen(&id, words.clone(), &asks)?;
        }
        let standard = plugin.found.home == Home::Standard;
        let missing = if standard { Missing::IsEmpty } else { Missing::IsAnError };
        let revoked = move |record: Record| {
            let before = record.clone();
            let after = match standard {
                true => record.revoke_standard(&words, &asks),
                false => record.revoke(&words),
            };
            let changed = after != before;
            (after, changed)
        };
        let (_, changed) = self.change(&id, missing, revoked).await?;
        let plugin = self.details(&id).await?;
        if !changed {
            let notes = vec![format!("`{id}` had nothing of that: all is as it was")];
            return Ok(HookChanged { plugin, notes });
        }
        let needs = granted_words(&plugin);
        let mut notes = Vec::new();
        match plugin.hook.state {
            HookState::PendingGrant => {
                notes.push(format!(
                    "`{id}` does not take part any more; `cove hook grant {id}` brings it back"
                ));
            }
            HookState::Active
            | HookState::Void
            | HookState::Off
            | HookState::Disabled
            | HookState::Broken => {}
        }
        self.tell(Happening::HookRevoked { plugin: id, needs });
        Ok(HookChanged { plugin, notes })
    }

    /// Whether the configuration decides what a plugin is granted. It never does for one that came with cove.
    fn is_configured(&self, plugin: &Plugin) -> bool {
        plugin.found.home != Home::Standard && self.catalog.configured(&plugin.found.id()).is_some()
    }

    /// The release that a grant is for, with its manifest. Where its files were replaced, those that are there now are installed
    /// in their place first.
    async fn target(
        &self,
        id: &PluginId,
        record: &Record,
        seen: Option<&Digest>,
    ) -> Result<(Release, Manifest), GrantError> {
        let gone = || GrantError::NotThere { plugin: id.clone() };
        let release = record.candidate().ok_or_else(gone)?.clone();
        let place = self.catalog.registry.place(id, &release.key);
        let unusable = |source| {
            let (plugin, source) = (id.clone(), Box::new(source));
            GrantError::Unusable { plugin, source }
        };
        let tried = self.try_out(&place).await.map_err(unusable)?;
        if tried.package.manifest.id != *id {
            let reason = "has a plugin of another id in it now";
            return Err(unusable(InstallError::Unusable(Problem::Name { path: place, reason })));
        }
        let key = tried.package.key();
        if seen.is_some_and(|seen| *seen != key) {
            return Err(GrantError::Changed { plugin: id.clone() });
        }
        let manifest = tried.package.manifest.clone();
        if key == release.key {
            return Ok((release, manifest));
        }
        let kept = self.keep(tried.package).await.map_err(unusable)?;
        let release = kept.record.candidate().cloned().ok_or_else(gone)?;
        Ok((release, manifest))
    }
}

/// The words that are meant: those that were said, or all that the plugin asks for.
fn chosen(
    id: &PluginId,
    words: BTreeSet<String>,
    asks: &BTreeSet<String>,
) -> Result<BTreeSet<String>, GrantError> {
    if words.is_empty() {
        return Ok(asks.clone());
    }
    match words.iter().find(|word| !asks.contains(*word)) {
        None => Ok(words),
        Some(word) => Err(GrantError::NotAsked {
            plugin: id.clone(),
            word: word.clone(),
            asks: asks.iter().cloned().collect(),
        }),
    }
}

/// Looks at paths that are to stand behind names of host files, where so many stand behind others already.
fn check_mapping(
    id: &PluginId,
    host_files: &BTreeMap<String, Vec<String>>,
    others: usize,
    asks: &BTreeSet<String>,
) -> Result<(), GrantError> {
    let all = others + host_files.values().map(Vec::len).sum::<usize>();
    for (name, paths) in host_files {
        let refused = |path: &str, reason| {
            let (plugin, name, path) = (id.clone(), name.clone(), shortened(path, PATH_SHOWN));
            Err(GrantError::Mapping { plugin, name, path, reason })
        };
        if !asks_for_files(asks, name) {
            let path = paths.first().map_or("", String::as_str);
            return refused(path, "it asks for no files of that name");
        }
        for path in paths {
            if !path.starts_with('/') && !path.starts_with("~/") && path != "~" {
                return refused(path, "it must be absolute or begin with `~/`");
            }
            if path.len() > limits::PATH_BYTES {
                return refused(path, "it is longer than paths can be");
            }
            if all > PATHS {
                return refused(
                    path,
                    "64 paths can stand behind all names of its files, and no more",
                );
            }
        }
    }
    Ok(())
}

/// All that a plugin has.
pub(super) fn granted_words(plugin: &HookDetails) -> Vec<String> {
    match &plugin.grant {
        Some(grant) => grant.needs.clone(),
        None => {
            let needs = plugin.hook.needs.iter();
            let words = needs.flat_map(|need| {
                let words = need.what.iter().map(|what| format!("{}:{what}", need.kind));
                let words =
                    if need.what.is_empty() { vec![need.kind.clone()] } else { words.collect() };
                words.into_iter().filter(|word| !need.missing.contains(word))
            });
            words.collect()
        }
    }
}
