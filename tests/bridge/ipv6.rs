//! The host's side of IPv6: peers talk through it, nobody else does, and it carries nothing further.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bridge_host::{World, attach, joined, sync, wait_until};
use crate::bridge_vm::{FakeVm, PORT, answer, ask, within};
use crate::send_from;

/// Kernels before 6.17 forward all of IPv6 or nothing: there it is the operator who wants it.
fn forwards(world: &World) {
    world.host(
        "cd /proc/sys/net/ipv6/conf && { test -e all/force_forwarding || echo 1 > all/forwarding; }",
    );
}

fn host(world: &World) -> PathBuf {
    Path::new("/run/netns").join(world.internet.host().name())
}

#[test]
fn peers_reach_each_other_by_ipv6_and_others_do_not() {
    let Some(world) = World::new() else { return };
    forwards(&world);
    let vms = [1, 2, 3].map(|slot| world.vm(slot));
    let [one, other, stranger] = &vms;
    attach(&world, &[one, other, stranger], &[(other, one)]);
    joined(&world, &[one, other, stranger]);
    let gateway = Some(format!("asked by {}", world.setup.ranges().gateway().ipv6));
    for vm in &vms {
        let asked = || ask(&host(&world), vm.lease.ipv6, PORT).ok() == gateway;
        wait_until("the host reaches it", asked);
    }
    let asked = |from: &FakeVm| Some(format!("asked by {}", from.lease.ipv6));
    assert_eq!(one.ask(other.lease.ipv6, PORT).ok(), asked(one), "peers");
    assert_eq!(other.ask(one.lease.ipv6, PORT).ok(), asked(other), "both ways");
    for (from, to) in [(stranger, one), (one, stranger)] {
        let error = from.ask(to.lease.ipv6, PORT).expect_err("they are no peers");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    assert_eq!(sync(&world, &[one, other, stranger], &[]), Vec::new());
    assert!(one.ask(other.lease.ipv6, PORT).is_err(), "no longer");
    assert_eq!(sync(&world, &[one, other, stranger], &[(one, stranger)]), Vec::new());
    assert_eq!(stranger.ask(one.lease.ipv6, PORT).ok(), asked(stranger), "and others may become");
    assert_eq!(sync(&world, &[], &[]), Vec::new());
    assert_eq!(world.left(), "");
}

#[test]
fn ipv6_of_vms_goes_no_further_than_the_host_and_tells_the_truth() {
    let Some(world) = World::new() else { return };
    forwards(&world);
    let one = world.vm(1);
    attach(&world, &[&one], &[]);
    joined(&world, &[&one]);
    let outside: Ipv6Addr = "2001:db8::1".parse().expect("an address");
    world.internet.host().ip("-6 address add 2001:db8::2/64 dev host0 nodad");
    world.internet.outside().ip("-6 address add 2001:db8::1/64 dev out0 nodad");
    let range = world.setup.ranges().range6();
    world.internet.outside().ip(&format!("-6 route add {range} via 2001:db8::2"));
    let far = Path::new("/run/netns").join(world.internet.outside().name());
    // It ends with the test.
    let listener = within(far.clone(), move || TcpListener::bind((outside, PORT)).expect("bound"));
    drop(std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&mut stream.expect("a connection"));
        }
    }));
    let gateway = world.setup.ranges().gateway().ipv6;
    let uplink = format!("up{}", one.id);
    // As if the rules and routes of its namespace were none.
    one.keeper.shell(&format!("ip -6 route add default via {gateway} dev {uplink}"));

    wait_until("the host reaches outside", || ask(&host(&world), outside, PORT).is_ok());
    let out = one.ask(outside, PORT).expect_err("it is not forwarded");
    assert_eq!(out.kind(), ErrorKind::TimedOut, "{out}");
    wait_until("the host reaches it", || ask(&host(&world), one.lease.ipv6, PORT).is_ok());
    assert!(ask(&far, one.lease.ipv6, PORT).is_err(), "nobody outside does");

    let heard = within(host(&world), move || UdpSocket::bind((gateway, 9)).expect("bound"));
    heard.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let hears = || heard.recv_from(&mut [0; 8]).map(|(_, from)| from.ip()).ok();
    one.keeper.shell(&format!("ip address add {}/128 dev {uplink} nodad", one.lease.ipv6));
    send_from(&one, one.lease.ipv6, gateway);
    assert_eq!(hears(), Some(one.lease.ipv6.into()), "a true sender is heard");
    for address in [world.setup.ranges().lease(9).expect("a slot").ipv6, outside] {
        let dropped = world.dropped();
        one.keeper.shell(&format!("ip address add {address}/128 dev {uplink} nodad"));
        send_from(&one, address, gateway);
        wait_until("a false sender is dropped", || world.dropped() > dropped);
        one.keeper.shell(&format!("ip address del {address}/128 dev {uplink}"));
    }
    send_from(&one, one.lease.ipv6, gateway);
    assert_eq!(hears(), Some(one.lease.ipv6.into()), "and nobody else");
    assert_eq!(sync(&world, &[], &[]), Vec::new());
    assert_eq!(world.left(), "");
}
