//! What was loaded of each plugin, and when. Knows nothing of how that is done.
//!
//! To load a plugin can take minutes, if it must be compiled. So one caller does it, others that want the same
//! plugin wait for that, and nobody waits for a plugin that is not wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::files::Found;
use super::plugin::{Plugin, Readiness};
use super::standing::Standing;

/// What was loaded last of the plugin in one place. Held while it is loaded.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// A plugin as it was when it was loaded.
pub(super) struct Known {
    pub(super) plugin: Arc<Plugin>,
    since: Instant,
}

impl Known {
    pub(super) fn now(plugin: Plugin) -> Self {
        Self { plugin: Arc::new(plugin), since: Instant::now() }
    }

    /// Whether loading it again would come to the same: files and decisions are as they were, and it has no
    /// problem that passes by itself.
    pub(super) fn holds(&self, found: &Found, standing: &Standing) -> bool {
        self.plugin.found == *found
            && self.plugin.standing == *standing
            && is_still(&self.plugin.state, self.since.elapsed())
    }
}

/// Whether a state of so long ago is taken to be the state now.
fn is_still(state: &Readiness, age: Duration) -> bool {
    match state {
        Readiness::Broken(problem) => problem.lasts().is_none_or(|lasts| age < lasts),
        Readiness::Ready(_)
        | Readiness::Disabled
        | Readiness::Off(_)
        | Readiness::Waiting
        | Readiness::Void => true,
    }
}

/// The slots of all plugins, by their folders.
#[derive(Default)]
pub(super) struct Slots(Mutex<BTreeMap<PathBuf, Slot>>);

impl Slots {
    /// The slot of the plugin in a folder.
    pub(super) fn of(&self, folder: &Path) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(folder.to_owned()).or_default())
    }

    /// Gives up what is known of all plugins but those in these folders.
    pub(super) fn keep_only(&self, folders: &BTreeSet<&Path>) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|folder, _| folders.contains(folder.as_path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::problem::Problem;

    #[test]
    fn what_passes_by_itself_is_looked_at_again() {
        let (file, reason) = (PathBuf::from("/plugin.wasm"), String::new());
        let (now, later) = (Duration::ZERO, Duration::from_secs(3600));
        for (problem, at_once, then) in [
            (Problem::NoRoom { folder: file.clone() }, false, false),
            (Problem::Cache { folder: file.clone(), reason: reason.clone() }, false, false),
            (Problem::Unreadable { file: file.clone(), reason: reason.clone() }, false, false),
            (Problem::Compile { file: file.clone(), reason: reason.clone() }, true, false),
            (Problem::Manifest { file: file.clone(), reason }, true, true),
            (Problem::Missing { file }, true, true),
        ] {
            let state = Readiness::Broken(problem.clone());
            assert_eq!(
                (is_still(&state, now), is_still(&state, later)),
                (at_once, then),
                "{problem}"
            );
        }
        assert!(is_still(&Readiness::Void, later), "nothing else passes by itself");
    }
}
