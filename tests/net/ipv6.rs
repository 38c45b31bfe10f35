//! IPv6: none by pasta, and on the bridge no further than to the host's questions and to peers.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

use crate::bridge::{GATEWAY, ask, for_both_users, host_reaches, listens, on_host};
use crate::internet::{self, Internet, Namespace, Place};
use crate::network_daemon::{Daemon, Started};
use crate::network_driver::Command;
use crate::{REFUSED, for_every_way, wait_until};

/// A web server outside.
const IPV6: &str = "http://[2001:db8::1]/";

/// Gives host and outside IPv6, and that server. Returns how many have connected to it.
fn answer_by_ipv6(internet: &Internet) -> Arc<AtomicUsize> {
    internet.host().ip("-6 address add 2001:db8::2/64 dev host0 nodad");
    internet.outside().ip("-6 address add 2001:db8::1/64 dev out0 nodad");
    serve(internet.outside(), "2001:db8::1".parse().expect("an address"))
}

/// A web server that counts who has connected.
fn serve(namespace: &Namespace, address: Ipv6Addr) -> Arc<AtomicUsize> {
    let listening = namespace.enter(move || TcpListener::bind((address, 80)));
    let listener = listening.join().expect("no panic").expect("bound");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    seen
}

#[test]
fn there_is_no_other_way_by_ipv6() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        let started = daemon.started();
        let namespace = &started.link.namespace;
        namespace.ip("-6 address add fd00::2/64 dev eth0 nodad");
        namespace.ip("-6 route add default via fd00::1 dev eth0");
        let station = started.in_namespace("ip -br link show tap0 | awk '{print $3}'");
        namespace.ip(&format!("-6 neighbor add fd00::1 lladdr {station} dev eth0"));
        let seen = answer_by_ipv6(&internet);
        let control = internet.command("curl").args(["-sS", "--max-time", "15", IPV6]).output();
        assert!(control.expect("runs").status.success(), "the host reaches it");
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        assert!(started.curl(&["--max-time", "1", IPV6]).is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 1, "the guest does not");
        assert!(started.get(internet::WEB).is_ok(), "IPv4 works");
        assert_eq!(started.in_namespace("ip -6 address").is_empty(), !by.bridge);
        let explained = daemon.explain("2600::1", Some(80));
        assert!(!explained.allowed && explained.because.contains("IPv6"), "{explained:?}");
        drop(started);
        daemon.done(&Command::Stop);
    });
}

/// A refusal comes within microseconds; what is not answered takes seconds.
const AT_ONCE: Duration = Duration::from_millis(900);

/// Whether the guest is refused, and does not wait for it.
fn is_refused_at_once(guest: &Started, address: impl std::fmt::Display) {
    let begun = Instant::now();
    assert_eq!(guest.curl(&["-g", &format!("http://[{address}]/")]), REFUSED, "{address}");
    assert!(begun.elapsed() < AT_ONCE, "{address}: {:?}", begun.elapsed());
}

#[test]
fn a_guest_on_the_bridge_is_reached_by_ipv6_and_reaches_nothing_with_it() {
    for_both_users(|internet, mut daemon| {
        let outside = answer_by_ipv6(internet);
        let guest = daemon.started();
        let address = guest.guest.ipv6.expect("it has a place in IPv6").address;
        let [a, b, c, d, ..] = address.segments();
        let nth = |last| Ipv6Addr::new(a, b, c, d, 0, 0, 0, last);
        assert_eq!(address, nth(7), "{address}");
        let gateway = serve(internet.host(), nth(1));
        drop(listens(&guest));
        wait_until("the host reaches it", || host_reaches(internet, format!("[{address}]")));

        for control in [format!("[{}]", nth(1)), "[2001:db8::1]".to_owned()] {
            assert!(host_reaches(internet, control), "the controls");
        }
        let seen = || (gateway.load(Ordering::SeqCst), outside.load(Ordering::SeqCst));
        assert_eq!(seen(), (1, 1));
        // The bridge itself, nobody's address there, the namespace, and what is no VM's at all.
        for refused in [nth(1), nth(9)] {
            is_refused_at_once(&guest, refused);
        }
        is_refused_at_once(&guest, "fe80::1%eth0");
        is_refused_at_once(&guest, "2001:db8::1");
        let namespace = &guest.link.namespace;
        namespace.ip("-6 route add default via fe80::1 dev eth0");
        is_refused_at_once(&guest, "2001:db8::1");
        is_refused_at_once(&guest, "fd00:ec2::254");
        cannot_lie(&guest, nth(8), nth(1));
        assert_eq!(seen(), (1, 1), "nobody but the host has connected");
        takes_no_advice(&guest);
        assert!(host_reaches(internet, format!("[{address}]")), "all the same");
        assert!(guest.get(internet::WEB).is_ok(), "IPv4 works");

        daemon.done(&Command::Restart);
        assert!(host_reaches(internet, format!("[{address}]")), "after another daemon has come");
        has_names(internet, &guest, address);
        drop(guest);
        daemon.done(&Command::Stop);
    });
}

/// With another address than its own it is not answered, and counted.
fn cannot_lie(guest: &Started, lie: Ipv6Addr, to: Ipv6Addr) {
    let spoofed = || guest.in_namespace("nft list counter inet cove spoofed");
    let before = spoofed();
    is_refused_at_once(guest, to);
    assert_eq!(spoofed(), before, "the truth is refused, and is no lie");
    let namespace = &guest.link.namespace;
    namespace.ip(&format!("-6 address add {lie}/128 dev eth0 nodad"));
    let url = format!("http://[{to}]/");
    let lied = guest.curl(&["-g", "--interface", &lie.to_string(), "--max-time", "1", &url]);
    assert_eq!(lied, Err(28), "dropped, not answered");
    let after = spoofed();
    assert_ne!(after, before);
    // Nor is it believed to be there when it says so as neighbours do.
    namespace.ip("-6 neighbor flush dev eth0");
    let lied = guest.curl(&["-g", "--interface", &lie.to_string(), "--max-time", "1", &url]);
    assert_eq!(lied, Err(28));
    let neighbours = guest.in_namespace("ip -6 neighbor show dev tap0");
    assert!(!neighbours.contains(&lie.to_string()), "{neighbours}");
    namespace.ip(&format!("-6 address del {lie}/128 dev eth0"));
}

/// What its namespace takes from the link, and from the uplink.
fn takes_no_advice(guest: &Started) {
    for device in ["tap0".to_owned(), format!("up{}", guest.vm)] {
        for switch in ["accept_ra", "accept_redirects"] {
            let value =
                guest.in_namespace(&format!("cat /proc/sys/net/ipv6/conf/{device}/{switch}"));
            assert_eq!(value, "0", "{device} {switch}");
        }
    }
    assert_eq!(guest.in_namespace("ip -6 route show default"), "");
}

/// To the host and to guests.
fn has_names(internet: &Internet, guest: &Started, address: Ipv6Addr) {
    let name = format!("vm-{}.cove.internal.", guest.vm);
    let nibbles = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
    let nibbles: Vec<String> = nibbles.rev().map(|nibble| format!("{nibble:x}")).collect();
    let reverse = format!("{}.ip6.arpa.", nibbles.join("."));
    let host = (internet.host(), (GATEWAY, 5354));
    let inside = (&guest.link.namespace, (guest.guest.resolver, 53));
    for (namespace, server) in [host, inside] {
        assert_eq!(ask(namespace, server, &name, RecordType::AAAA), [address.to_string()]);
        assert_eq!(ask(namespace, server, &reverse, RecordType::PTR), [name.as_str()]);
    }
    let by_name = format!("http://{}/", internet::WEB_NAME);
    assert!(guest.curl(&[&by_name]).is_ok(), "names outside lead to IPv4 alone");
}

#[test]
fn a_host_without_ipv6_gives_guests_none() {
    for_every_way(|by| {
        let internet = Internet::new();
        on_host(
            &internet,
            "cd /proc/sys/net/ipv6/conf && echo 1 > all/disable_ipv6 && echo 1 > default/disable_ipv6",
        );
        let mut daemon = Daemon::start(&internet, by);
        let guest = daemon.started();
        assert_eq!(guest.guest.ipv6, None);
        assert_eq!(guest.in_namespace("ip -6 address"), "");
        assert!(guest.get(internet::WEB).is_ok());
        let explained = daemon.explain("2600::1", Some(80));
        assert!(!explained.allowed && explained.because.contains("IPv6"), "{explained:?}");
        names_lead_to_ipv4_alone(&internet, &guest);
        if by.bridge {
            drop(listens(&guest));
            wait_until("the host reaches it", || host_reaches(&internet, guest.guest.address));
            let name = format!("vm-{}.cove.internal.", guest.vm);
            let asked = |kind| ask(internet.host(), (GATEWAY, 5354), &name, kind);
            assert_eq!(asked(RecordType::A), [guest.guest.address.to_string()]);
            assert!(asked(RecordType::AAAA).is_empty());
        }
        drop(guest);
        daemon.done(&Command::Stop);
    });
}

/// The guest is told that names have no address of IPv6, and nobody is asked for one.
fn names_lead_to_ipv4_alone(internet: &Internet, guest: &Started) {
    let name = format!("{}.", internet::WEB_NAME);
    let resolver = (guest.guest.resolver, 53);
    let asked = |kind| ask(&guest.link.namespace, resolver, &name, kind);
    assert_eq!(asked(RecordType::A), [internet::WEB.to_string()]);
    let before = internet.seen_by(Place::Outside, internet::DNS, "dns");
    assert!(asked(RecordType::AAAA).is_empty());
    assert_eq!(internet.seen_by(Place::Outside, internet::DNS, "dns"), before);
}
