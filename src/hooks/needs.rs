//! What a plugin asks for, and what it gets: `effective = need ∩ grant ∩ ceiling`.
//!
//! A grant names needs in words (`work-disk:.ssh/**`, `host-files.import:dotfiles`), so that a manifest
//! that asks for more later gets no more. The standard plugins are granted what their manifests ask for,
//! but what was revoked; an installed plugin has what was granted to exactly its files (`registry`).

use std::collections::{BTreeMap, BTreeSet};

use glob::{MatchOptions, Pattern};
use serde::Deserialize;

use super::ceiling::Ceiling;
use super::log::shortened;
use super::paths;
use crate::id::{Digest, PluginId};

/// Bytes of a reason that are shown: two or three lines of a terminal.
const REASON_BYTES: usize = 200;

/// What the configuration allows to one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The plugin.
    pub plugin: PluginId,
    /// The sha256 of its component. Another component needs another grant.
    pub component: Digest,
    /// The needs that are granted, as `KIND:PATH` or `KIND:NAME`.
    pub needs: BTreeSet<String>,
    /// What stands behind the logical names of its host files: paths, where `*` and `?` match. A name that
    /// is not here is looked up in the inputs of the run.
    pub host_files: BTreeMap<String, Vec<String>>,
}

/// The kinds of needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum NeedKind {
    #[serde(rename = "work-disk")]
    WorkDisk,
    #[serde(rename = "host-files.read")]
    ReadHostFiles,
    #[serde(rename = "host-files.import")]
    ImportHostFiles,
    #[serde(rename = "git-config")]
    GitConfig,
    #[serde(rename = "machine.env")]
    Env,
    #[serde(rename = "machine.label")]
    Label,
    #[serde(rename = "machine.forward")]
    Forward,
    #[serde(rename = "machine.egress")]
    Egress,
    #[serde(rename = "guest.run")]
    Run,
    #[serde(rename = "state")]
    State,
}

impl NeedKind {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::WorkDisk,
        Self::ReadHostFiles,
        Self::ImportHostFiles,
        Self::GitConfig,
        Self::Env,
        Self::Label,
        Self::Forward,
        Self::Egress,
        Self::Run,
        Self::State,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::WorkDisk => "work-disk",
            Self::ReadHostFiles => "host-files.read",
            Self::ImportHostFiles => "host-files.import",
            Self::GitConfig => "git-config",
            Self::Env => "machine.env",
            Self::Label => "machine.label",
            Self::Forward => "machine.forward",
            Self::Egress => "machine.egress",
            Self::Run => "guest.run",
            Self::State => "state",
        }
    }
}

/// One need of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) kind: NeedKind,
    pub(super) what: Vec<String>,
    pub(super) reason: String,
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
                    // It becomes a word, and words are shown as commands to type.
                    if pattern.chars().any(char::is_control) {
                        let shown = pattern.escape_debug();
                        return Err(format!("`paths`: `{shown}` has a control character in it"));
                    }
                    paths::check(pattern).map_err(|error| format!("`paths`: {error}"))?;
                    Pattern::new(pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
                }
                patterns
            }
            (NeedKind::WorkDisk, ..) => {
                return Err("a need of kind `work-disk` has `paths` and no `name`".into());
            }
            (NeedKind::State, None, None) => Vec::new(),
            (NeedKind::State, ..) => {
                return Err("a need of kind `state` has neither `name` nor `paths`".into());
            }
            (kind, Some(name), None) => {
                let shown = name.escape_debug().to_string();
                if !kind.takes(&name) {
                    return Err(format!("`{shown}` is no name for `{}`", kind.as_str()));
                }
                vec![name]
            }
            (kind, ..) => {
                let kind = kind.as_str();
                return Err(format!("a need of kind `{kind}` has a `name` and no `paths`"));
            }
        };
        let reason = shortened(&reason, REASON_BYTES);
        Ok(Self { kind, what, reason })
    }

    /// Its kind with each of its names or paths.
    pub(super) fn named(&self) -> impl Iterator<Item = (NeedKind, &str)> {
        self.what.iter().map(|what| (self.kind, what.as_str()))
    }

    /// The words for it in a grant, one for each path or name.
    pub(super) fn words(&self) -> Vec<String> {
        let kind = self.kind.as_str();
        match self.kind {
            NeedKind::State => vec![kind.to_owned()],
            NeedKind::WorkDisk
            | NeedKind::ReadHostFiles
            | NeedKind::ImportHostFiles
            | NeedKind::GitConfig
            | NeedKind::Env
            | NeedKind::Label
            | NeedKind::Forward
            | NeedKind::Egress
            | NeedKind::Run => self.what.iter().map(|what| format!("{kind}:{what}")).collect(),
        }
    }
}

impl NeedKind {
    /// Whether this can be the name of such a need. `@key` stands for all names in the operator's setting
    /// of that key, where the kind knows that.
    fn takes(self, name: &str) -> bool {
        let of = |letters: &[u8]| {
            let good = |b: u8| b.is_ascii_alphanumeric() || letters.contains(&b);
            !name.is_empty() && name.len() <= 128 && name.bytes().all(good)
        };
        match self {
            Self::WorkDisk | Self::State => false,
            Self::ReadHostFiles | Self::ImportHostFiles => of(b"-_."),
            Self::GitConfig => of(b"-_.@"),
            Self::Env => of(b"_*@-"),
            Self::Label => of(b"-_./*@"),
            Self::Forward => name == "*" || name.parse::<u16>().is_ok_and(|port| port > 0),
            Self::Egress => of(b"-.:*@"),
            Self::Run => of(b"-_.+@"),
        }
    }
}

/// How much of its needs a plugin has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Granted<'a> {
    /// Everything: it came with cove.
    All,
    /// Everything but these: it came with cove.
    AllBut(&'a BTreeSet<String>),
    /// What these words say.
    Words(&'a BTreeSet<String>),
    /// Nothing.
    Nothing,
}

impl Granted<'_> {
    pub(super) fn has(self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(revoked) => !revoked.contains(word),
            Self::Words(words) => words.contains(word),
            Self::Nothing => false,
        }
    }
}

/// Whether a need's name stands for all names in a setting, which may be any.
pub(super) fn stands_for_setting(what: &str) -> bool {
    what.starts_with('@')
}

pub(super) fn matches(pattern: &str, name: &str, options: MatchOptions) -> bool {
    Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(name, options))
}

pub(super) fn literal_separators() -> MatchOptions {
    MatchOptions { require_literal_separator: true, ..MatchOptions::new() }
}

/// What a plugin may do: the part that handles ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Rights {
    ceiling: Ceiling,
    paths: Vec<Pattern>,
    read: BTreeSet<String>,
    import: BTreeSet<String>,
    git: BTreeSet<String>,
    env: Vec<Pattern>,
    labels: Vec<Pattern>,
    forwards: BTreeSet<String>,
    egress: Vec<Pattern>,
    programs: BTreeSet<String>,
    state: bool,
}

impl Rights {
    /// The granted part of the needs, as far as the ceiling goes. Names that stand for a setting are looked
    /// up in these.
    pub(super) fn new(
        needs: &[Need],
        granted: Granted<'_>,
        ceiling: &Ceiling,
        settings: &toml::Table,
    ) -> Self {
        let mut rights = Self { ceiling: ceiling.clone(), ..Self::default() };
        for need in needs {
            if need.kind == NeedKind::State {
                rights.state |= granted.has(need.kind.as_str());
            }
            for (what, word) in need.what.iter().zip(need.words()) {
                if granted.has(&word) {
                    let listed = stands_for_setting(what);
                    for name in meant(what, settings) {
                        // A setting lists names, and is no place for patterns.
                        let pattern = if listed { Pattern::escape(name) } else { name.to_owned() };
                        rights.add(need.kind, name, &pattern);
                    }
                }
            }
        }
        rights
    }

    fn add(&mut self, kind: NeedKind, name: &str, pattern: &str) {
        let named = || name.to_owned();
        match kind {
            NeedKind::WorkDisk => self.paths.extend(Pattern::new(pattern)),
            NeedKind::ReadHostFiles => drop(self.read.insert(named())),
            NeedKind::ImportHostFiles => drop(self.import.insert(named())),
            NeedKind::GitConfig if self.below_ceiling(kind, name) => {
                self.git.insert(git_key(name));
            }
            NeedKind::GitConfig => {}
            NeedKind::Env => self.env.extend(Pattern::new(pattern)),
            NeedKind::Label => self.labels.extend(Pattern::new(pattern)),
            NeedKind::Forward => drop(self.forwards.insert(named())),
            // Names are compared in lower case, as DNS has them.
            NeedKind::Egress => self.egress.extend(Pattern::new(&pattern.to_lowercase())),
            NeedKind::Run => drop(self.programs.insert(named())),
            NeedKind::State => self.state = true,
        }
    }

    fn below_ceiling(&self, kind: NeedKind, name: &str) -> bool {
        self.ceiling.allows(kind, name)
    }

    /// May it write this path of the home?
    pub(super) fn may_write(&self, path: &str) -> bool {
        let mut paths = self.paths.iter();
        paths.any(|pattern| pattern.matches_with(path, literal_separators()))
            && self.below_ceiling(NeedKind::WorkDisk, path)
    }

    /// May it read the files of this logical name?
    pub(super) fn may_read(&self, name: &str) -> bool {
        self.read.contains(name) && self.below_ceiling(NeedKind::ReadHostFiles, name)
    }

    /// May it import the files of this logical name?
    pub(super) fn may_import(&self, name: &str) -> bool {
        self.import.contains(name) && self.below_ceiling(NeedKind::ImportHostFiles, name)
    }

    /// The granted keys of the git configuration.
    pub(super) fn git_keys(&self) -> &BTreeSet<String> {
        &self.git
    }

    /// May it set this variable?
    pub(super) fn may_set_env(&self, name: &str) -> bool {
        self.env.iter().any(|pattern| pattern.matches(name))
            && self.below_ceiling(NeedKind::Env, name)
    }

    /// May it set this label?
    pub(super) fn may_set_label(&self, name: &str) -> bool {
        self.labels.iter().any(|pattern| pattern.matches(name))
            && self.below_ceiling(NeedKind::Label, name)
    }

    /// May it have this port of the guest forwarded?
    pub(super) fn may_forward(&self, guest_port: u16) -> bool {
        let port = guest_port.to_string();
        (self.forwards.contains("*") || self.forwards.contains(&port))
            && self.below_ceiling(NeedKind::Forward, &port)
    }

    /// May it have this name be reachable, as `NAME` or `NAME:PORT`? Who has a name has it at every port.
    pub(super) fn may_reach(&self, name: &str) -> bool {
        let host = name.split_once(':').map_or(name, |(host, _)| host);
        let granted = |name| self.egress.iter().any(|pattern| pattern.matches(name));
        let below_ceiling = |name| self.below_ceiling(NeedKind::Egress, name);
        (granted(name) || granted(host)) && (below_ceiling(name) || below_ceiling(host))
    }

    /// May it run this program of the guest?
    pub(super) fn may_run(&self, program: &str) -> bool {
        self.programs.contains(program) && self.below_ceiling(NeedKind::Run, program)
    }

    /// May it remember anything?
    pub(super) fn may_remember(&self) -> bool {
        self.state && self.below_ceiling(NeedKind::State, "")
    }
}

/// The names that a need's name means: itself, or those in the setting that it stands for.
fn meant<'a>(name: &'a str, settings: &'a toml::Table) -> Vec<&'a str> {
    match name.strip_prefix('@') {
        None => vec![name],
        Some(key) => {
            let listed = settings.get(key).and_then(toml::Value::as_array).into_iter().flatten();
            listed.filter_map(toml::Value::as_str).collect()
        }
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
        let all = Rights::new(&needs, Granted::All, &Ceiling::default(), &toml::Table::new());
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
        let words = ["work-disk:.config/*".to_owned(), "work-disk:**".to_owned()].into();
        let some =
            Rights::new(&needs, Granted::Words(&words), &Ceiling::default(), &toml::Table::new());
        assert!(some.may_write(".config/a"), "asked for and granted");
        assert!(!some.may_write(".ssh"), "asked for, not granted");
        assert!(!some.may_write("other"), "granted, not asked for");
        let none = Rights::new(&needs, Granted::Nothing, &Ceiling::default(), &toml::Table::new());
        assert!(!none.may_write(".ssh"));
    }

    #[test]
    fn a_name_can_stand_for_a_setting_but_not_for_patterns_in_it() {
        let name = Some("@variables".to_owned());
        let need = Need::new(NeedKind::Env, name, None, "why".into()).expect("good");
        let settings = "variables = ['TOKEN', 'A*']".parse().expect("TOML");
        let rights = Rights::new(&[need], Granted::All, &Ceiling::default(), &settings);
        assert!(rights.may_set_env("TOKEN"));
        assert!(!rights.may_set_env("AB") && !rights.may_set_env("@variables"));
    }

    #[test]
    fn what_was_refused_is_found_among_the_wishes() {
        let named = |kind, name: &str| {
            Need::new(kind, Some(name.to_owned()), None, "why".into()).expect("good")
        };
        let needs = [
            disk(&[".config", ".config/*"]),
            named(NeedKind::ReadHostFiles, "notes"),
            named(NeedKind::ImportHostFiles, "notes"),
            named(NeedKind::GitConfig, "User.Name"),
            named(NeedKind::Env, "@variables"),
            named(NeedKind::Label, "team/*"),
            Need::new(NeedKind::State, None, None, "why".into()).expect("good"),
        ];
        for (refused, expected) in [
            (".config/a", vec!["work-disk:.config/*"]),
            (".config/a/b", vec![]),
            ("host-files.read:notes", vec!["host-files.read:notes"]),
            ("host-files:notes", vec!["host-files.read:notes", "host-files.import:notes"]),
            ("host-files:other", vec![]),
            ("git-config:user.name", vec!["git-config:User.Name"]),
            ("machine.env:TOKEN", vec!["machine.env:@variables"]),
            ("machine.label:team/a", vec!["machine.label:team/*"]),
            ("machine.egress:example.org", vec![]),
            ("state", vec!["state"]),
        ] {
            let words: Vec<_> = needs.iter().flat_map(|need| need.words_for(refused)).collect();
            assert_eq!(words, expected, "{refused}");
        }
    }

    #[test]
    fn names_must_fit_their_kind() {
        for (kind, name, fits) in [
            (NeedKind::Env, "NPM_*", true),
            (NeedKind::Env, "A=B", false),
            (NeedKind::Forward, "8080", true),
            (NeedKind::Forward, "0", false),
            (NeedKind::Forward, "http", false),
            (NeedKind::Egress, "*.example.org:443", true),
            (NeedKind::Run, "mise", true),
            (NeedKind::Run, "/bin/sh", false),
            (NeedKind::ReadHostFiles, "@all", false),
        ] {
            let need = Need::new(kind, Some(name.to_owned()), None, "why".into());
            assert_eq!(need.is_ok(), fits, "{name}");
        }
        Need::new(NeedKind::State, None, None, "why".into()).expect("it has no name");
        let lines = Some(vec!["a\nhint: b".to_owned()]);
        let error =
            Need::new(NeedKind::WorkDisk, None, lines, "why".into()).expect_err("two lines");
        assert!(error.contains("`a\\nhint: b` has a control character"), "{error}");
        Need::new(NeedKind::State, Some("x".into()), None, "why".into()).expect_err("a name");
    }

    #[test]
    fn keys_of_git_are_compared_as_git_does() {
        assert_eq!(git_key("User.Name"), "user.name");
        assert_eq!(git_key("URL.git@Example.com:.InsteadOf"), "url.git@Example.com:.insteadof");
    }
}
