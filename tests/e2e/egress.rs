//! What a guest may reach by its policy, by the real `cove` in a small internet of namespaces.

use crate::harness::{QUICK, Who, World, as_everybody, skipped};
use crate::internet::{DNS, Internet, MOVABLE, Place, WEB, WEB_NAME, unavailable};
use crate::watch;

as_everybody!(a_guest_reaches_what_its_policy_allows_and_is_told_what_not);

fn a_guest_reaches_what_its_policy_allows_and_is_told_what_not(who: Who) {
    if let Some(reason) = unavailable() {
        return skipped(&reason);
    }
    let internet = Internet::new();
    let mut world = World::new(who);
    world.prefix = internet.prefix();
    let rule = format!("{WEB_NAME}:80");
    let flags = ["--net", "user", "--egress", "allow", "--allow", &rule];
    let vm = world.start("net", &flags);
    let movable = MOVABLE.to_string();

    assert!(!world.reaches("net", &WEB.to_string()), "an address that no answer has named yet");
    assert!(world.reaches("net", WEB_NAME), "by its name");
    assert!(
        world.reaches("net", &WEB.to_string()),
        "by its address, which an answer has named now"
    );
    assert!(!world.reaches("net", &movable), "an address that no rule is about");
    assert_eq!(internet.seen(Place::Outside, MOVABLE), 0, "no packet got there");
    explained(&world, &rule, 0, "allowed: ");
    let opened = format!("{movable}:80");
    explained(&world, &opened, 6, &format!("cove net allow net {opened}"));
    denied(&world, &movable);

    // A name that no rule is about is not even resolved.
    let asked = internet.seen_by(Place::Outside, DNS, "dns");
    assert!(!world.reaches("net", "evil.cove-test.net"));
    assert_eq!(internet.seen_by(Place::Outside, DNS, "dns"), asked);
    denied(&world, "evil.cove-test.net");
    explained(&world, "evil.cove-test.net", 6, "refused: ");

    for _ in 0..2 {
        world.cove(["net", "allow", "net", &opened]).success();
        assert!(world.reaches("net", &movable), "a rule that was added opens at once");
    }
    explained(&world, &opened, 0, "allowed: ");

    let monitor = watch::monitor(&world, &vm);
    watch::kill_daemon(&world);
    assert!(world.reaches("net", WEB_NAME), "a daemon that comes back keeps the policy");
    assert!(world.reaches("net", &movable));
    assert!(!world.reaches("net", "evil.cove-test.net"));
    assert_eq!(watch::monitor(&world, &vm), monitor, "and leaves the guest alone");

    world.cove(["net", "deny", "net", &opened]).success();
    assert!(!world.reaches("net", &movable), "a rule that was taken back closes at once");
    world.cove(["net", "deny", "net", &opened]).status(4);
    world.cove(["set", "net", "--egress", "closed"]).success();
    assert!(!world.reaches("net", WEB_NAME), "closed is closed");
    assert!(!world.reaches("net", &WEB.to_string()));
    explained(&world, &rule, 6, "`closed`");
    world.cove(["set", "net", "--egress", "allow"]).success();
    assert!(world.reaches("net", WEB_NAME), "and opens again");

    world.cove(["stop", "net"]).success();
    explained(&world, &rule, 0, "`net` is not running");
    world.cove(["net", "denials", "net"]).status(4);
    world.cove(["start", "net"]).success();
    assert!(world.reaches("net", WEB_NAME), "after another start");
    assert!(!world.reaches("net", &movable));
    world.cove(["delete", "net"]).success();
    world.assert_no_vm(&[watch::id(&vm)]);
    world.finish();
}

/// `cove net explain` ends with this status and says this.
#[track_caller]
fn explained(world: &World, host: &str, status: i32, said: &str) {
    let ran = world.cove(["net", "explain", "net", host]).status(status);
    assert!(ran.stdout.contains(said), "no `{said}`: {}", ran.told());
}

/// Waits until the refusal of this is listed, with a way to allow it.
#[track_caller]
fn denied(world: &World, what: &str) {
    watch::until(&format!("{what} is among the denials"), QUICK, || {
        let text = world.cove(["net", "denials", "net"]).success().stdout;
        text.lines()
            .any(|line| line.contains(what) && line.contains("cove net allow net"))
            .then_some(())
    });
}
