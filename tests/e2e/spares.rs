//! Networks that are made ahead of the VMs that get them.

use std::collections::BTreeSet;

use crate::harness::{QUICK, Who, World, as_everybody, skipped};
use crate::internet::{Internet, WEB_NAME, unavailable};
use crate::watch;

as_everybody!(a_network_made_ahead_is_a_vms_and_nobodys_after_it);

fn a_network_made_ahead_is_a_vms_and_nobodys_after_it(who: Who) {
    if let Some(reason) = unavailable() {
        return skipped(&reason);
    }
    let internet = Internet::new();
    let mut world = World::new(who);
    world.configure_spares(1);
    world.prefix = internet.prefix();
    world.cove(["daemon", "start"]).success();
    assert_eq!(world.spares(), [], "none before the first VM with a network");
    let one = world.start("one", &["--net", "user"]);
    let spare = ready(&world);
    held_by(&world, &spare, 2, "a keeper and an uplink");

    let two = world.start("two", &["--net", "user", "--egress", "allow", "--allow", WEB_NAME]);
    held_by(&world, &spare, 2, "they are the VM's now");
    assert_eq!(world.resources(&watch::id(&two)).len(), world.resources(&watch::id(&one)).len());
    assert!(world.reaches("two", WEB_NAME));
    assert!(!world.reaches("two", &crate::internet::MOVABLE.to_string()), "its own policy");
    let next = ready(&world);
    assert_ne!(next, spare);

    // The VM's end is the end of its network, whoever it was made for.
    world.cove(["delete", "two"]).success();
    held_by(&world, &spare, 0, "its processes are gone");

    // A daemon that is killed leaves one; the next ends it, and leaves the VM's alone.
    watch::kill_daemon(&world);
    held_by(&world, &next, 2, "a keeper and an uplink");
    assert!(world.reaches("one", WEB_NAME));
    held_by(&world, &next, 0, "its processes are gone");
    assert_eq!(world.spares(), []);

    // One whose keeper has died is no use: the start makes its own.
    world.cove(["restart", "one"]).success();
    let broken = ready(&world);
    let (_, keeper) = world.spares().into_iter().next().expect("its first row");
    watch::end(keeper.expect("a keeper"));
    world.cove(["restart", "one"]).success();
    assert!(world.reaches("one", WEB_NAME));
    held_by(&world, &broken, 0, "its processes are gone");

    let last = ready(&world);
    world.cove(["daemon", "stop"]).success();
    held_by(&world, &last, 0, "its processes are gone");
    world.cove(["list"]).success();
    assert_eq!(world.spares(), [], "a daemon that ends leaves none");
    world.finish();
}

/// Waits until there is one that a VM can have, and returns its id. Its rows are whole before that is so.
#[track_caller]
fn ready(world: &World) -> String {
    watch::until("a network is made ahead", QUICK, || {
        let rows = world.spares();
        let ids: BTreeSet<_> = rows.iter().map(|(id, _)| id.clone()).collect();
        let whole = rows.len() == 2 && rows.iter().all(|(_, process)| process.is_some());
        let made = |id: &String| {
            let log = world.log();
            log.lines().any(|line| {
                line.contains(" a network was made ahead") && line.contains(id.as_str())
            })
        };
        ids.into_iter().next().filter(|id| whole && made(id))
    })
}

/// Waits until a spare has as many processes: for moments pasta has children that bear its name.
#[track_caller]
fn held_by(world: &World, spare: &str, count: usize, what: &str) {
    watch::until(what, QUICK, || {
        let found = world.processes(&[spare.to_owned()]);
        let held = found.iter().filter(|found| found.arguments.contains(spare)).count();
        (held == count).then_some(())
    });
}
