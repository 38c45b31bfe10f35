//! Hosts that lack something: user namespaces, nftables, a network.

use crate::internet::{self, Internet};
use crate::network_daemon::Daemon;
use crate::network_driver::{Answer, Command};
use crate::{for_both_users, for_every_way, skipped};

#[test]
fn a_host_without_user_namespaces_is_told_apart() {
    if skipped() {
        return;
    }
    let internet = Internet::new();
    let mut daemon = Daemon::without_user_namespaces(&internet);
    let Answer::Failed(chain) = daemon.ask(&Command::Start) else { panic!("it is forbidden") };
    assert_eq!(chain[0], "the network keeper ended at once", "{chain:?}");
    assert!(chain[1].starts_with("cannot make a user and network namespace: "), "{chain:?}");
    let Answer::Checks(checks) = daemon.ask(&Command::Check) else { panic!("checks") };
    let (need, found) = checks.last().expect("checks");
    let (what, fix) = found.clone().expect_err("a problem");
    assert!(need == "user namespaces" && what.contains("namespace"), "{what}");
    assert_eq!(fix, "allow user namespaces: `sudo sysctl user.max_user_namespaces=10000`");
    assert_eq!(daemon.left(), Vec::<i32>::new());
}

#[test]
fn a_host_without_nftables_is_told_so() {
    let missing = "this host's kernel has no nftables, and without a firewall no VM gets a network";
    for_every_way(|by| {
        let internet = Internet::new();
        let host = || {
            let links = internet.command("ip").args(["-o", "link"]).output().expect("runs");
            String::from_utf8(links.stdout).expect("UTF-8")
        };
        let before = host();
        let mut daemon = Daemon::without_nftables(&internet, by);
        let Answer::Failed(chain) = daemon.ask(&Command::Start) else { panic!("there are none") };
        assert!(chain[0] == missing && chain[1].contains("not supported"), "{chain:?}");
        assert_eq!(chain.len(), 2, "{chain:?}");
        let Answer::Checks(checks) = daemon.ask(&Command::Check) else { panic!("checks") };
        let (need, found) = checks.last().expect("checks");
        let (what, fix) = found.clone().expect_err("a problem");
        assert!(need == "nftables" && what.starts_with(missing), "{need}: {what}");
        assert!(fix.contains("`sudo modprobe -a nf_tables "), "{fix}");
        assert_eq!(daemon.left(), Vec::<i32>::new());
        assert_eq!(host(), before, "there is no bridge, nor half of one");
    });
}

#[test]
fn a_host_without_a_network_still_starts_and_is_followed() {
    for_both_users(|user| {
        let internet = Internet::new();
        let ip = |words: &str| {
            let done = internet.command("ip").args(words.split(' ')).status();
            assert!(done.expect("runs").success(), "{words}");
        };
        ip("route del default");
        let mut daemon = Daemon::start(&internet, user);
        let started = daemon.started();
        let web = format!("http://{}/", internet::WEB);
        assert!(started.curl(&["--max-time", "1", &web]).is_err());
        ip("route add default via 11.1.0.1");
        assert!(started.get(internet::WEB).is_ok());
        drop(started);
        daemon.done(&Command::Stop);
    });
}
