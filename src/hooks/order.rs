//! The order in which plugins run: by `after` and `before`, ties by id.

use std::collections::{BTreeMap, BTreeSet};

use super::error::HookError;
use crate::id::PluginId;

/// What one plugin says about the order. Plugins that are not there do not matter.
#[derive(Debug)]
pub(super) struct Wishes<'a> {
    pub(super) id: &'a PluginId,
    pub(super) after: &'a [PluginId],
    pub(super) before: &'a [PluginId],
}

/// The order, and what was said about it.
#[derive(Debug)]
pub(super) struct Order {
    /// The plugins in the order in which they run.
    sequence: Vec<PluginId>,
    /// For each plugin those that must have run before it.
    earlier: BTreeMap<PluginId, BTreeSet<PluginId>>,
}

impl Order {
    pub(super) fn new(plugins: &[Wishes<'_>]) -> Result<Self, HookError> {
        let mut earlier: BTreeMap<_, _> =
            plugins.iter().map(|plugin| (plugin.id.clone(), BTreeSet::new())).collect();
        for plugin in plugins {
            for other in plugin
                .after
                .iter()
                .filter(|other| earlier.contains_key(*other))
                .cloned()
                .collect::<Vec<_>>()
            {
                earlier.entry(plugin.id.clone()).or_default().insert(other);
            }
            for other in plugin.before {
                if let Some(before) = earlier.get_mut(other) {
                    before.insert(plugin.id.clone());
                }
            }
        }
        let mut waiting: BTreeSet<_> = earlier.keys().cloned().collect();
        let mut sequence = Vec::new();
        while !waiting.is_empty() {
            let ready = |id: &&PluginId| earlier[*id].iter().all(|other| !waiting.contains(other));
            let Some(next) = waiting.iter().find(ready).cloned() else {
                return Err(HookError::Circle { plugins: circle(&earlier, &waiting) });
            };
            waiting.remove(&next);
            sequence.push(next);
        }
        Ok(Self { sequence, earlier })
    }

    /// The place of a plugin.
    pub(super) fn place(&self, plugin: &PluginId) -> Option<usize> {
        self.sequence.iter().position(|other| other == plugin)
    }

    /// Have the manifests said, directly or through others, that `first` runs before `second`?
    pub(super) fn is_declared(&self, first: &PluginId, second: &PluginId) -> bool {
        let mut open: Vec<_> = self.earlier.get(second).into_iter().flatten().collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if id == first {
                return true;
            }
            if seen.insert(id) {
                open.extend(self.earlier.get(id).into_iter().flatten());
            }
        }
        false
    }
}

/// One circle among the plugins that wait for each other.
fn circle(
    earlier: &BTreeMap<PluginId, BTreeSet<PluginId>>,
    waiting: &BTreeSet<PluginId>,
) -> Vec<PluginId> {
    let mut path: Vec<PluginId> = Vec::new();
    let mut next = waiting.first();
    while let Some(id) = next {
        if let Some(start) = path.iter().position(|seen| seen == id) {
            return path.split_off(start);
        }
        path.push(id.clone());
        next = earlier[id].iter().find(|other| waiting.contains(*other));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Explain;

    /// Each plugin as `id>after,after<before`.
    fn order(plugins: &[&str]) -> Result<Vec<String>, HookError> {
        let ids = |text: &str| -> Vec<PluginId> {
            text.split(',')
                .filter(|id| !id.is_empty())
                .map(|id| id.parse().expect("an id"))
                .collect()
        };
        let plugins: Vec<(PluginId, Vec<_>, Vec<_>)> = plugins
            .iter()
            .map(|text| {
                let (text, before) = text.split_once('<').unwrap_or((text, ""));
                let (id, after) = text.split_once('>').unwrap_or((text, ""));
                (id.parse().expect("an id"), ids(after), ids(before))
            })
            .collect();
        let wishes: Vec<_> =
            plugins.iter().map(|(id, after, before)| Wishes { id, after, before }).collect();
        Order::new(&wishes).map(|order| order.sequence.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn order_follows_wishes_and_then_names() {
        for (plugins, expected) in [
            (vec!["b", "a"], vec!["a", "b"]),
            (vec!["a>b", "b"], vec!["b", "a"]),
            (vec!["b<a", "a"], vec!["b", "a"]),
            (vec!["a>absent", "b<absent"], vec!["a", "b"]),
            (vec!["c", "a>z", "z", "b"], vec!["b", "c", "z", "a"]),
        ] {
            assert_eq!(order(&plugins).expect("no circle"), expected, "{plugins:?}");
        }
    }

    #[test]
    fn a_circle_is_named_without_those_behind_it() {
        let error = order(&["a>b", "b>c", "c>b", "d"]).expect_err("a circle");
        assert_eq!(error.to_string(), "the plugins `b` and `c` each want to run before the other");
        assert!(error.hint().is_some_and(|hint| hint.contains("`hooks.disabled`")), "the way out");
        assert!(order(&["a>a"]).is_err(), "after itself");
    }
}
