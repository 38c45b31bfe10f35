//! The network of a VM, with the real keeper, the real `pasta` and the real rules, in a small internet of
//! network namespaces; a namespace plays the guest.
//!
//! The daemon's part runs in a process of its own (`driver`, this program again), because it must run in
//! the host namespace and, in half of the tests, as an ordinary user.

#[path = "net/bridge.rs"]
mod bridge;
#[path = "support/guest_link.rs"]
mod guest_link;
#[path = "support/internet.rs"]
mod internet;
#[path = "net/ipv6.rs"]
mod ipv6;
#[path = "net/lacking.rs"]
mod lacking;
#[path = "net/measure.rs"]
mod measure;
#[path = "net/names.rs"]
mod names;
#[path = "support/network_daemon.rs"]
mod network_daemon;
#[path = "support/network_driver.rs"]
mod network_driver;
#[path = "support/no_nftables.rs"]
mod no_nftables;
#[path = "net/policy.rs"]
mod policy;

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use internet::{Internet, Place, Resolver};
use network_daemon::{By, Daemon, ORDINARY, ROOT, Started};
use network_driver::{Answer, Command};
use rustix::process::Pid;

/// Whatever is waited for takes far less.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
#[ignore = "the daemon's part of the other tests, which start it"]
fn driver() {
    network_driver::run();
}

/// What `curl` says of a refused connection: it was refused at once, it did not time out.
const REFUSED: Result<String, i32> = Err(7);

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {} s: {what}", DEADLINE.as_secs());
        std::thread::yield_now();
    }
}

fn skipped() -> bool {
    let reason = internet::unavailable();
    if let Some(reason) = &reason {
        drop(writeln!(std::io::stderr(), "SKIPPED: {reason}"));
    }
    reason.is_some()
}

fn for_both_users(test: impl Fn(u32)) {
    if !skipped() {
        test(ROOT);
        test(ORDINARY);
    }
}

/// The same with a VM on the bridge too.
fn for_every_way(test: impl Fn(By)) {
    if !skipped() {
        for user in [ROOT, ORDINARY] {
            test(user.into());
        }
        test(By { user: ROOT, bridge: true });
    }
}

#[test]
fn a_guest_reaches_the_internet_and_nothing_else() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        let started = daemon.started();
        let rows = ["intend network_keeper", "made network_keeper", "intend uplink", "made uplink"];
        assert_eq!(started.rows, rows);

        reaches_the_web(&internet, &started);
        is_refused_elsewhere(&internet, &started);
        cannot_lie_about_its_address(&internet, &started);
        meets_addresses_that_the_host_gets_later(&internet, &mut daemon, &started);

        let mut made = [started.keeper, started.uplink.expect("pasta")];
        made.sort_by_key(|process| process.pid);
        assert_eq!(daemon.found(), made, "recovery finds them by the VM's id");
        drop(started);
        daemon.done(&Command::Stop);
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

fn reaches_the_web(internet: &Internet, guest: &Started) {
    let answer = format!("{} answers {}\n", internet::WEB, internet::HOST);
    assert_eq!(guest.get(internet::WEB).as_ref(), Ok(&answer));
    let by_name = guest.curl(&[&format!("http://{}/", internet::WEB_NAME)]);
    assert_eq!(by_name.as_ref(), Ok(&answer));
    assert!(internet.seen_by(Place::Outside, internet::DNS, "dns") > 0);
    assert_eq!(guest.curl(&["http://no-such-name.cove-test.net/"]), Err(6), "a name that is none");

    // More than any window or queue holds, both ways: no packet is too big for the way.
    let megabytes = guest.curl(&[&format!("http://{}/bytes/20000000", internet::WEB)]);
    assert_eq!(megabytes.map(|body| body.len()), Ok(20_000_000));
    let body = tempfile::NamedTempFile::new().expect("a file");
    body.as_file().set_len(20_000_000).expect("a length");
    let upload = format!("@{}", body.path().display());
    let sent = guest.curl(&["--data-binary", &upload, &format!("http://{}/", internet::WEB)]);
    assert_eq!(sent.as_deref(), Ok("received 20000000\n"));

    // The second one is larger than a packet on the way, smaller than one on the guest's link.
    for size in [5, 60_000] {
        let before = internet.seen_by(Place::Outside, internet::WEB, "udp");
        assert_eq!(guest.send(internet::WEB, size), None);
        wait_until("UDP goes out", || {
            internet.seen_by(Place::Outside, internet::WEB, "udp") > before
        });
    }
    assert!(guest.ping(guest.guest.gateway), "the gateway answers");
    for (name, value) in [
        ("ipv4/conf/tap0/rp_filter", "1"),
        ("ipv4/conf/all/rp_filter", "1"),
        ("ipv6/conf/tap0/disable_ipv6", "1"),
        (&format!("ipv6/conf/up{}/disable_ipv6", guest.vm), "1"),
    ] {
        assert_eq!(guest.in_namespace(&format!("cat /proc/sys/net/{name}")), value, "{name}");
    }
}

/// Addresses behind which somebody listens, and would have counted.
const REFUSED_HERE: [(Place, Ipv4Addr); 7] = [
    (Place::Host, internet::LOOPBACK),
    (Place::Host, internet::HOST),
    (Place::Host, internet::HOST_SECOND),
    (Place::Host, internet::HOST_PRIVATE),
    (Place::Outside, internet::METADATA),
    (Place::Outside, internet::PRIVATE),
    (Place::Outside, internet::SHARED),
];

fn is_refused_elsewhere(internet: &Internet, guest: &Started) {
    send_loopback_away(guest);
    for (place, address) in REFUSED_HERE {
        // The control: the host itself gets there.
        let mut curl = internet.command("curl");
        let control =
            curl.args(["-sS", "--max-time", "15", &format!("http://{address}/")]).status();
        assert!(control.expect("runs").success(), "the host reaches {address}");
        assert_eq!(internet.seen(place, address), 1);
        let refused = guest.send(address, 5);
        if address.is_loopback() {
            // No router forwards it, so nobody answers.
            let web = format!("http://{address}/");
            assert_eq!(guest.curl(&["--max-time", "1", &web]), Err(28));
        } else {
            assert_eq!(guest.get(address), REFUSED, "{address}");
            assert_eq!(refused, Some(std::io::ErrorKind::HostUnreachable), "{address}");
        }
        assert!(!guest.ping(address), "{address}");
    }
    // The gateway and the uplink's end are the namespace, and pasta's end must not be the host.
    for own in
        [[192, 0, 2, 1], [192, 0, 2, 5], [192, 0, 2, 6], [255, 255, 255, 254], [240, 0, 0, 1]]
    {
        assert_eq!(guest.get(Ipv4Addr::from(own)), REFUSED, "{own:?}");
    }
    assert_eq!(guest.get(guest.guest.resolver), REFUSED, "the resolver, but not its port");
    // UDP is not answered; what was sent after the others and has arrived says that they have not.
    let before = internet.seen_by(Place::Outside, internet::WEB, "udp");
    assert_eq!(guest.send(internet::WEB, 5), None);
    wait_until("UDP goes out", || internet.seen_by(Place::Outside, internet::WEB, "udp") > before);
    for (place, address) in REFUSED_HERE {
        assert_eq!(internet.seen(place, address), 1, "nobody but the control reached {address}");
    }
}

/// A hostile guest has no loopback of its own: what it sends to 127.0.0.1 goes out to the gateway.
fn send_loopback_away(guest: &Started) {
    let namespace = &guest.link.namespace;
    namespace.ip("route del local 127.0.0.0/8 dev lo table local");
    namespace.ip("route del local 127.0.0.1 dev lo table local");
    let written =
        namespace.enter(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1"));
    written.join().expect("no panic").expect("written");
    namespace.ip(&format!(
        "route add 127.0.0.0/8 via {} src {}",
        guest.guest.gateway, guest.guest.address
    ));
}

fn cannot_lie_about_its_address(internet: &Internet, guest: &Started) {
    lies(internet, guest);
    // The kernel's own check came first. The rules hold without it.
    guest.in_namespace(
        "cd /proc/sys/net/ipv4/conf && echo 0 > all/rp_filter && echo 0 > tap0/rp_filter",
    );
    lies(internet, guest);
    let spoofed = guest.in_namespace("nft list counter inet cove spoofed");
    assert!(!spoofed.contains("packets 0 "), "{spoofed}");
}

fn lies(internet: &Internet, guest: &Started) {
    let seen = internet.seen(Place::Outside, internet::WEB);
    let namespace = &guest.link.namespace;
    for false_address in ["192.0.2.9", "11.2.0.99"] {
        namespace.ip(&format!("address add {false_address}/32 dev eth0"));
        let web = format!("http://{}/", internet::WEB);
        let lie = guest.curl(&["--interface", false_address, "--max-time", "1", &web]);
        assert_eq!(lie, Err(28), "dropped, not answered");
        namespace.ip(&format!("address del {false_address}/32 dev eth0"));
    }
    assert_eq!(internet.seen(Place::Outside, internet::WEB), seen);
}

fn meets_addresses_that_the_host_gets_later(
    internet: &Internet,
    daemon: &mut Daemon,
    guest: &Started,
) {
    for (address, restart) in [(internet::MOVABLE, false), (internet::MOVABLE_TOO, true)] {
        if restart {
            daemon.done(&Command::Restart);
        }
        assert!(guest.get(address).is_ok(), "{address} is public");
        internet.give_to_host(address);
        wait_until("the new address is refused", || guest.get(address) == REFUSED);
        let seen = internet.seen(Place::Host, address);
        assert_eq!(guest.get(address), REFUSED);
        assert_eq!(internet.seen(Place::Host, address), seen);
        assert!(guest.get(internet::WEB).is_ok(), "the rest goes on");
    }
}

#[test]
fn a_resolver_on_the_hosts_loopback_answers() {
    for_both_users(|user| {
        let internet = Internet::with_resolver(Resolver::OnLoopback);
        let mut daemon = Daemon::start(&internet, user);
        let started = daemon.started();
        let by_name = started.curl(&[&format!("http://{}/", internet::WEB_NAME)]);
        assert_eq!(by_name, Ok(format!("{} answers {}\n", internet::WEB, internet::HOST)));
        assert!(internet.seen_by(Place::Host, internet::STUB, "dns") > 0);
        drop(started);
        daemon.done(&Command::Stop);
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

#[test]
fn without_its_keeper_a_guest_has_no_network() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        let started = daemon.started();
        assert!(started.get(internet::WEB).is_ok());
        let pid = Pid::from_raw(started.keeper.pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        wait_until("the uplink ends too", || daemon.left().is_empty());
        drop(started);
        // Both are gone, and that is no error.
        daemon.done(&Command::Stop);
        // The same VM gets another network, over the socket that the first has left.
        let again = daemon.started();
        assert!(again.get(internet::WEB).is_ok());
        drop(again);
        daemon.done(&Command::Stop);
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

#[test]
fn without_its_uplink_a_guest_reaches_nothing_and_is_told_why() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        let started = daemon.started();
        assert!(started.get(internet::WEB).is_ok());
        assert!(daemon.explain(internet::WEB, Some(80)).allowed);
        let pasta = started.uplink.expect("pasta").pid;
        let pid = Pid::from_raw(pasta).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        wait_until("that is known", || {
            let explained = daemon.explain(internet::WEB, Some(80));
            !explained.allowed && explained.because.contains("`cove restart`")
        });
        assert!(started.curl(&["--max-time", "1", &format!("http://{}/", internet::WEB)]).is_err());
        drop(started);
        daemon.done(&Command::Stop);
        let again = daemon.started();
        assert!(again.get(internet::WEB).is_ok(), "another start has another");
        drop(again);
        daemon.done(&Command::Stop);
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        match daemon.ask(&Command::StartWithoutUplinkRow) {
            Answer::Failed(chain) => assert_eq!(
                chain,
                [
                    "cannot write down the network's processes",
                    "cannot write down the resource `uplink`",
                    "the disk is full"
                ]
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(daemon.left(), Vec::<i32>::new());

        daemon.done(&Command::StartAndCancel);
        wait_until("the keeper ends", || daemon.left().is_empty());

        // A pasta that fails: its words are the cause.
        let folder = tempfile::tempdir().expect("a folder");
        let mode = || std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode()).expect("open to all");
        let pasta = folder.path().join("pasta");
        std::fs::write(&pasta, "#!/bin/sh\necho no luck today >&2\nexit 1\n").expect("written");
        std::fs::set_permissions(&pasta, mode()).expect("executable");
        let path = folder.path().to_str().expect("UTF-8");
        let mut daemon = Daemon::with_path(&internet, user, path);
        match daemon.ask(&Command::Start) {
            Answer::Failed(chain) => {
                assert_eq!(chain, ["the uplink ended at once", "no luck today"]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

#[test]
fn the_checks_pass_where_the_network_works() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        let Answer::Checks(checks) = daemon.ask(&Command::Check) else { panic!("checks") };
        let needs: Vec<&str> = checks.iter().map(|(need, _)| need.as_str()).collect();
        assert_eq!(needs, ["pasta", "/dev/net/tun", "user namespaces"]);
        for (need, found) in &checks {
            assert!(found.is_ok(), "{need}: {found:?}");
        }
    });
}
