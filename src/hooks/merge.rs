//! From what each plugin wants to what all of them get: one plan for the work disk, one set of wishes.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::error::HookError;
use super::occupied::{Occupied, Shape};
use super::order::Order;
use super::outcome::Weight;
use super::phase::Part;
use super::wishes::Asked;
use crate::id::{Digest, hex};
use crate::report::Report;
use crate::vm::check_extras;
use crate::vm::plan::{Content, PlannedStep, WorkDiskPlan};

/// Takes out what optional plugins want against others, until the rest goes together. Of two optional ones the
/// later one loses. Returns what was taken out, with the reason.
///
/// # Errors
/// When what cannot be together is required.
pub(super) fn settle(
    parts: &mut Vec<Part>,
    order: &Order,
) -> Result<Vec<(Part, HookError)>, HookError> {
    let mut lost = Vec::new();
    while let Some(Misfit { reason, loser }) = misfit(parts, order) {
        match loser {
            Some(loser) => lost.push((parts.remove(loser), reason)),
            None => return Err(reason),
        }
    }
    Ok(lost)
}

/// Parts that cannot be together.
struct Misfit {
    reason: HookError,
    /// Whose part can go.
    loser: Option<usize>,
}

impl Misfit {
    /// Two plugins want different things.
    fn clash(parts: &[Part], what: String, (first, second): (usize, usize)) -> Self {
        let optional = |part: &&usize| parts[**part].weight == Weight::Optional;
        let loser = [second, first].iter().find(optional).copied();
        let id = |part: usize| parts[part].plugin.found.id();
        let reason = HookError::Conflict { what, first: id(first), second: id(second) };
        Self { reason, loser }
    }
}

fn misfit(parts: &[Part], order: &Order) -> Option<Misfit> {
    let declared = |first: usize, second: usize| {
        let (first, second) = (&parts[first].plugin, &parts[second].plugin);
        order.is_declared(&first.found.id(), &second.found.id())
    };
    clash_of_steps(parts, declared)
        .or_else(|| clash_of_wishes(parts, declared))
        .or_else(|| excess(parts))
}

/// Two plugins may write one path only when what they do goes together, or when their manifests say which
/// of them runs first.
fn clash_of_steps(parts: &[Part], declared: impl Fn(usize, usize) -> bool) -> Option<Misfit> {
    let mut occupied = Occupied::default();
    for (owner, part) in parts.iter().enumerate() {
        // A plugin's own steps have been compared with each other when they were staged.
        let forgiven = |other: usize| other == owner || declared(other, owner);
        for PlannedStep { step, .. } in &part.wanted.steps {
            if let Some(clash) = occupied.clash(step.path(), &Shape::of(step), forgiven) {
                let what = format!("write `{}`", clash.path.escape_debug());
                return Some(Misfit::clash(parts, what, (clash.owner, owner)));
            }
            occupied.insert(step, owner);
        }
    }
    None
}

/// Two plugins may set one variable or label only when their manifests say which of them runs first; the
/// later one wins.
fn clash_of_wishes(parts: &[Part], declared: impl Fn(usize, usize) -> bool) -> Option<Misfit> {
    let mut owners = BTreeMap::new();
    for (owner, part) in parts.iter().enumerate() {
        // Rules add up: two plugins that ask for one name want the same.
        let Asked { env, labels, egress: _ } = &part.wanted.asked;
        let env = env.keys().map(|name| ("variable", name));
        for (kind, name) in env.chain(labels.keys().map(|name| ("label", name))) {
            if let Some(first) = owners.insert((kind, name), owner)
                && !declared(first, owner)
            {
                let what = format!("set the {kind} `{}`", name.escape_debug());
                return Some(Misfit::clash(parts, what, (first, owner)));
            }
        }
    }
    None
}

/// A plugin asks for what no VM can have, or for more than there is room for beside what those before it ask for.
fn excess(parts: &[Part]) -> Option<Misfit> {
    let mut all = Asked::default();
    for (number, part) in parts.iter().enumerate() {
        let asked = &part.wanted.asked;
        let optional = |part: &Part| part.weight == Weight::Optional;
        let of = |number: usize, reason: &Report, loser| {
            let plugin = parts[number].plugin.found.id();
            Some(Misfit { reason: HookError::Excess { plugin, reason: reason.one_line() }, loser })
        };
        if let Err(reason) = check_extras(&asked.env, &asked.labels, &asked.egress) {
            return of(number, &reason, optional(part).then_some(number));
        }
        all.extend(asked);
        if let Err(reason) = check_extras(&all.env, &all.labels, &all.egress) {
            let asks = |part: &Part| optional(part) && part.wanted.asked != Asked::default();
            let loser = parts[..=number].iter().rposition(asks);
            return of(loser.unwrap_or(number), &reason, loser);
        }
    }
    None
}

/// The plans of parts that go together, in order.
pub(super) fn merge(parts: &mut [Part]) -> WorkDiskPlan {
    let steps = parts.iter_mut().flat_map(|part| std::mem::take(&mut part.wanted.steps));
    WorkDiskPlan { steps: steps.collect() }
}

/// The wishes of parts that go together; of two that are said to follow each other the later one wins.
pub(super) fn merge_wishes(parts: &[Part]) -> Asked {
    let mut all = Asked::default();
    parts.iter().for_each(|part| all.extend(&part.wanted.asked));
    all
}

/// Digests of a plan.
#[derive(Debug, Clone)]
pub(super) struct Digests {
    /// Of the plan: of its steps, of the bytes that plugins made, and of what they ask for. Files of the host,
    /// which are not read here, count with their identity, size and time of change.
    pub(super) plan: Digest,
    /// For each step of the bytes that a plugin made, where it made any.
    pub(super) contents: Vec<Option<Digest>>,
}

impl Digests {
    /// Those of a plugin that wants nothing.
    pub(super) fn of_nothing() -> Self {
        Self::of(&[], &Asked::default())
    }

    /// Those of these steps and wishes.
    pub(super) fn of(steps: &[PlannedStep], asked: &Asked) -> Self {
        let mut hash = Sha256::new();
        for (kind, pairs) in [(b'e', &asked.env), (b'l', &asked.labels)] {
            for (name, value) in pairs {
                hash.update([kind]);
                for text in [name, value] {
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text);
                }
            }
        }
        for rule in &asked.egress {
            let rule = rule.to_string();
            hash.update(b"r");
            hash.update((rule.len() as u64).to_le_bytes());
            hash.update(rule);
        }
        let contents = steps.iter().map(|step| add(&mut hash, step)).collect();
        let plan = hex(&hash.finalize()).parse().expect("a sha256 in hexadecimal is a digest");
        Self { plan, contents }
    }
}

/// Adds a step to the digest of its plan. Returns that of its content.
fn add(hash: &mut Sha256, step: &PlannedStep) -> Option<Digest> {
    use std::os::unix::fs::MetadataExt;
    let line = serde_json::to_vec(&step.step).expect("a step is plain data");
    hash.update((line.len() as u64).to_le_bytes());
    hash.update(&line);
    match &step.content {
        Content::None => None,
        Content::Bytes(bytes) => {
            let digest = Digest::of(bytes);
            hash.update(digest.as_str());
            Some(digest)
        }
        Content::HostFile { file, .. } => {
            if let Ok(metadata) = file.metadata() {
                for number in [metadata.dev(), metadata.ino()] {
                    hash.update(number.to_le_bytes());
                }
                for number in [metadata.mtime(), metadata.mtime_nsec()] {
                    hash.update(number.to_le_bytes());
                }
            }
            None
        }
    }
}
