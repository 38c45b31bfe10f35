//! Needs in the words of a grant, and as clients see them.

use std::collections::BTreeSet;

use super::ceiling::Ceiling;
use super::needs::{Granted, Need};
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
