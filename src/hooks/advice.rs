//! What a user is told who really keeps something from a plugin: a grant, the ceiling, a setting or the manifest.

use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::plugin::Plugin;
use super::standing::Holds;
use crate::id::PluginId;

impl Catalog {
    /// How a plugin could have had what it was refused.
    pub(super) fn advice(&self, plugin: &Plugin, refused: &[String]) -> Option<String> {
        let manifest = plugin.manifest.as_ref()?;
        let first = refused.first()?;
        let id = &manifest.id;
        let granted = plugin.granted();
        let (mut asked, mut missing) = (false, BTreeSet::new());
        let (mut above, mut unlisted) = (BTreeSet::new(), None);
        for need in &manifest.needs {
            let words = |what| need.words_for(what).into_iter().map(move |word| (what, word));
            for (what, word) in refused.iter().flat_map(|what| words(what.as_str())) {
                let name = need.name_in(what).unwrap_or_default();
                asked = true;
                if !granted.has(&word) {
                    missing.insert(word);
                } else if !self.settings.ceiling.allows(need.kind, name) {
                    above.insert(word);
                } else if let Some((_, key)) = word.split_once(":@") {
                    unlisted = Some((name.to_owned(), key.to_owned(), word.clone()));
                }
            }
        }
        if !asked {
            let what = super::log::shortened(first, 200);
            return Some(format!(
                "the manifest of `{id}` does not ask for `{what}`: only its author can change that"
            ));
        }
        if !missing.is_empty() {
            return Some(how_to_grant(plugin, id, missing));
        }
        if !above.is_empty() {
            let words = above.into_iter().collect::<Vec<_>>().join("`, `");
            return Some(format!(
                "`hooks.ceiling` in the configuration keeps all plugins from `{words}`"
            ));
        }
        let (name, key, word) = unlisted?;
        let name = super::log::shortened(&name, 200);
        let table = super::error::table("settings", id);
        Some(format!(
            "`{word}` is granted and means what a setting lists: add `{name}` to `{key}` in `[{table}]` in the configuration"
        ))
    }
}

/// What to do so that a plugin has these words, too.
fn how_to_grant(plugin: &Plugin, id: &PluginId, missing: BTreeSet<String>) -> String {
    match plugin.standing.holds {
        Holds::Configured(_) => format!(
            "not granted; grant it with `{}` in the `needs` of `[{}]` in the configuration",
            missing.into_iter().collect::<Vec<_>>().join("`, `"),
            super::error::table("grants", id)
        ),
        Holds::AllBut(_) | Holds::Granted(_) | Holds::Nothing => {
            let words: Vec<_> = missing.iter().map(|word| quoted(word)).collect();
            format!("not granted; grant it with `cove hook grant {id} {}`", words.join(" "))
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+".contains(&byte);
    match word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
