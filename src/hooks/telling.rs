//! What is told and kept of how plugins do: events, and the failures of optional ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::is_required;
use super::failure::Failure;
use super::files::Home;
use super::host::HookHost;
use super::outcome::Weight;
use super::plugin::Plugin;
use super::registry::{Came, Missing, Record};
use super::run::Ended;
use crate::vm::events::Events;
use crate::wire::rpc::{Happening, Hook, HookPoint};

impl HookHost {
    /// From now on, what happens to plugins is told there.
    pub fn tell_to(&self, events: Events) {
        self.events.get_or_init(|| events);
    }

    pub(super) fn tell(&self, what: Happening) {
        if let Some(events) = self.events.get() {
            events.publish(what);
        }
    }

    /// How often in a row a plugin that takes part has failed, at which hook points. Only optional ones are
    /// counted.
    #[must_use]
    pub fn failures(&self, hook: &Hook) -> BTreeMap<HookPoint, u32> {
        let failures = self.catalog.record(&hook.plugin).failures;
        let of_this = failures.filter(|failures| failures.component == hook.digest);
        of_this.map(|failures| failures.in_a_row).unwrap_or_default()
    }

    /// Counts the failures of an optional plugin, and switches it off after too many in a row.
    pub(super) async fn note(
        &self,
        plugin: &Arc<Plugin>,
        point: HookPoint,
        weight: Weight,
        ended: &Ended,
    ) {
        let came = match &ended.result {
            // Neither is the plugin's doing.
            Err(Failure::Cancelled | Failure::Phase(_)) => return,
            Err(failure) => Came::Badly(failure.to_string()),
            Ok(_) => Came::Well,
        };
        let id = plugin.found.id();
        let known = self.catalog.record(&id).failures.is_some();
        let (Some(digest), false) = (plugin.digest.clone(), is_required(plugin)) else {
            return;
        };
        if weight == Weight::Required || (matches!(came, Came::Well) && !known) {
            return;
        }
        let catalog = Arc::clone(&self.catalog);
        let (of, now) = (id.clone(), crate::vm::now());
        let missing = match plugin.found.home {
            Home::Standard => Missing::IsEmpty,
            // It may have been removed while it ran.
            Home::Registry | Home::Stranger => Missing::IsAnError,
        };
        let noted = tokio::task::spawn_blocking(move || {
            let note = |record: Record| record.note(&digest, point, &came, now);
            catalog.registry.change(&of, missing, note)
        });
        match noted.await {
            Ok(Ok((_, Some(off)))) => {
                tracing::warn!(plugin = %id, %point, failure = off.failure, "switched a plugin off");
                self.tell(Happening::HookSwitchedOff {
                    plugin: id,
                    version: plugin.version(),
                    point,
                    failure: off.failure,
                });
            }
            Ok(Ok((_, None))) => {}
            Ok(Err(error)) => {
                tracing::warn!(plugin = %id, ?error, "cannot write down how a plugin does");
            }
            Err(error) => {
                tracing::error!(plugin = %id, %error, "cannot write down how a plugin does")
            }
        }
    }
}
