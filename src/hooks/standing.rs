//! What the operator has decided about a plugin: by the registry's record, and by the configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::{Grant, Granted};
use super::registry::{GrantRecord, Off, Record, Release, Revoked};
use super::source::{HostFilesSource, HostPath};
use super::words::digest_of_words;
use crate::id::Digest;

/// The decisions. When they are equal to earlier ones, nothing was decided since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// The release as it was installed; none of what came with cove.
    pub(super) release: Option<Release>,
    pub(super) holds: Holds,
    /// That it was switched off, for which component.
    off: Option<(Digest, Off)>,
    pub(super) disabled: Disabled,
}

/// Whether the configuration switches a plugin off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disabled {
    Yes,
    No,
}

/// What a plugin holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// Everything but these: it came with cove.
    AllBut(BTreeSet<String>),
    /// These, given by the configuration to exactly one component.
    Configured(Grant),
    /// These, given to exactly one component with exactly these needs.
    Granted(GrantRecord),
    Nothing,
}

impl Standing {
    /// Of a plugin that came with cove.
    pub(super) fn of_standard(record: Option<&Record>, disabled: Disabled) -> Self {
        let holds = match record.map(|record| &record.revoked) {
            None | Some(Revoked::Nothing) => Holds::AllBut(BTreeSet::new()),
            Some(Revoked::Words(words)) => Holds::AllBut(words.clone()),
            Some(Revoked::Everything) => Holds::Nothing,
        };
        Self { release: None, holds, off: record.and_then(off), disabled }
    }

    /// Of an installed plugin; none when no release of it is. What the configuration grants decides alone.
    pub(super) fn of_installed(
        record: &Record,
        configured: Option<&Grant>,
        disabled: Disabled,
    ) -> Option<Self> {
        let (release, holds) = match (configured, &record.active) {
            (Some(grant), _) => {
                let fits = |release: &&Release| release.component == grant.component;
                let release = record.releases().find(fits).or(record.releases().next())?;
                (release, Holds::Configured(grant.clone()))
            }
            (None, Some(active)) => {
                let holds = active.grant.clone().map_or(Holds::Nothing, Holds::Granted);
                (&active.release, holds)
            }
            (None, None) => (record.pending.as_ref()?, Holds::Nothing),
        };
        Some(Self { release: Some(release.clone()), holds, off: off(record), disabled })
    }

    /// Of what nobody has installed.
    pub(super) fn of_stranger() -> Self {
        Self { release: None, holds: Holds::Nothing, off: None, disabled: Disabled::No }
    }

    /// Whether anything was granted, even if to other files.
    pub(super) fn is_granted(&self) -> bool {
        match self.holds {
            Holds::AllBut(_) | Holds::Configured(_) | Holds::Granted(_) => true,
            Holds::Nothing => false,
        }
    }

    /// What is granted, as far as it holds for the files there are.
    pub(super) fn granted(&self) -> Granted<'_> {
        match &self.holds {
            Holds::AllBut(revoked) if revoked.is_empty() => Granted::All,
            Holds::AllBut(revoked) => Granted::AllBut(revoked),
            Holds::Configured(grant) => Granted::Words(&grant.needs),
            Holds::Granted(grant) => Granted::Words(&grant.words),
            Holds::Nothing => Granted::Nothing,
        }
    }

    /// What its rights come from, as the log of hook runs has it: `standard`, the digest of a grant, or
    /// `none`.
    pub(super) fn name(&self) -> String {
        let (component, words, files) = match &self.holds {
            Holds::AllBut(_) => return "standard".to_owned(),
            Holds::Nothing => return "none".to_owned(),
            Holds::Configured(grant) => (&grant.component, &grant.needs, &grant.host_files),
            Holds::Granted(grant) => (&grant.component, &grant.words, &grant.host_files),
        };
        let files = files
            .iter()
            .flat_map(|(name, paths)| paths.iter().map(move |path| format!("{name}={path}")));
        let all = std::iter::once(component.to_string()).chain(words.iter().cloned()).chain(files);
        Digest::of(all.collect::<Vec<_>>().join("\0").as_bytes()).to_string()
    }

    /// Whether what was granted was granted to these files.
    pub(super) fn is_for(
        &self,
        manifest: &Digest,
        component: &Digest,
        asks: &BTreeSet<String>,
    ) -> bool {
        let intact = self
            .release
            .as_ref()
            .is_none_or(|release| release.manifest == *manifest && release.component == *component);
        intact
            && match &self.holds {
                Holds::AllBut(_) | Holds::Nothing => true,
                Holds::Configured(grant) => grant.component == *component,
                Holds::Granted(grant) => {
                    grant.component == *component && grant.needs == digest_of_words(asks)
                }
            }
    }

    /// Whether a component was switched off.
    pub(super) fn off(&self, component: &Digest) -> Option<&Off> {
        self.off.as_ref().filter(|(of, _)| of == component).map(|(_, off)| off)
    }

    /// What stands behind the logical names of host files.
    pub(super) fn host_files(&self) -> BTreeMap<String, HostFilesSource> {
        let named = match &self.holds {
            Holds::Configured(grant) => &grant.host_files,
            Holds::Granted(grant) => &grant.host_files,
            Holds::AllBut(_) | Holds::Nothing => return BTreeMap::new(),
        };
        let path = |path: &String| HostPath { path: path.clone(), guest: None, mode: None };
        let source = |paths: &Vec<String>| HostFilesSource::Paths(paths.iter().map(path).collect());
        named.iter().map(|(name, paths)| (name.clone(), source(paths))).collect()
    }
}

fn off(record: &Record) -> Option<(Digest, Off)> {
    let failures = record.failures.as_ref()?;
    Some((failures.component.clone(), failures.off.clone()?))
}
