//! From the plans of the plugins to the plan of the work disk.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::error::HookError;
use super::occupied::{Occupied, Shape};
use super::order::Order;
use super::wishes::Asked;
use crate::id::{Digest, PluginId, hex};
use crate::vm::plan::{Content, PlannedStep, WorkDiskPlan};

/// Puts the plans together, in order. Two plugins may write one path only when what they do goes
/// together, or when their manifests say which of them runs first.
pub(super) fn merge(
    parts: Vec<(PluginId, Vec<PlannedStep>)>,
    order: &Order,
) -> Result<WorkDiskPlan, HookError> {
    let (plugins, parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let mut occupied = Occupied::default();
    let mut plan = WorkDiskPlan::default();
    for (owner, steps) in parts.into_iter().enumerate() {
        // A plugin's own steps have been compared with each other when they were staged.
        let forgiven =
            |other: usize| other == owner || order.is_declared(&plugins[other], &plugins[owner]);
        for step in steps {
            let shape = Shape::of(&step.step);
            if let Some(clash) = occupied.clash(step.step.path(), &shape, forgiven) {
                return Err(HookError::Conflict {
                    what: format!("write `{}`", clash.path),
                    first: plugins[clash.owner].clone(),
                    second: plugins[owner].clone(),
                });
            }
            occupied.insert(&step.step, owner);
            plan.steps.push(step);
        }
    }
    Ok(plan)
}

/// Puts wishes together, in order. Two plugins may set one variable or label only when their manifests say
/// which of them runs first; the later one wins.
pub(super) fn merge_wishes(
    parts: Vec<(PluginId, Asked)>,
    order: &Order,
) -> Result<Asked, HookError> {
    let mut all = Asked::default();
    let mut owners: BTreeMap<String, PluginId> = BTreeMap::new();
    for (plugin, asked) in parts {
        let env = asked.env.keys().map(|name| format!("set the variable `{name}`"));
        let labels = asked.labels.keys().map(|name| format!("set the label `{name}`"));
        for what in env.chain(labels) {
            match owners.insert(what.clone(), plugin.clone()) {
                Some(first) if !order.is_declared(&first, &plugin) => {
                    return Err(HookError::Conflict { what, first, second: plugin });
                }
                Some(_) | None => {}
            }
        }
        all.env.extend(asked.env);
        all.labels.extend(asked.labels);
    }
    Ok(all)
}

/// The digest of a plan: of its steps, of the bytes that plugins made, and of what they ask for. Files of
/// the host, which are not read here, count with their identity, size and time of change.
pub(super) fn digest(steps: &[PlannedStep], asked: &Asked) -> Digest {
    use std::os::unix::fs::MetadataExt;
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
    for step in steps {
        let line = serde_json::to_vec(&step.step).expect("a step is plain data");
        hash.update((line.len() as u64).to_le_bytes());
        hash.update(&line);
        match &step.content {
            Content::None => {}
            Content::Bytes(bytes) => hash.update(bytes),
            Content::HostFile { file, .. } => {
                if let Ok(metadata) = file.metadata() {
                    for number in [metadata.dev(), metadata.ino()] {
                        hash.update(number.to_le_bytes());
                    }
                    for number in [metadata.mtime(), metadata.mtime_nsec()] {
                        hash.update(number.to_le_bytes());
                    }
                }
            }
        }
    }
    hex(&hash.finalize()).parse().expect("a sha256 in hexadecimal is a digest")
}
