//! Policies, as packets meet them and as they are explained.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};

use cove::egress::{Mode, Policy};
use cove::wire::rpc::Tried;

use crate::internet::{self, Internet};
use crate::network_daemon::{Daemon, Started};
use crate::network_driver::{Answer, Command};
use crate::{REFUSED, for_every_way};

/// A policy, and what it does with TCP to port 80 and UDP to port 9 of some addresses.
type Case = (Mode, &'static [&'static str], &'static [(Ipv4Addr, bool, bool)]);

const CASES: [Case; 13] = [
    (
        Mode::Open,
        &[],
        &[
            (internet::WEB, true, true),
            (internet::PRIVATE, false, false),
            (internet::METADATA, false, false),
            (internet::HOST, false, false),
        ],
    ),
    (
        Mode::Open,
        &["10.20.30.40:80"],
        &[(internet::PRIVATE, true, false), (internet::WEB, true, true)],
    ),
    (Mode::Open, &["10.0.0.0/8:1-80"], &[(internet::PRIVATE, true, true)]),
    (Mode::Open, &["169.254.169.254"], &[(internet::METADATA, true, true)]),
    (Mode::Open, &["169.254.0.0/16"], &[(internet::METADATA, false, false)]),
    (
        Mode::Open,
        &["11.3.0.2:80", "11.1.0.0/24"],
        &[(internet::HOST_SECOND, true, false), (internet::HOST, false, false)],
    ),
    (Mode::Open, &["0.0.0.0/0"], &[(internet::PRIVATE, false, false)]),
    (Mode::Allow, &[], &[(internet::WEB, false, false), (internet::PRIVATE, false, false)]),
    (
        Mode::Allow,
        &["11.2.0.80:80"],
        &[(internet::WEB, true, false), (internet::MOVABLE, false, false)],
    ),
    (
        Mode::Allow,
        &["11.2.0.0/24", "11.4.0.0/24:9"],
        &[(internet::WEB, true, true), (internet::MOVABLE, false, true)],
    ),
    (
        Mode::Allow,
        &["11.0.0.0/8:9-79"],
        &[(internet::WEB, false, true), (internet::HOST, false, false)],
    ),
    (
        Mode::Allow,
        &["0.0.0.0/0"],
        &[
            (internet::WEB, true, true),
            (internet::PRIVATE, false, false),
            (internet::HOST, false, false),
        ],
    ),
    (Mode::Closed, &["11.2.0.80"], &[(internet::WEB, false, false)]),
];

#[test]
fn packets_meet_the_policy_that_is_explained() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        let started = daemon.started();
        for (mode, rules, probes) in CASES {
            daemon.policy(mode, rules);
            for (address, tcp, udp) in probes {
                let what = format!("{mode:?} {rules:?} {address}");
                assert_eq!(tcp_passes(&started, *address), *tcp, "TCP, {what}");
                assert_eq!(udp_passes(&started, *address), *udp, "UDP, {what}");
                for (port, passes) in [(80, *tcp), (9, *udp)] {
                    let explained = daemon.explain(address, Some(port));
                    assert_eq!(explained.allowed, passes, "{port}, {what}: {}", explained.because);
                }
            }
        }
        drop(started);
        daemon.done(&Command::Stop);
    });
}

fn tcp_passes(guest: &Started, address: Ipv4Addr) -> bool {
    match guest.get(address) {
        Ok(_) => true,
        refused => {
            assert_eq!(refused, REFUSED, "{address}");
            false
        }
    }
}

fn udp_passes(guest: &Started, address: Ipv4Addr) -> bool {
    match guest.send(address, 5) {
        None => true,
        refused => {
            assert_eq!(refused, Some(ErrorKind::HostUnreachable), "{address}");
            false
        }
    }
}

#[test]
fn a_policy_is_there_from_the_start_and_after_a_restart() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["11.2.0.80:80"]);
        let started = daemon.started();
        let holds = || {
            assert!(started.get(internet::WEB).is_ok());
            assert_eq!(started.get(internet::MOVABLE), REFUSED);
        };
        holds();
        daemon.done(&Command::Restart);
        holds();

        // Who waits for a denial holds up nobody.
        let rules = ["11.4.0.2", "11.2.0.80"].map(|rule| rule.parse().expect("a rule")).into();
        daemon.done(&Command::PolicyMeanwhile(Policy { mode: Mode::Allow, rules }));
        assert!(started.get(internet::MOVABLE).is_ok());

        // The most that rules can take: each is about TLS too, as a name is.
        let ranges = (0..255).map(|n| format!("11.5.{n}.0/24:443"));
        let rules: Vec<String> = ranges.chain(["web.cove-test.net".to_owned()]).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        daemon.policy(Mode::Allow, &rules);
        assert!(started.curl(&[&format!("http://{}/", internet::WEB_NAME)]).is_ok());
        // The same again replaces as many.
        daemon.policy(Mode::Allow, &rules);
        assert_eq!(started.get(internet::MOVABLE), REFUSED);

        // The most rules that there can be, and one more, which changes nothing.
        let rules: Vec<String> = (0..256).map(|n| format!("11.4.{n}.0/24:80-{}", 81 + n)).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        daemon.policy(Mode::Allow, &rules);
        assert!(started.get(internet::MOVABLE).is_ok());
        assert_eq!(started.get(internet::WEB), REFUSED);
        let too_many = [&rules[..], &["11.2.0.80"]].concat();
        let rules = too_many.iter().map(|rule| rule.parse().expect("a rule")).collect();
        let policy = Policy { mode: Mode::Allow, rules };
        let Answer::Failed(why) = daemon.ask(&Command::Policy(policy)) else { panic!("refused") };
        assert_eq!(why[0], "the network keeper could not change the policy");
        assert_eq!(started.get(internet::WEB), REFUSED);
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn running_flows_are_cut_by_a_narrower_policy_and_by_no_other() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["11.2.0.80:80", "11.4.0.2"]);
        let started = daemon.started();
        let mut kept = begin(&started, internet::WEB);
        let mut cut = begin(&started, internet::MOVABLE);
        let size = 50_000_000;
        let mut download = started.connect(internet::MOVABLE, 80).expect("connected");
        download.write_all(format!("GET /bytes/{size} HTTP/1.1\r\n\r\n").as_bytes()).expect("sent");
        download.read_exact(&mut [0; 65536]).expect("it runs");

        daemon.policy(Mode::Allow, &["11.2.0.80:80", "11.4.0.2", "10.20.30.40"]);
        download.read_exact(&mut [0; 65536]).expect("a wider policy cuts nothing");
        daemon.policy(Mode::Allow, &["11.2.0.80:80"]);
        let error = std::io::copy(&mut download, &mut std::io::sink()).expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(end(&mut cut).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        let answer = end(&mut kept).expect("what is still allowed goes on");
        assert!(answer.ends_with("11.2.0.80 answers 11.1.0.2\n"), "{answer}");
        drop(started);
        daemon.done(&Command::Stop);
    });
}

/// The first half of a request.
fn begin(guest: &Started, address: Ipv4Addr) -> std::net::TcpStream {
    let mut stream = guest.connect(address, 80).expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    stream
}

/// The second half, and the answer.
fn end(stream: &mut std::net::TcpStream) -> std::io::Result<String> {
    stream.write_all(b"\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn nothing_comes_back_by_udp_when_the_policy_takes_a_flow_away() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        daemon.policy(Mode::Allow, &["11.2.0.80", "11.4.0.2", "11.3.0.2"]);
        let started = daemon.started();
        let kept = Flow::new(internet.outside(), internet::WEB);
        let cut = Flow::new(internet.outside(), internet::MOVABLE);
        let host = Flow::new(internet.host(), internet::HOST_SECOND);
        let guest = started.link.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").expect("bound"));
        let guest = guest.join().expect("no panic");
        guest.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
        for flow in [&kept, &cut, &host] {
            flow.begin(&guest);
        }
        for flow in [&cut, &host] {
            flow.say(1);
            assert_eq!(heard(&guest), 1);
        }
        daemon.policy(Mode::Allow, &["11.2.0.80", "11.4.0.2", "11.3.0.2", "11.4.0.3"]);
        for flow in [&cut, &host] {
            flow.say(2);
            assert_eq!(heard(&guest), 2, "a wider policy cuts nothing");
        }
        daemon.policy(Mode::Allow, &["11.2.0.80"]);
        // A flow that stays needs one packet of the guest, which begins the new generation.
        kept.begin(&guest);
        cut.say(3);
        host.say(3);
        kept.say(4);
        assert_eq!(heard(&guest), 4, "not what came before");
        drop(started);
        daemon.done(&Command::Stop);
    });
}

/// Something outside that a guest talks to by UDP.
struct Flow {
    outside: UdpSocket,
    guest: std::cell::Cell<Option<std::net::SocketAddr>>,
}

impl Flow {
    fn new(place: &internet::Namespace, address: Ipv4Addr) -> Self {
        let bound = place.enter(move || UdpSocket::bind((address, 7000)));
        let outside = bound.join().expect("no panic").expect("bound");
        outside.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
        Self { outside, guest: std::cell::Cell::default() }
    }

    /// The guest sends something, which comes.
    fn begin(&self, guest: &UdpSocket) {
        guest.send_to(&[0], self.outside.local_addr().expect("bound")).expect("sent");
        let (_, from) = self.outside.recv_from(&mut [0]).expect("it comes");
        self.guest.set(Some(from));
    }

    fn say(&self, byte: u8) {
        self.outside.send_to(&[byte], self.guest.get().expect("it has begun")).expect("sent");
    }
}

/// What comes to the guest next.
fn heard(guest: &UdpSocket) -> u8 {
    let mut byte = [0];
    guest.recv(&mut byte).expect("something comes");
    byte[0]
}

#[test]
fn denials_name_the_thing_and_the_rule_that_allows_it() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        let started = daemon.started();
        assert!(started.get(internet::WEB).is_ok());
        let mut after = 0;
        for (mode, address, because) in [
            (Mode::Open, internet::PRIVATE, "it is not public (private)"),
            (Mode::Open, internet::METADATA, "it is a cloud's metadata service"),
            (Mode::Open, internet::HOST, "it is an address of the host itself"),
            (Mode::Allow, internet::WEB, "the policy is `allow`, and no rule is about it"),
            (Mode::Closed, internet::WEB, "the policy is `closed`"),
        ] {
            daemon.policy(mode, &[]);
            assert_eq!(started.get(address), REFUSED);
            let denials = daemon.denials(after);
            let [denial] = &denials.denials[..] else { panic!("{denials:?}") };
            let what = Tried::Reach {
                protocol: "tcp".to_owned(),
                address: address.into(),
                port: Some(80),
                name: None,
            };
            assert_eq!((&denial.what, denial.because.as_str()), (&what, because));
            assert_eq!((denial.number, denials.lost), (after + 1, 0));
            let explained = daemon.explain(address, Some(80));
            assert_eq!(
                (explained.because, explained.would_allow),
                (because.to_owned(), denial.would_allow.clone())
            );
            let rule = (mode != Mode::Closed).then(|| format!("{address}:80"));
            assert_eq!(denial.would_allow.as_ref().map(ToString::to_string), rule);
            if let Some(rule) = rule {
                daemon.policy(mode, &[&rule]);
                assert!(started.get(address).is_ok(), "{rule}");
            }
            after = denial.number;
        }
        drop(started);
        daemon.done(&Command::Stop);
    });
}

#[test]
fn lies_are_told_and_so_is_how_many_were_not() {
    for_every_way(|by| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, by);
        let started = daemon.started();
        started.link.namespace.ip("address add 192.0.2.9/32 dev eth0");
        started.in_namespace(
            "cd /proc/sys/net/ipv4/conf && echo 0 > all/rp_filter && echo 0 > tap0/rp_filter",
        );
        let web = format!("http://{}/", internet::WEB);
        let lie = started.curl(&["--interface", "192.0.2.9", "--max-time", "1", &web]);
        assert_eq!(lie, Err(28));
        let denials = daemon.denials(0).denials;
        let spoof = Tried::Spoof { address: [192, 0, 2, 9].into() };
        assert_eq!(denials.iter().map(|denial| &denial.what).collect::<Vec<_>>(), [&spoof]);
        let after = denials[0].number;

        // More than the log's rate: what was not told is counted, and nothing else suffers.
        let flood = started.link.namespace.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            for port in 1..2000_u16 {
                drop(socket.send_to(&[0], (internet::PRIVATE, port)));
            }
        });
        flood.join().expect("no panic");
        crate::wait_until("losses are counted", || {
            let told = daemon.denials(after);
            let count = told.denials.len() as u64;
            count > 0 && told.lost > 0
        });
        drop(started);
        daemon.done(&Command::Stop);
    });
}
