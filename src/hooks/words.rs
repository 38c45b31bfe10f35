//! Needs in the words of a grant, and as clients see them.

use std::collections::BTreeSet;

use glob::MatchOptions;

use super::ceiling::Ceiling;
use super::needs::{
    Granted, Need, NeedKind, git_key, literal_separators, matches, stands_for_setting,
};
use crate::id::Digest;
use crate::wire::rpc::HookNeed;

/// The needs as clients see them.
pub(super) fn shown(needs: &[Need], granted: Granted<'_>, ceiling: &Ceiling) -> Vec<HookNeed> {
    let shown = needs.iter().map(|need| {
        let words = need.words();
        let missing: Vec<_> = words.iter().filter(|word| !granted.has(word)).cloned().collect();
        let above = |word: &String| {
            let name = word.split_once(':').map_or("", |(_, name)| name);
            !name.starts_with('@') && !ceiling.allows(need.kind, name)
        };
        HookNeed {
            kind: need.kind.as_str().to_owned(),
            what: need.what.clone(),
            reason: need.reason.clone(),
            granted: missing.is_empty(),
            missing,
            above_ceiling: words.into_iter().filter(above).collect(),
        }
    });
    shown.collect()
}

impl Need {
    /// The words of it that would have covered what a plugin was refused, as the refusal names it: a path of
    /// the home, or a kind with a name.
    pub(super) fn words_for(&self, refused: &str) -> Vec<String> {
        let Some(name) = self.name_in(refused) else {
            return Vec::new();
        };
        let covers = |what: &str| match self.kind {
            // It has no names.
            NeedKind::State => false,
            NeedKind::WorkDisk => matches(what, name, literal_separators()),
            NeedKind::GitConfig => stands_for_setting(what) || git_key(what) == git_key(name),
            NeedKind::ReadHostFiles
            | NeedKind::ImportHostFiles
            | NeedKind::Env
            | NeedKind::Label
            | NeedKind::Forward
            | NeedKind::Egress
            | NeedKind::Run => stands_for_setting(what) || matches(what, name, MatchOptions::new()),
        };
        if self.kind == NeedKind::State {
            return self.words();
        }
        let words = self.what.iter().zip(self.words());
        words.filter(|(what, _)| covers(what)).map(|(_, word)| word).collect()
    }

    /// The name or path in what a plugin was refused, where that is of this kind.
    pub(super) fn name_in<'a>(&self, refused: &'a str) -> Option<&'a str> {
        let kind = self.kind.as_str();
        let named = refused.strip_prefix(kind).and_then(|rest| rest.strip_prefix(':'));
        match self.kind {
            NeedKind::State => (refused == kind).then_some(""),
            NeedKind::WorkDisk => Some(refused),
            // A list of files is refused where neither reading nor importing is granted.
            NeedKind::ReadHostFiles | NeedKind::ImportHostFiles => {
                named.or(refused.strip_prefix("host-files:"))
            }
            NeedKind::GitConfig
            | NeedKind::Env
            | NeedKind::Label
            | NeedKind::Forward
            | NeedKind::Egress
            | NeedKind::Run => named,
        }
    }
}

/// All words for these needs, sorted, each once.
pub(super) fn all_words(needs: &[Need]) -> BTreeSet<String> {
    needs.iter().flat_map(Need::words).collect()
}

/// Whether any of these words is about host files of this name.
pub(super) fn asks_for_files(words: &BTreeSet<String>, name: &str) -> bool {
    ["read", "import"].iter().any(|verb| words.contains(&format!("host-files.{verb}:{name}")))
}

/// What stands for these wishes: other wishes, another digest. Their reasons do not count.
pub(super) fn digest_of_words(words: &BTreeSet<String>) -> Digest {
    let mut text = String::new();
    for word in words {
        text.push_str(word);
        // No word has it: neither names nor paths do.
        text.push('\0');
    }
    Digest::of(text.as_bytes())
}
