//! Rules by name: what the guest may resolve, what it then reaches, and what it is told of.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use cove::egress::Mode;
use cove::wire::rpc::Tried;

use crate::internet::{self, Internet, Place};
use crate::network_daemon::{Daemon, ORDINARY, Started};
use crate::network_driver::Command;
use crate::{REFUSED, for_every_way, wait_until};

/// What `curl` says of a name that it cannot resolve.
const NOT_RESOLVED: Result<String, i32> = Err(6);

fn get(guest: &Started, name: &str) -> Result<String, i32> {
    guest.curl(&[&format!("http://{name}/")])
}

#[test]
fn a_rule_by_name_opens_what_the_name_resolved_to() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["web.cove-test.net:80", "*.below.cove-test.net"]);
        let started = daemon.started();

        assert_eq!(started.get(internet::WEB), REFUSED, "nobody has asked for the name");
        let before = daemon.explain(internet::WEB, Some(80));
        assert!(!before.allowed, "{before:?}");
        let answer = format!("{} answers {}\n", internet::WEB, internet::HOST);
        assert_eq!(get(&started, internet::WEB_NAME), Ok(answer.clone()));
        assert_eq!(started.get(internet::WEB), Ok(answer), "the address is open now");
        let after = daemon.explain(internet::WEB, Some(80));
        assert!(
            after.allowed && after.because.contains("`web.cove-test.net` resolved"),
            "{after:?}"
        );
        let refused = started.send(internet::WEB, 5);
        assert_eq!(refused, Some(ErrorKind::HostUnreachable), "another port");
        assert!(!daemon.explain(internet::WEB, Some(9)).allowed);

        // A wildcard, which has no ports, and does not stand for the name itself.
        assert!(get(&started, "deep.below.cove-test.net").is_ok());
        assert_eq!(started.send(internet::MOVABLE_TOO, 5), None);
        assert_eq!(get(&started, "below.cove-test.net"), NOT_RESOLVED);

        let questions = || internet.seen_by(Place::Outside, internet::DNS, "dns");
        let asked = questions();
        assert_eq!(get(&started, "one.cove-test.net"), NOT_RESOLVED);
        assert_eq!(questions(), asked, "a name that is refused is not asked for");
        let denials = daemon.denials(0).denials;
        let last = denials.last().expect("denials");
        assert_eq!(last.what, Tried::Resolve { name: "one.cove-test.net".to_owned() });
        let rule = last.would_allow.as_ref().map(ToString::to_string);
        assert_eq!(rule.as_deref(), Some("one.cove-test.net"));
        let explained = daemon.explain("one.cove-test.net", Some(80));
        assert!(!explained.allowed);
        assert_eq!(
            explained.would_allow.map(|rule| rule.to_string()).as_deref(),
            Some("one.cove-test.net:80")
        );
        let explained = daemon.explain(internet::WEB_NAME, Some(80));
        assert!(explained.allowed, "{explained:?}");
        assert_eq!(explained.addresses[0].address, internet::WEB);

        // No resolver but this one.
        assert_eq!(
            started.connect(internet::DNS, 53).map_err(|error| error.kind()).err(),
            Some(ErrorKind::ConnectionRefused)
        );

        // Rules that are gone close what they opened; the others' stay open.
        daemon.policy(Mode::Allow, &["*.below.cove-test.net"]);
        assert_eq!(started.get(internet::WEB), REFUSED);
        assert!(started.get(internet::MOVABLE_TOO).is_ok());
        daemon.policy(Mode::Closed, &["web.cove-test.net"]);
        assert_eq!(get(&started, internet::WEB_NAME), NOT_RESOLVED);
        daemon.policy(Mode::Open, &[]);
        assert!(get(&started, internet::WEB_NAME).is_ok());
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn a_name_leads_to_nothing_that_is_not_public() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        let started = daemon.started();
        for (mode, rules) in [(Mode::Open, &[][..]), (Mode::Allow, &["*.cove-test.net"])] {
            daemon.policy(mode, rules);
            assert!(get(&started, internet::WEB_NAME).is_ok(), "the control");
            for (name, address) in [
                ("rebind.cove-test.net", internet::PRIVATE),
                ("metadata.cove-test.net", internet::METADATA),
            ] {
                assert_eq!(get(&started, name), NOT_RESOLVED);
                assert_eq!(started.get(address), REFUSED);
                let told = daemon.denials(0).denials;
                let resolve = Tried::Resolve { name: name.to_owned() };
                let denial = told.iter().find(|denial| denial.what == resolve).expect("told");
                assert!(denial.because.contains(&address.to_string()), "{denial:?}");
                assert_eq!(denial.would_allow, Some(address.to_string().parse().expect("a rule")));
                assert!(!daemon.explain(name, Some(80)).allowed);
            }
            let mixed = get(&started, "mixed.cove-test.net").expect("its public address is used");
            assert!(mixed.starts_with("11.2.0.80"), "{mixed}");
            assert_eq!(started.get(internet::PRIVATE), REFUSED);
        }
        // A rule for the address makes it one that a name may lead to.
        daemon.policy(Mode::Open, &["10.20.30.40:80"]);
        assert!(get(&started, "rebind.cove-test.net").is_ok());
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn an_answer_expires() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["short.cove-test.net", "web.cove-test.net"]);
        let started = daemon.started();
        assert!(get(&started, "short.cove-test.net").is_ok());
        assert!(get(&started, "short.cove-test.net").is_ok(), "and is renewed");
        assert!(get(&started, internet::WEB_NAME).is_ok());
        assert!(started.get(internet::MOVABLE_TOO).is_ok());
        wait_until("the answer expires", || started.get(internet::MOVABLE_TOO) == REFUSED);
        assert!(!daemon.explain(internet::MOVABLE_TOO, Some(80)).allowed);
        let denials = daemon.denials(0).denials;
        let last = denials.last().expect("told");
        let Tried::Reach { name, .. } = &last.what else { panic!("{last:?}") };
        assert_eq!(name.as_deref(), Some("short.cove-test.net"), "known by name all the same");
        assert!(started.get(internet::WEB).is_ok(), "another one is good for longer");
        assert!(get(&started, "short.cove-test.net").is_ok(), "asking again opens it again");
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn two_names_on_one_address_are_told_apart_by_the_greeting() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["one.cove-test.net:443", "web.cove-test.net:80"]);
        let started = daemon.started();
        let heard =
            |greeting: &[u8]| Ok(format!("{} heard {}\n", internet::MOVABLE, greeting.len()));
        let (one, two) = (hello("one.cove-test.net"), hello("two.cove-test.net"));
        let before = greet(&started, &one);
        assert_eq!(before, Err(ErrorKind::ConnectionRefused), "nobody has asked for the name");
        resolve(&started, "one.cove-test.net");
        assert_eq!(greet(&started, &one), heard(&one));
        assert_eq!(greet(&started, &two), Err(ErrorKind::ConnectionReset));
        assert_eq!(greet(&started, b"GET / HTTP/1.1\r\n\r\n"), Err(ErrorKind::ConnectionReset));
        assert_eq!(internet.seen_by(Place::Outside, internet::MOVABLE, "tls"), 1);
        let denials = daemon.denials(0).denials;
        let greetings = denials.iter().filter_map(|denial| match &denial.what {
            Tried::Greet { address, name } => {
                let rule = denial.would_allow.as_ref().map(ToString::to_string);
                Some((address.to_string(), name.clone(), rule))
            }
            Tried::Resolve { .. } | Tried::Reach { .. } | Tried::Spoof { .. } => None,
        });
        let greetings: Vec<_> = greetings.collect();
        let (address, name) = (internet::MOVABLE.to_string(), "two.cove-test.net".to_owned());
        let wanted = [
            (address.clone(), Some(name.clone()), Some(format!("{name}:443"))),
            (address.clone(), None, Some(format!("{address}:443"))),
        ];
        assert_eq!(greetings, wanted);

        // Over UDP the name is hidden.
        assert_eq!(started.send_to(internet::MOVABLE, 443, 5), Some(ErrorKind::HostUnreachable));
        assert_eq!(internet.seen_by(Place::Outside, internet::MOVABLE, "quic"), 0);

        // A rule by address needs no name, and goes straight.
        daemon.policy(Mode::Allow, &["one.cove-test.net:443", "11.4.0.2:443"]);
        assert_eq!(greet(&started, &two), heard(&two));
        assert_eq!(started.send_to(internet::MOVABLE, 443, 5), None);
        // It is not there any more: what went straight is not taken for the name's.
        let mut straight = started.connect(internet::MOVABLE, 443).expect("connected");
        daemon.policy(Mode::Allow, &["one.cove-test.net:443"]);
        let sent = straight.write_all(&two).and_then(|()| straight.read(&mut [0; 9]).map(drop));
        assert_eq!(sent.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn a_connection_by_name_is_cut_when_its_rule_goes_and_not_before() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["one.cove-test.net", "web.cove-test.net"]);
        let started = daemon.started();
        resolve(&started, "one.cove-test.net");
        let mut stream = started.connect(internet::MOVABLE, 443).expect("connected");
        let mut say = |bytes: &[u8]| {
            stream.write_all(bytes)?;
            let mut answer = [0; 64];
            let length = stream.read(&mut answer)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
        };
        assert!(say(&hello("one.cove-test.net")).is_ok());
        for rules in [
            &["one.cove-test.net", "web.cove-test.net", "11.2.0.80"][..],
            &["one.cove-test.net", "web.cove-test.net"],
            &["one.cove-test.net"],
        ] {
            daemon.policy(Mode::Allow, rules);
            assert_eq!(say(b"more").expect("it goes on"), "11.4.0.2 heard 4\n");
        }
        // Another name opens the same address. It is not the one that was asked for.
        daemon.policy(Mode::Allow, &["one.cove-test.net", "two.cove-test.net"]);
        resolve(&started, "two.cove-test.net");
        assert_eq!(say(b"more").expect("it goes on"), "11.4.0.2 heard 4\n");
        daemon.policy(Mode::Allow, &["two.cove-test.net"]);
        let cut = say(b"more").map_err(|error| error.kind());
        assert_eq!(cut, Err(ErrorKind::ConnectionReset));
        assert!(greet(&started, &hello("two.cove-test.net")).is_ok(), "the address is open");

        // So is one to an address that the host gets.
        daemon.policy(Mode::Allow, &["one.cove-test.net"]);
        resolve(&started, "one.cove-test.net");
        let mut stream = started.connect(internet::MOVABLE, 443).expect("connected");
        stream.write_all(&hello("one.cove-test.net")).expect("sent");
        assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
        internet.give_to_host(internet::MOVABLE);
        wait_until("the new address is refused", || started.get(internet::MOVABLE) == REFUSED);
        // It says nothing more, so it is not the firewall that cuts it.
        let cut = stream.read(&mut [0; 64]);
        assert_eq!(cut.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        assert_eq!(internet.seen_by(Place::Host, internet::MOVABLE, "tls"), 0);
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn connections_by_name_end_with_the_uplink() {
    if crate::skipped() {
        return;
    }
    let internet = Internet::new();
    let mut daemon = Daemon::start(&internet, ORDINARY);
    daemon.policy(Mode::Allow, &["one.cove-test.net"]);
    let started = daemon.started();
    resolve(&started, "one.cove-test.net");
    let mut stream = started.connect(internet::MOVABLE, 443).expect("connected");
    stream.write_all(&hello("one.cove-test.net")).expect("sent");
    assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
    let pasta = started.uplink.expect("pasta").pid;
    let pasta = rustix::process::Pid::from_raw(pasta).expect("a pid");
    rustix::process::kill_process(pasta, rustix::process::Signal::KILL).expect("killed");
    let ended = stream.read(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset), "it goes on by no other way");
    let seen = internet.seen_by(Place::Outside, internet::MOVABLE, "tls");
    assert_eq!(greet(&started, &hello("one.cove-test.net")), Err(ErrorKind::ConnectionReset));
    assert_eq!(internet.seen_by(Place::Outside, internet::MOVABLE, "tls"), seen);
    drop(started);
    daemon.done(&Command::Stop);
}

#[test]
fn names_are_answered_over_tcp_too() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["web.cove-test.net"]);
        let started = daemon.started();
        for (name, code, addresses) in [("web", 0, 1), ("one", 5, 0)] {
            let mut stream = started.connect(started.guest.resolver, 53).expect("connected");
            stream.write_all(&question(name)).expect("sent");
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("an answer");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).expect("all of it");
            assert_eq!((answer[3] & 0xf, answer[7]), (code, addresses), "{name}");
        }
        assert!(started.get(internet::WEB).is_ok(), "that answer opened it");
        drop(started);
        daemon.done(&Command::Stop);
    });
}

/// More names in a row than programs usually have descriptors.
const MANY: usize = 1500;

#[test]
fn a_guest_that_asks_for_many_names_goes_on_being_answered() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        let started = daemon.started();
        let (resolver, question) = (started.guest.resolver, question("web")[2..].to_vec());
        let asked = started.link.namespace.enter(move || {
            for number in 0..MANY {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
                socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
                socket.send_to(&question, (resolver, 53)).expect("sent");
                let mut answer = [0; 512];
                let length = socket.recv(&mut answer).map_err(|error| (number, error))?;
                assert!(length > 12 && (answer[3] & 0xf, answer[7]) == (0, 1), "{number}");
            }
            Ok::<_, (usize, std::io::Error)>(())
        });
        asked.join().expect("no panic").expect("all are answered");
        drop(started);
        daemon.done(&Command::Stop);
    });
}

/// A question for the address of a name in `cove-test.net`, as TCP carries it.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name, "cove-test", "net"] {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    counted(&bytes)
}

/// Has the guest ask for a name, whatever then becomes of the connection.
fn resolve(guest: &Started, name: &str) {
    assert_ne!(get(guest, name), NOT_RESOLVED, "{name}");
}

/// What a server at the shared address says to a greeting.
fn greet(guest: &Started, greeting: &[u8]) -> Result<String, ErrorKind> {
    let address: Ipv4Addr = internet::MOVABLE;
    let said = guest.connect(address, 443).and_then(|mut stream| {
        stream.write_all(greeting)?;
        let mut answer = [0; 64];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    });
    said.map_err(|error| error.kind())
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[..], bytes].concat()
}

/// The first message of a TLS 1.3 client (RFC 8446, section 4.1.2) that asks for a server.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let extension = |kind: u16, bytes: &[u8]| [&kind.to_be_bytes()[..], &counted(bytes)].concat();
    let share = [&[0, 29][..], &counted(&[7; 32])].concat();
    let extensions = [
        extension(10, &counted(&[0, 29])),
        extension(13, &counted(&[4, 3, 8, 4])),
        extension(43, &[2, 3, 4]),
        extension(51, &counted(&share)),
        extension(0, &counted(&[&[0][..], &counted(name.as_bytes())].concat())),
    ];
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.push(0);
    body.extend(counted(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(counted(&extensions.concat()));
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &counted(&handshake)].concat()
}
