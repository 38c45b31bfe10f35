//! What a plugin asks for, and what it gets: `effective = need ∩ grant ∩ ceiling`.
//!
//! A grant names needs in words (`work-disk:.ssh/**`, `host-files.import:dotfiles`), so that a manifest
//! that asks for more later gets no more. The standard plugins are granted what their manifests ask for;
//! a plugin of the user's gets what the configuration grants to exactly this component.

use std::collections::{BTreeMap, BTreeSet};

use glob::{MatchOptions, Pattern};
use serde::Deserialize;

use super::paths;
use super::source::HostFilesSource;
use crate::id::{Digest, PluginId};
use crate::report::escape_control;
use crate::wire::rpc::HookNeed;

/// What the operator allows to one plugin of the user's folder.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The plugin.
    pub plugin: PluginId,
    /// The sha256 of its component. Another component needs another grant.
    pub component: Digest,
    /// The needs that are granted, as `KIND:PATH` or `KIND:NAME`.
    pub needs: Vec<String>,
    /// What stands behind the logical names of its host files. A name that is not here is looked up in
    /// the inputs of the run.
    pub host_files: BTreeMap<String, HostFilesSource>,
}

/// The kinds of needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum NeedKind {
    #[serde(rename = "work-disk")]
    WorkDisk,
    #[serde(rename = "host-files.read")]
    ReadHostFiles,
    #[serde(rename = "host-files.import")]
    ImportHostFiles,
    #[serde(rename = "git-config")]
    GitConfig,
}

impl NeedKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::WorkDisk => "work-disk",
            Self::ReadHostFiles => "host-files.read",
            Self::ImportHostFiles => "host-files.import",
            Self::GitConfig => "git-config",
        }
    }
}

/// One need of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Need {
    kind: NeedKind,
    what: Vec<String>,
    reason: String,
}

impl Need {
    pub(super) fn new(
        kind: NeedKind,
        name: Option<String>,
        patterns: Option<Vec<String>>,
        reason: String,
    ) -> Result<Self, String> {
        let what = match (kind, name, patterns) {
            (NeedKind::WorkDisk, None, Some(patterns)) if !patterns.is_empty() => {
                for pattern in &patterns {
                    paths::check(pattern).map_err(|error| format!("`paths`: {error}"))?;
                    Pattern::new(pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
                }
                patterns
            }
            (NeedKind::WorkDisk, ..) => {
                return Err("a need of kind `work-disk` has `paths` and no `name`".into());
            }
            (_, Some(name), None) if valid_name(&name) => vec![name],
            (_, Some(name), None) => return Err(format!("`{}` is no name", name.escape_debug())),
            (kind, ..) => {
                let kind = kind.as_str();
                return Err(format!("a need of kind `{kind}` has a `name` and no `paths`"));
            }
        };
        let reason = escape_control(&reason).chars().take(200).collect();
        Ok(Self { kind, what, reason })
    }

    /// The words for it in a grant, one for each path or name.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        self.what.iter().map(|what| format!("{}:{what}", self.kind.as_str()))
    }
}

fn valid_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(good)
}

/// How much of its needs a plugin has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Granted<'a> {
    /// Everything: it came with cove.
    All,
    /// What these words say.
    Words(&'a [String]),
    /// Nothing.
    Nothing,
}

impl Granted<'_> {
    fn has(self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::Words(words) => words.iter().any(|granted| granted == word),
            Self::Nothing => false,
        }
    }
}

/// The needs as clients see them.
pub(super) fn shown(needs: &[Need], granted: Granted<'_>) -> Vec<HookNeed> {
    let shown = needs.iter().map(|need| HookNeed {
        kind: need.kind.as_str().to_owned(),
        what: need.what.clone(),
        reason: need.reason.clone(),
        granted: need.words().all(|word| granted.has(&word)),
    });
    shown.collect()
}

/// What a plugin may do: the part that handles ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Rights {
    paths: Vec<Pattern>,
    read: BTreeSet<String>,
    import: BTreeSet<String>,
    git: BTreeSet<String>,
}

impl Rights {
    /// The granted part of the needs.
    pub(super) fn new(needs: &[Need], granted: Granted<'_>) -> Self {
        let mut rights = Self::default();
        for need in needs {
            for (what, word) in need.what.iter().zip(need.words()) {
                if !granted.has(&word) {
                    continue;
                }
                match need.kind {
                    NeedKind::WorkDisk => rights.paths.extend(Pattern::new(what)),
                    NeedKind::ReadHostFiles => drop(rights.read.insert(what.clone())),
                    NeedKind::ImportHostFiles => drop(rights.import.insert(what.clone())),
                    NeedKind::GitConfig => drop(rights.git.insert(what.clone())),
                }
            }
        }
        rights
    }

    /// May it write this path of the home?
    pub(super) fn may_write(&self, path: &str) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        self.paths.iter().any(|pattern| pattern.matches_with(path, options))
    }

    /// May it read the files of this logical name?
    pub(super) fn may_read(&self, name: &str) -> bool {
        self.read.contains(name)
    }

    /// May it import the files of this logical name?
    pub(super) fn may_import(&self, name: &str) -> bool {
        self.import.contains(name)
    }

    /// The granted keys of the git configuration, those of the operator's setting `keys` included
    /// where `@keys` is granted.
    pub(super) fn git_keys(&self, setting: Option<&toml::Value>) -> BTreeSet<String> {
        let mut keys: BTreeSet<_> =
            self.git.iter().filter(|key| !key.starts_with('@')).map(|key| git_key(key)).collect();
        if self.git.contains("@keys") {
            let listed = setting.and_then(toml::Value::as_array).into_iter().flatten();
            keys.extend(listed.filter_map(toml::Value::as_str).map(git_key));
        }
        keys
    }
}

/// A key as git writes it: section and name in lower case, the subsection between them as it is.
pub(super) fn git_key(key: &str) -> String {
    match (key.find('.'), key.rfind('.')) {
        (Some(first), Some(last)) => format!(
            "{}{}{}",
            key[..first].to_ascii_lowercase(),
            &key[first..last],
            key[last..].to_ascii_lowercase()
        ),
        _ => key.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(patterns: &[&str]) -> Need {
        let patterns = patterns.iter().map(ToString::to_string).collect();
        Need::new(NeedKind::WorkDisk, None, Some(patterns), "why".into()).expect("good")
    }

    #[test]
    fn rights_are_what_is_needed_and_granted() {
        let needs = [disk(&[".ssh", ".ssh/**", ".config/*"])];
        let all = Rights::new(&needs, Granted::All);
        for (path, expected) in [
            (".ssh", true),
            (".ssh/a/b", true),
            (".sshx", false),
            (".config/a", true),
            (".config/a/b", false),
            (".config", false),
            ("etc", false),
        ] {
            assert_eq!(all.may_write(path), expected, "{path}");
        }
        let words = ["work-disk:.config/*".to_owned(), "work-disk:**".to_owned()];
        let some = Rights::new(&needs, Granted::Words(&words));
        assert!(some.may_write(".config/a"), "asked for and granted");
        assert!(!some.may_write(".ssh"), "asked for, not granted");
        assert!(!some.may_write("other"), "granted, not asked for");
        assert!(!Rights::new(&needs, Granted::Nothing).may_write(".ssh"));
    }

    #[test]
    fn keys_of_git_are_compared_as_git_does() {
        assert_eq!(git_key("User.Name"), "user.name");
        assert_eq!(git_key("URL.git@Example.com:.InsteadOf"), "url.git@Example.com:.insteadof");
    }
}
