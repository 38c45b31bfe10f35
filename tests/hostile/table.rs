//! All of the corpus, one after the other, on one host.

use cove::hooks::limits::Class;
use cove::hooks::{Failure, HookError, HookRun};
use cove::report::{Explain, Kind};

use crate::corpus::{self, Ends, Hostile};
use crate::left::look;
use crate::world::World;

/// How many times what one component may have of memory this process may have grown by, in the end.
const GROWTH: usize = 2;

#[tokio::test]
async fn every_hostile_plugin_ends_in_one_error_and_leaves_nothing() {
    let mut world = World::new().await;
    let honest = corpus::honest();
    // The first runs make what stays: threads, the cache, the pool's first slots.
    for _ in 0..3 {
        works(&mut world, &honest).await;
    }
    let (files, before) = (world.files(), look());
    let mut wrong = Vec::new();
    for hostile in corpus::all() {
        world.put(&hostile);
        for _ in 0..2 {
            if let Err(complaint) = judge(&hostile, world.run().await) {
                wrong.push(format!("{}: {complaint}", hostile.name));
            }
        }
        works(&mut world, &honest).await;
        let after = look();
        if (after.descriptors, after.children) != (before.descriptors, before.children) {
            wrong.push(format!("{}: {before:?} became {after:?}", hostile.name));
        }
    }
    assert_eq!(world.files(), files, "nothing was written");
    let grown = look().resident.saturating_sub(before.resident);
    assert!(
        grown <= GROWTH * Class::Small.ceilings().memory,
        "{} MiB are left in memory",
        grown >> 20
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The host still runs an honest plugin.
async fn works(world: &mut World, honest: &Hostile) {
    world.put(honest);
    let run = world.run().await.expect("an honest plugin runs");
    assert_eq!(run.plan.steps.len(), 1);
}

/// Whether a run ended as it must.
fn judge(hostile: &Hostile, ended: Result<HookRun, HookError>) -> Result<(), String> {
    let error = match (ended, hostile.ends) {
        (Ok(run), Ends::Harmless) if run.plan.steps.is_empty() => return Ok(()),
        (Ok(run), _) => return Err(format!("it ran, and planned {:?}", run.plan.steps)),
        (Err(error), _) => error,
    };
    let text = error.to_string();
    let (attributed, said) = match hostile.ends {
        Ends::Refused(said) => (text.starts_with("plugin `hostile` cannot be used: `"), said),
        Ends::Failed(said) => {
            (text.starts_with("plugin `hostile` failed in hook `prepare-work-disk`: "), said)
        }
        Ends::Harmless => (false, ""),
    };
    let kind = match &error {
        HookError::Broken { .. } => error.kind() == Kind::Invalid,
        HookError::Failed { failure: Failure::Wall(_), .. } => error.kind() == Kind::TimedOut,
        HookError::Failed { .. } => error.kind() == Kind::Failed,
        _ => false,
    };
    let one_line = !text.contains('\n') && error.hint().is_some();
    if attributed && kind && one_line && text.contains(said) {
        return Ok(());
    }
    Err(format!("it must say {said:?}, and says {text:?} ({:?})", error.kind()))
}
