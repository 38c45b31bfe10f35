//! The daemon's ceiling: what plugins may have at all, whatever they are granted.
//!
//! A list of words as in a grant. A kind alone (`git-config`) lets everything of that kind through, a kind
//! with a pattern (`host-files.read:ssh-*`) what matches it; a kind that is not in the list is not to be had.

use std::sync::Arc;

use glob::{MatchOptions, Pattern};

use super::error::HookError;
use super::needs::NeedKind;

/// The ceiling. The default lets everything through.
#[derive(Debug, Clone, Default)]
pub struct Ceiling(Option<Arc<[Word]>>);

/// A kind of needs, or a part of it.
#[derive(Debug)]
struct Word {
    kind: NeedKind,
    /// What names match; all where there is none.
    pattern: Option<Pattern>,
}

impl Ceiling {
    /// A ceiling of these words.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn new(words: &[String]) -> Result<Self, HookError> {
        let bad = |word: &String, reason: &str| HookError::Ceiling {
            word: word.clone(),
            reason: reason.to_owned(),
        };
        let parsed = words.iter().map(|word| {
            let (kind, pattern) = match word.split_once(':') {
                Some((kind, pattern)) => (kind, Some(pattern)),
                None => (word.as_str(), None),
            };
            let kind = NeedKind::ALL.into_iter().find(|known| known.as_str() == kind);
            let kind = kind.ok_or_else(|| bad(word, "there is no such kind of needs"))?;
            // Names to reach are compared in lower case, as DNS has them.
            let pattern = pattern.map(|pattern| {
                if kind == NeedKind::Egress { pattern.to_lowercase() } else { pattern.to_owned() }
            });
            let pattern = pattern.map(|pattern| Pattern::new(&pattern)).transpose();
            Ok(Word { kind, pattern: pattern.map_err(|error| bad(word, error.msg))? })
        });
        Ok(Self(Some(parsed.collect::<Result<Vec<_>, _>>()?.into())))
    }

    /// Whether all of every kind may be had.
    #[must_use]
    pub fn has_all_kinds(&self) -> bool {
        self.0.as_ref().is_none_or(|words| {
            NeedKind::ALL
                .into_iter()
                .all(|kind| words.iter().any(|word| word.kind == kind && word.pattern.is_none()))
        })
    }

    /// Whether anything of this kind and name may be had.
    pub(super) fn allows(&self, kind: NeedKind, name: &str) -> bool {
        let options = MatchOptions {
            require_literal_separator: kind == NeedKind::WorkDisk,
            ..MatchOptions::new()
        };
        let lets_through = |word: &Word| {
            let pattern = word.pattern.as_ref();
            word.kind == kind && pattern.is_none_or(|pattern| pattern.matches_with(name, options))
        };
        self.0.as_ref().is_none_or(|words| words.iter().any(lets_through))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::needs::{Granted, Need, Rights};

    fn ceiling(words: &[&str]) -> Ceiling {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        Ceiling::new(&words).expect("good words")
    }

    fn named(kind: NeedKind, name: &str) -> Need {
        Need::new(kind, Some(name.to_owned()), None, "why".into()).expect("good")
    }

    /// Rights to everything that can be asked for, below a ceiling.
    fn rights(words: &[&str]) -> Rights {
        let disk = Some(vec!["**".to_owned()]);
        let needs = [
            Need::new(NeedKind::WorkDisk, None, disk, "why".into()).expect("good"),
            named(NeedKind::ReadHostFiles, "notes"),
            named(NeedKind::ImportHostFiles, "notes"),
            named(NeedKind::GitConfig, "user.name"),
            named(NeedKind::Env, "@variables"),
            named(NeedKind::Label, "*"),
            named(NeedKind::Forward, "*"),
            named(NeedKind::Egress, "*"),
            named(NeedKind::Run, "mise"),
            Need::new(NeedKind::State, None, None, "why".into()).expect("good"),
        ];
        let settings = "variables = ['TOKEN']".parse().expect("TOML");
        Rights::new(&needs, Granted::All, &ceiling(words), &settings)
    }

    fn had(rights: &Rights) -> Vec<&'static str> {
        let all = [
            ("work-disk", rights.may_write("a/b")),
            ("host-files.read", rights.may_read("notes")),
            ("host-files.import", rights.may_import("notes")),
            ("git-config", rights.git_keys().contains("user.name")),
            ("machine.env", rights.may_set_env("TOKEN")),
            ("machine.label", rights.may_set_label("team")),
            ("machine.forward", rights.may_forward(8080)),
            ("machine.egress", rights.may_reach("example.org:443")),
            ("guest.run", rights.may_run("mise")),
            ("state", rights.may_remember()),
        ];
        all.into_iter().filter(|(_, had)| *had).map(|(kind, _)| kind).collect()
    }

    #[test]
    fn each_kind_is_cut_where_the_ceiling_lacks_it() {
        let all: Vec<&str> = NeedKind::ALL.into_iter().map(NeedKind::as_str).collect();
        assert_eq!(had(&rights(&all)), all);
        assert!(had(&rights(&[])).is_empty());
        for kind in &all {
            assert_eq!(had(&rights(&[kind])), [*kind]);
            let others: Vec<_> = all.iter().copied().filter(|other| other != kind).collect();
            assert_eq!(had(&rights(&others)), others);
        }
    }

    #[test]
    fn a_pattern_cuts_what_is_really_done_and_not_only_the_wish() {
        let cut = rights(&["work-disk:.config/**", "machine.env:T*", "machine.forward:80"]);
        assert!(cut.may_write(".config/a/b") && !cut.may_write(".bashrc"));
        assert!(cut.may_set_env("TOKEN"), "a setting's name is looked up first");
        assert!(cut.may_forward(80) && !cut.may_forward(8080));
        assert!(!rights(&["machine.env:A*"]).may_set_env("TOKEN"));
        assert!(rights(&["machine.egress:*.Example.org"]).may_reach("a.example.org:443"));
        assert!(!rights(&["work-disk:*"]).may_write("a/b"), "`*` is one step of a path");
    }

    #[test]
    fn a_word_that_is_none_is_refused() {
        for (word, reason) in
            [("world", "no such kind"), ("state:[", "ERROR"), ("", "no such kind")]
        {
            let error = Ceiling::new(&[word.to_owned()]).expect_err(word).to_string();
            assert!(error.contains(&format!("`{word}`")), "{error}");
            assert!(reason == "ERROR" || error.contains(reason), "{error}");
        }
    }
}
