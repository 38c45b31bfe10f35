//! IPv6, which no guest has.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::for_every_way;
use crate::internet::{self, Internet};
use crate::network_daemon::Daemon;
use crate::network_driver::Command;

/// A web server outside.
const IPV6: &str = "http://[2001:db8::1]/";

/// Gives host and outside IPv6, and that server. Returns how many have connected to it.
fn answer_by_ipv6(internet: &Internet) -> Arc<AtomicUsize> {
    internet.host().ip("-6 address add 2001:db8::2/64 dev host0 nodad");
    internet.outside().ip("-6 address add 2001:db8::1/64 dev out0 nodad");
    let listening = internet.outside().enter(|| TcpListener::bind("[2001:db8::1]:80"));
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
        assert_eq!(started.in_namespace("ip -6 address"), "");
        let explained = daemon.explain("2600::1", Some(80));
        assert!(!explained.allowed && explained.because.contains("IPv6"), "{explained:?}");
        drop(started);
        daemon.done(&Command::Stop);
    });
}
