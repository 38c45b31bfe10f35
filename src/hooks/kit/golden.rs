//! What a plugin did, as a file that its author keeps: `--golden FILE` compares, `--update` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::cases::failed;
use super::{KitCase, KitError, KitVerdict};
use crate::egress::Rule;
use crate::hooks::contract::Answer;
use crate::hooks::run::Effects;
use crate::id::Digest;
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::rpc::HookPoint;

/// Bytes of content that stand in the file as text; larger content and what is no text stand as digests.
const TEXT_BYTES: usize = 4096;

/// What one hook wanted to happen.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<SeenStep>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    egress: BTreeSet<Rule>,
    /// Ports of the guest, by ports of the host's loopback.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    forwards: BTreeMap<u16, u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    says: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SeenStep {
    #[serde(flatten)]
    step: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
}

impl Seen {
    pub(super) fn of(effects: &Effects) -> Self {
        let says = match &effects.answer {
            Answer::Nothing => Vec::new(),
            Answer::Lines(lines) => lines.clone(),
            Answer::Findings(findings) => {
                let finding = |finding: &crate::hooks::Finding| {
                    let advice = finding.advice.as_deref().unwrap_or_default();
                    format!("{:?}: {} {advice}", finding.verdict, finding.found).trim().to_owned()
                };
                findings.iter().map(finding).collect()
            }
        };
        Self {
            steps: effects.steps.iter().map(seen).collect(),
            env: effects.asked.env.clone(),
            labels: effects.asked.labels.clone(),
            egress: effects.asked.egress.clone(),
            forwards: effects.asked.forwards.clone(),
            says,
        }
    }
}

fn seen(step: &PlannedStep) -> SeenStep {
    let kind = serde_json::to_value(&step.step).expect("a step is plain data");
    let text = text(&step.content);
    // Fixtures are the kit's own files: they stay as they are.
    let sha256 = match text {
        Some(_) => None,
        None => step.content.digest().unwrap_or_default(),
    };
    SeenStep { step: kind, text, sha256 }
}

/// Some content as text, if it is short and is text.
fn text(content: &Content) -> Option<String> {
    let size = usize::try_from(content.size()).ok().filter(|size| *size <= TEXT_BYTES)?;
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match content.read_at(filled as u64, &mut bytes[filled..]).ok()? {
            0 => return None,
            read => filled += read,
        }
    }
    let is_there = !matches!(content, Content::None);
    String::from_utf8(bytes).ok().filter(|_| is_there)
}

/// Compares with the file, or writes it.
pub(super) fn check(
    file: &Path,
    update: bool,
    seen: &[(HookPoint, Seen)],
) -> Result<KitCase, KitError> {
    let began = Instant::now();
    let cannot = |source| KitError::File { path: file.to_owned(), source };
    let seen: BTreeMap<&str, &Seen> =
        seen.iter().map(|(point, seen)| (point.as_str(), seen)).collect();
    let mut text = serde_json::to_string_pretty(&seen).expect("it is plain data");
    text.push('\n');
    let verdict = if update {
        std::fs::write(file, &text).map_err(cannot)?;
        KitVerdict::Passed(Some(format!("written to `{}`", file.display())))
    } else {
        let expected = std::fs::read_to_string(file).map_err(cannot)?;
        match difference(&expected, &text) {
            None => KitVerdict::Passed(None),
            Some(difference) => failed(&difference),
        }
    };
    let name = "golden plan".to_owned();
    Ok(KitCase { name, point: None, verdict, took: began.elapsed(), log: Vec::new() })
}

/// The first line in which two texts differ.
fn difference(expected: &str, found: &str) -> Option<String> {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    for number in 1.. {
        match (expected.next(), found.next()) {
            (None, None) => return None,
            (expected, found) if expected == found => {}
            (expected, found) => {
                let shown = |line: Option<&str>| {
                    line.map_or("nothing".into(), |line| format!("`{}`", line.trim()))
                };
                let (expected, found) = (shown(expected), shown(found));
                return Some(format!("line {number} was {expected} and is {found}"));
            }
        }
    }
    None
}
