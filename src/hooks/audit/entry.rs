//! What is written down of a run.

use serde::Serialize;

use crate::hooks::failure::Failure;
use crate::hooks::inputs::{HookInputs, Purpose};
use crate::hooks::limits;
use crate::hooks::log::shortened;
use crate::hooks::merge::Digests;
use crate::hooks::outcome::shown_step;
use crate::hooks::plugin::Plugin;
use crate::hooks::run::{Effects, Ended};
use crate::hooks::wishes::Asked;
use crate::vm::plan::Content;
use crate::wire::rpc::{
    HookEntry, HookImport, HookPoint, HookRead, HookRunEntry, HookUse, HookWrite,
};

/// Bytes of a path or name that a plugin made up.
const NAME_BYTES: usize = 512;
/// Bytes of one list of a record, as its line has them. Some two hundred usual files fit, and a run whose names
/// are as long as names can be does not push more than a hundredth of the log out.
pub(super) const LIST_BYTES: usize = 32 << 10;
/// Bytes of the code of an error.
const CODE_BYTES: usize = 64;

/// What a record is about.
pub(in crate::hooks) struct About<'a> {
    pub(in crate::hooks) point: HookPoint,
    pub(in crate::hooks) plugin: &'a Plugin,
    pub(in crate::hooks) grant: String,
    pub(in crate::hooks) inputs: &'a HookInputs,
}

/// The record of a hook that was not let run.
pub(in crate::hooks) fn turned_away(about: About<'_>) -> HookEntry {
    HookEntry::Run(Box::new(nothing_done(about, "refused")))
}

/// The record of a run.
pub(in crate::hooks) fn run(about: About<'_>, ended: &Ended) -> HookEntry {
    let (outcome, code) = match &ended.result {
        Ok(_) => ("ok", None),
        Err(failure) => (failure.class(), code(failure)),
    };
    let mut entry = HookRunEntry { code, ..nothing_done(about, outcome) };
    let journal = &ended.journal;
    let mut left_out = journal.left_out;
    entry.reads = bounded(journal.reads.iter().map(read), &mut left_out);
    entry.imports = bounded(journal.imports.iter().map(import), &mut left_out);
    entry.denials = bounded(journal.refusals.iter().map(|denial| short(denial)), &mut left_out);
    entry.left_out = left_out;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let used = &ended.used;
    entry.used = HookUse {
        cpu_us: micros(used.cpu),
        ticks: used.ticks,
        wall_us: micros(used.wall),
        memory: used.memory as u64,
        host_calls: used.host_calls,
        staged_bytes: 0,
        imported_bytes: 0,
        log_dropped: ended.dropped,
    };
    if let Ok(effects) = &ended.result {
        add_effects(&mut entry, effects);
    }
    HookEntry::Run(Box::new(entry))
}

fn nothing_done(about: About<'_>, outcome: &str) -> HookRunEntry {
    let About { point, plugin, grant, inputs } = about;
    let machine = inputs.machine.as_ref();
    HookRunEntry {
        vm: machine.map(|machine| machine.id.clone()),
        name: machine.map(|machine| machine.name.clone()),
        point,
        plugin: plugin.found.id(),
        version: plugin.version(),
        component: plugin.component(),
        grant,
        purpose: match inputs.purpose {
            Purpose::Act => "act".to_owned(),
            Purpose::Look => "look".to_owned(),
        },
        outcome: outcome.to_owned(),
        code: None,
        used: HookUse::default(),
        reads: Vec::new(),
        imports: Vec::new(),
        writes: Vec::new(),
        wishes: Vec::new(),
        denials: Vec::new(),
        left_out: 0,
        plan: Digests::of(&[], &Asked::default()).plan,
    }
}

fn add_effects(entry: &mut HookRunEntry, effects: &Effects) {
    let Effects { steps, asked, digests, .. } = effects;
    for step in steps {
        match &step.content {
            Content::None => {}
            Content::Bytes(bytes) => entry.used.staged_bytes += bytes.len() as u64,
            Content::HostFile { size, .. } => entry.used.imported_bytes += size,
        }
    }
    let steps = steps.iter().zip(&digests.contents);
    let writes = steps.map(|(step, sha256)| {
        let shown = shown_step(&step.step);
        let (path, sha256) = (short(&shown.path), sha256.clone());
        HookWrite { action: shown.action, path, bytes: shown.bytes, sha256 }
    });
    entry.writes = bounded(writes, &mut entry.left_out);
    let wishes = asked.shown().into_iter();
    let wishes = wishes.map(|wish| short(&format!("{} {}", wish.action, wish.name)));
    entry.wishes = bounded(wishes, &mut entry.left_out);
    entry.plan = digests.plan.clone();
}

/// The first items of a list, as many as a record names and has room for; the others are counted.
pub(super) fn bounded<T: Serialize>(items: impl Iterator<Item = T>, left_out: &mut u64) -> Vec<T> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    let mut is_full = false;
    for item in items {
        let line = serde_json::to_vec(&item).expect("an entry is plain data");
        // Each with the comma after it.
        is_full |= kept.len() == limits::JOURNAL_ENTRIES || bytes + line.len() + 1 > LIST_BYTES;
        match is_full {
            true => *left_out += 1,
            false => {
                bytes += line.len() + 1;
                kept.push(item);
            }
        }
    }
    kept
}

fn read(read: &crate::hooks::journal::Read) -> HookRead {
    HookRead {
        name: short(&read.name),
        file: short(&read.label),
        offset: read.offset,
        bytes: read.bytes,
        sha256: read.digest.clone(),
    }
}

fn import(import: &crate::hooks::journal::Import) -> HookImport {
    let (name, file) = (short(&import.name), short(&import.label));
    HookImport { name, file, path: short(&import.path) }
}

/// The code of a returned error, if it is one: text of a plugin is not written down.
fn code(failure: &Failure) -> Option<String> {
    let Failure::Returned { code, .. } = failure else {
        return None;
    };
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = code.len() <= CODE_BYTES && code.bytes().all(letter);
    good.then(|| code.clone())
}

/// A name as it is written down.
pub(super) fn short(name: &str) -> String {
    shortened(name, NAME_BYTES)
}
