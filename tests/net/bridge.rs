//! The same keeper on the bridge: addresses that the host reaches, names, peers, and the same policy as
//! anywhere else.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use cove::egress::Mode;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::RecordType;

use crate::internet::{self, Internet, Namespace, Place};
use crate::network_daemon::{By, Daemon, ORDINARY, ROOT, Started};
use crate::network_driver::Command;
use crate::{REFUSED, skipped, wait_until};

/// The bridge's own address in the default range.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);

/// By a daemon that makes the bridge itself, and by one that asks the network helper.
pub(crate) fn for_both_users(test: impl Fn(&Internet, Daemon)) {
    if skipped() {
        return;
    }
    for user in [ROOT, ORDINARY] {
        let internet = Internet::new();
        test(&internet, Daemon::start(&internet, By { user, bridge: true }));
        assert_eq!(left(&internet), "", "nothing is left on the host of user {user}");
    }
}

/// What a shell on the host prints.
pub(crate) fn on_host(internet: &Internet, script: &str) -> String {
    let done = internet.command("sh").args(["-c", script]).output().expect("runs");
    assert!(done.status.success(), "{script}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn left(internet: &Internet) -> String {
    on_host(
        internet,
        "ip -o link | grep -E 'cove0|cv[0-9a-f]{12}' || true; nft list tables | grep cove || true; \
         ip route | grep 10.203 || true",
    )
}

/// Whether the host gets an answer from port 80 of an address.
pub(crate) fn host_reaches(internet: &Internet, host: impl std::fmt::Display) -> bool {
    let mut curl = internet.command("curl");
    let url = format!("http://{host}/");
    curl.args(["-sS", "--max-time", "5", &url]).output().expect("runs").status.success()
}

/// Has the guest answer at port 80.
pub(crate) fn listens(guest: &Started) -> std::thread::JoinHandle<()> {
    guest.link.namespace.enter(|| {
        let listener = std::net::TcpListener::bind(("::", 80)).expect("bound");
        listener.set_nonblocking(false).expect("blocks");
        // As long as its namespace, which ends with the test.
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 1024];
            if std::io::Read::read(&mut stream, &mut request).is_ok() {
                let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n";
                drop(std::io::Write::write_all(&mut stream, answer));
            }
        }
    })
}

#[test]
fn a_guest_on_the_bridge_is_reached_and_reaches_what_its_policy_says() {
    for_both_users(|internet, mut daemon| {
        let guest = daemon.started();
        assert_eq!(
            guest.rows,
            ["intend network_keeper", "made network_keeper", "intend bridge_port"]
        );
        assert_eq!(guest.guest.address, Ipv4Addr::new(10, 203, 0, 7));
        let web = format!("{} answers {}\n", internet::WEB, internet::HOST);
        assert_eq!(guest.get(internet::WEB), Ok(web.clone()), "by address, behind the host's");
        let by_name = format!("http://{}/", internet::WEB_NAME);
        assert_eq!(guest.curl(&[&by_name]), Ok(web), "by name");

        nothing_else(internet, &guest);
        drop(listens(&guest));
        wait_until("the host reaches it", || host_reaches(internet, guest.guest.address));
        cannot_lie(internet, &guest);

        daemon.policy(Mode::Allow, &["one.cove-test.net:80"]);
        assert_eq!(guest.get(internet::WEB), REFUSED, "no rule is about it");
        assert_eq!(guest.curl(&[&by_name]), Err(6), "nor about its name");
        assert!(guest.curl(&["http://one.cove-test.net/"]).is_ok(), "but about this one");
        daemon.policy(Mode::Closed, &[]);
        assert!(host_reaches(internet, guest.guest.address), "its policy is about the way out");
        assert_eq!(guest.get(internet::WEB), REFUSED);

        daemon.done(&Command::Restart);
        assert!(host_reaches(internet, guest.guest.address), "a daemon that comes back leaves it");
        daemon.policy(Mode::Open, &[]);
        assert!(guest.get(internet::WEB).is_ok());
        drop(guest);
        daemon.done(&Command::Stop);
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

/// The host, its networks, the metadata service, and the bridge itself.
fn nothing_else(internet: &Internet, guest: &Started) {
    for (place, address) in [
        (Place::Host, internet::HOST),
        (Place::Host, internet::HOST_PRIVATE),
        (Place::Outside, internet::METADATA),
        (Place::Outside, internet::PRIVATE),
        (Place::Outside, internet::SHARED),
    ] {
        assert!(host_reaches(internet, address), "the control: {address}");
        let seen = internet.seen(place, address);
        assert_eq!(guest.get(address), REFUSED, "{address}");
        assert!(!guest.ping(address), "{address}");
        assert_eq!(internet.seen(place, address), seen, "{address}");
    }
    assert_eq!(guest.get(GATEWAY), REFUSED, "the bridge's own address is the host's");
    assert_eq!(guest.get(Ipv4Addr::new(10, 203, 0, 9)), REFUSED, "nobody's address there");
    let table = on_host(internet, "nft list table inet cove0");
    assert!(table.contains("masquerade") && table.contains("10.203.0.7"), "{table}");
}

/// With another source address nothing leaves the namespace; the host's own rules are beyond it.
fn cannot_lie(internet: &Internet, guest: &Started) {
    let seen = internet.seen(Place::Outside, internet::WEB);
    let namespace = &guest.link.namespace;
    for false_address in ["10.203.0.8", "10.203.0.1", "11.2.0.99"] {
        namespace.ip(&format!("address add {false_address}/32 dev eth0"));
        let web = format!("http://{}/", internet::WEB);
        let lie = guest.curl(&["--interface", false_address, "--max-time", "1", &web]);
        assert!(lie.is_err(), "{false_address}: {lie:?}");
        namespace.ip(&format!("address del {false_address}/32 dev eth0"));
    }
    assert_eq!(internet.seen(Place::Outside, internet::WEB), seen);
    // Its link's own address is no secret: with another one it still is who it is.
    namespace.ip("link set eth0 address 02:00:00:00:00:99");
    assert!(guest.get(internet::WEB).is_ok(), "its own station ends at its namespace");
}

/// What the resolver at `server` says to a client in a namespace.
pub(crate) fn ask(
    namespace: &Namespace,
    server: (Ipv4Addr, u16),
    name: &str,
    kind: RecordType,
) -> Vec<String> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.parse().expect("a name"), kind));
    let question = question.to_vec().expect("bytes");
    let asked = namespace.enter(move || -> std::io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(&question, server)?;
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    });
    let answer = asked.join().expect("no panic").expect("an answer");
    let answer = Message::from_vec(&answer).expect("a message");
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

/// Another user's program that has the resolver's port is not heard by guests.
fn nobody_answers_in_its_place(internet: &Internet, guest: &Started) {
    drop(listens(guest));
    let url = format!("http://{}/", guest.guest.address);
    let reaches = |port: &str| {
        let mut curl = internet.command_as(4711, "curl");
        curl.args(["-sS", "--max-time", "3", "--local-port", port, &url]);
        curl.output().expect("runs").status.success()
    };
    wait_until("another user of the host reaches it", || reaches("5355"));
    assert!(!reaches("5354"), "but not from that port");
}

#[test]
fn host_and_guests_find_vms_by_name() {
    for_both_users(|internet, mut daemon| {
        let guest = daemon.started();
        let name = format!("vm-{}.cove.internal.", guest.vm);
        let host = (internet.host(), (GATEWAY, 5354));
        let inside = (&guest.link.namespace, (guest.guest.resolver, 53));
        for (namespace, server) in [host, inside] {
            let asked = |name: &str, kind| ask(namespace, server, name, kind);
            assert_eq!(asked(&name, RecordType::A), ["10.203.0.7"]);
            assert_eq!(asked("7.0.203.10.in-addr.arpa.", RecordType::PTR), [name.as_str()]);
            for nobody in ["nobody.cove.internal.", "8.0.203.10.in-addr.arpa."] {
                assert!(asked(nobody, RecordType::A).is_empty(), "{nobody}");
            }
        }
        nobody_answers_in_its_place(internet, &guest);
        let web = format!("{}.", internet::WEB_NAME);
        let of_the_web = |(namespace, server)| ask(namespace, server, &web, RecordType::A);
        assert!(of_the_web(host).is_empty(), "the host has a resolver of its own");
        assert_eq!(of_the_web(inside), [internet::WEB.to_string()]);
        // A policy is about the internet; names of VMs are none of it.
        daemon.policy(Mode::Closed, &[]);
        assert_eq!(ask(inside.0, inside.1, &name, RecordType::A), ["10.203.0.7"]);
        drop(guest);
        daemon.done(&Command::Stop);
    });
}
