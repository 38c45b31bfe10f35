//! A guest's network, by the real `cove` in a small internet of namespaces: no packet leaves the machine.

use std::net::Ipv4Addr;

use crate::harness::{QUICK, Who, World, as_everybody, skipped};
use crate::internet::{
    HOST, HOST_PRIVATE, HOST_SECOND, Internet, LOOPBACK, METADATA, MOVABLE, PRIVATE, Place, SHARED,
    WEB, WEB_NAME, unavailable,
};
use crate::watch;

/// Addresses that a guest must not reach, and where they are.
const FORBIDDEN: [(Place, Ipv4Addr); 6] = [
    (Place::Host, HOST),
    (Place::Host, HOST_SECOND),
    (Place::Host, HOST_PRIVATE),
    (Place::Outside, METADATA),
    (Place::Outside, PRIVATE),
    (Place::Outside, SHARED),
];

as_everybody!(a_guest_reaches_the_internet_and_nothing_else);

fn a_guest_reaches_the_internet_and_nothing_else(who: Who) {
    if let Some(reason) = unavailable() {
        return skipped(&reason);
    }
    let internet = Internet::new();
    let mut world = World::new(who);
    world.prefix = internet.prefix();
    let vm = world.start("net", &["--net", "user"]);

    assert!(world.reaches("net", &WEB.to_string()), "by address");
    assert!(world.reaches("net", WEB_NAME), "by name");
    assert!(world.reaches("net", &MOVABLE.to_string()), "it is outside now");
    assert!(internet.seen(Place::Outside, WEB) >= 2, "it was our web");
    nothing_forbidden_is_reached(&world, &internet);

    let monitor = watch::monitor(&world, &vm);
    watch::kill_daemon(&world);
    internet.give_to_host(MOVABLE);
    assert!(world.reaches("net", WEB_NAME), "a daemon that comes back takes the network up");
    assert_eq!(watch::monitor(&world, &vm), monitor, "and leaves the guest alone");
    watch::until("the host's new address is closed", QUICK, || {
        (!world.reaches("net", &MOVABLE.to_string())).then_some(())
    });
    nothing_forbidden_is_reached(&world, &internet);

    world.cove(["stop", "net"]).success();
    let helpers = world.processes(&[watch::id(&vm)]);
    assert!(helpers.iter().all(|found| found.is_daemon()), "left after the stop: {helpers:?}");
    world.cove(["start", "net"]).success();
    assert!(world.reaches("net", WEB_NAME), "after another start");
    world.cove(["delete", "net"]).success();
    world.assert_no_vm(&[watch::id(&vm)]);
    world.finish();
}

fn nothing_forbidden_is_reached(world: &World, internet: &Internet) {
    for (place, address) in FORBIDDEN {
        assert!(!world.reaches("net", &address.to_string()), "{address}");
        assert_eq!(internet.seen(place, address), 0, "{address}");
    }
    let gateway = world.guest("net", "ip -4 route show default | cut -d' ' -f3");
    assert!(!world.reaches("net", gateway.trim()), "the gateway");
    assert_eq!(internet.seen(Place::Host, LOOPBACK), 0, "the host's loopback");
}
