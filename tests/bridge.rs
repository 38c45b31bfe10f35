//! The bridge on a host that is a network namespace, with a small internet around it: what a root daemon
//! does in its own process.

#[path = "support/bridge_host.rs"]
mod bridge_host;
#[path = "support/bridge_vm.rs"]
mod bridge_vm;
#[path = "support/internet.rs"]
mod internet;
#[path = "bridge/ipv6.rs"]
mod ipv6;
#[path = "bridge/no_nftables.rs"]
mod no_nftables;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use bridge_host::{ROOT, World, attach, handed, joined, sync, wait_until};
use bridge_vm::{FakeVm, Keeper, PORT, ask, within};
use cove::id::VmId;
use cove::net::bridge::{Bridge, HostPlan, Member, Privileged};
use cove::process::{Process, ProcessId};
use cove::report::Kind;
use cove::task::Tasks;
use internet::Place;

/// As Docker has it, without counters: it must be the same afterwards.
const FOREIGN: &str = "
table ip filter {
  chain DOCKER-USER {
    return
  }
  chain FORWARD {
    type filter hook forward priority filter; policy accept;
    jump DOCKER-USER
    iifname docker0 oifname docker0 drop
  }
}
table bridge mine {
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname other0 drop
  }
}
";

#[test]
fn vms_are_reached_by_the_host_reach_the_internet_and_not_each_other() {
    let Some(world) = World::new() else { return };
    world.nft(FOREIGN);
    world.host("echo 0 > /proc/sys/net/ipv4/ip_forward");
    let foreign = || world.host("nft list table ip filter; nft list table bridge mine");
    let before = foreign();
    let (one, other) = (world.vm(7), world.vm(300));
    attach(&world, &[&one, &other], &[]);
    joined(&world, &[&one, &other]);

    let gateway = world.setup.ranges().gateway().ipv4;
    assert_eq!(world.asks(&one), Some(format!("asked by {gateway}")));
    let host = PathBuf::from("/run/netns").join(world.internet.host().name());
    let by_gateway = Some(format!("asked by {}", world.setup.ranges().gateway().ipv6));
    wait_until("it is reached by IPv6 too", || ask(&host, one.lease.ipv6, PORT).ok() == by_gateway);
    let seen = format!("{} answers {}", internet::WEB, internet::HOST);
    assert_eq!(one.ask(internet::WEB, 80).ok(), Some(seen), "the host's address is what is seen");
    let rules = world.host("nft list table inet cove0");
    assert!(rules.contains("oifname != \"cove0\" ip saddr @vms4 masquerade"), "{rules}");
    assert!(rules.contains(&one.lease.ipv4.to_string()), "{rules}");

    let refused = one.ask(other.lease.ipv4, PORT).expect_err("VMs are not for each other");
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
    assert_eq!(sync(&world, &[&one, &other], &[(&other, &one)]), Vec::new());
    let asked = |from: &FakeVm| Some(format!("asked by {}", from.lease.ipv4));
    assert_eq!(one.ask(other.lease.ipv4, PORT).ok(), asked(&one), "peers are");
    assert_eq!(other.ask(one.lease.ipv4, PORT).ok(), asked(&other), "both ways");
    assert_eq!(sync(&world, &[&one, &other], &[]), Vec::new());
    assert!(one.ask(other.lease.ipv4, PORT).is_err(), "no longer");

    nothing_from_outside_gets_in(&world, &one);
    false_senders_are_dropped(&world, &one, &other);

    assert_eq!(sync(&world, &[&one], &[]), Vec::new());
    assert_eq!(world.asks(&other), None);
    assert!(world.asks(&one).is_some(), "the other one stays");
    assert_eq!(sync(&world, &[], &[]), Vec::new());
    assert_eq!(world.left(), "");
    assert_eq!(foreign(), before);
    let forwarding = world.host("cat /proc/sys/net/ipv4/ip_forward");
    assert_eq!(forwarding, "1\n", "the rules of others count on it");
}

fn nothing_from_outside_gets_in(world: &World, vm: &FakeVm) {
    let outside = world.internet.outside();
    outside.ip(&format!("route add 10.203.0.0/16 via {}", internet::HOST));
    let outside = PathBuf::from("/run/netns").join(outside.name());
    let error = ask(&outside, vm.lease.ipv4, PORT).expect_err("it is not forwarded");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

/// Sends a datagram out of the keeper's namespace from whatever address.
fn send_from(vm: &FakeVm, source: impl Into<IpAddr>, to: impl Into<IpAddr>) {
    let (source, to) = (source.into(), to.into());
    within(vm.keeper.path("net"), move || {
        let socket = UdpSocket::bind((source, 0)).expect("bound");
        socket.send_to(b"hello", (to, 9)).expect("sent");
    });
}

fn false_senders_are_dropped(world: &World, one: &FakeVm, other: &FakeVm) {
    let arrived = || world.internet.seen_by(Place::Host, internet::HOST, "udp");
    let uplink = format!("up{}", one.id);
    one.keeper.shell(&format!("ip address add {}/32 dev {uplink}", one.lease.ipv4));
    let before = arrived();
    send_from(one, one.lease.ipv4, internet::HOST);
    wait_until("a true sender arrives", || arrived() == before + 1);

    for address in [other.lease.ipv4, Ipv4Addr::new(10, 203, 9, 9), internet::WEB] {
        let dropped = world.dropped();
        one.keeper.shell(&format!("ip address add {address}/32 dev {uplink}"));
        send_from(one, address, internet::HOST);
        wait_until("a false sender is dropped", || world.dropped() > dropped);
        one.keeper.shell(&format!("ip address del {address}/32 dev {uplink}"));
    }
    let dropped = world.dropped();
    let at = world.host("cat /sys/class/net/cove0/address");
    one.keeper.shell(&format!("ip link set {uplink} address 02:00:00:00:00:99"));
    one.keeper.shell(&format!(
        "ip neigh replace {} lladdr {} dev {uplink}; \
         ip route replace {}/32 via {} dev {uplink} onlink",
        world.setup.ranges().gateway().ipv4,
        at.trim(),
        internet::HOST,
        world.setup.ranges().gateway().ipv4,
    ));
    send_from(one, one.lease.ipv4, internet::HOST);
    wait_until("a false station is dropped", || world.dropped() > dropped);
    assert_eq!(arrived(), before + 1, "nothing but the true one arrived");
    one.keeper.shell(&format!("ip address del {}/32 dev {uplink}", one.lease.ipv4));
    one.join(&world.setup, ROOT);
}

#[test]
fn what_was_done_behind_our_back_is_mended() {
    let Some(world) = World::new() else { return };
    world.host("echo 0 > /proc/sys/net/ipv4/ip_forward");
    let (one, other) = (world.vm(1), world.vm(2));
    attach(&world, &[&one, &other], &[]);
    joined(&world, &[&one, &other]);
    let tables = || world.host("nft -s list table inet cove0; nft -s list table bridge cove0");
    let before = tables();

    world.host("nft delete table inet cove0; nft delete table bridge cove0");
    assert_eq!(sync(&world, &[&one, &other], &[]), Vec::new());
    assert_eq!(tables(), before);
    assert!(one.ask(internet::WEB, 80).is_ok());

    world.host("ip link delete cove0; nft flush table inet cove0");
    assert_eq!(sync(&world, &[&one, &other], &[]), Vec::new());
    assert_eq!(tables(), before);
    assert!(one.ask(internet::WEB, 80).is_ok() && world.asks(&other).is_some());

    world.host(&format!("ip link delete cv{}", other.id));
    let missing = sync(&world, &[&one, &other], &[]);
    assert!(missing.len() == 1 && missing[0] == other.id, "it has to come again: {missing:?}");
    let again = handed(&other);
    let plan = HostPlan::new(world.setup.clone()).with(&one.id, 1).with(&other.id, 2);
    world.on_host(async move |mut host| {
        host.sync(&plan).await.expect("synced");
        host.attach(&again.0, again.1, again.2).await.expect("attached");
        // What is attached already is attached anew.
        host.detach(&again.0).await.expect("detached");
        host.detach(&again.0).await.expect("and is no error twice");
    });
    assert!(world.asks(&one).is_some());
    assert_eq!(sync(&world, &[], &[]), Vec::new());
    assert_eq!(world.left(), "");
    // The bridge that remembered was deleted, so forwarding stays as it was then found: on.
    assert_eq!(world.host("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
}

#[test]
fn forwarding_is_put_back_and_a_failed_attach_leaves_nothing() {
    let Some(world) = World::new() else { return };
    world.host("echo 0 > /proc/sys/net/ipv4/ip_forward");
    let one = world.vm(1);
    let (vm, slot, namespace) = handed(&one);
    // The name is taken in the namespace: the pair cannot be made.
    one.keeper.shell(&format!("ip link add up{vm} type bridge"));
    let plan = HostPlan::new(world.setup.clone());
    world.on_host(async move |mut host| {
        host.sync(&plan).await.expect("synced");
        let report = host.attach(&vm, slot, namespace).await.expect_err("it cannot be made");
        assert_eq!(report.message, format!("cannot make the uplink `cv{vm}`"));
    });
    assert_eq!(world.left(), "");
    assert_eq!(world.host("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
}

#[test]
fn what_is_not_ours_is_refused_and_left() {
    let Some(world) = World::new() else { return };
    let one = world.vm(1);
    for (make, unmake, message) in [
        ("ip link add cove0 type bridge", "ip link del cove0", "an interface `cove0` already"),
        (
            "ip link add cove0 type veth peer name cove1",
            "ip link del cove0",
            "an interface `cove0` already",
        ),
        ("nft add table inet cove0", "nft delete table inet cove0", "a table `inet cove0` already"),
        (
            "nft add table bridge cove0",
            "nft delete table bridge cove0",
            "a table `bridge cove0` already",
        ),
        (
            "ip link add other0 type bridge; ip address add 10.203.7.1/24 dev other0; \
             ip link set other0 up",
            "ip link del other0",
            "on `other0` of this host",
        ),
        (
            "ip route add 10.200.0.0/13 dev host0",
            "ip route del 10.200.0.0/13",
            "overlaps the route or address `10.200.0.0/13` on `host0`",
        ),
        (
            &format!("ip link add cv{} type bridge", one.id),
            &format!("ip link del cv{}", one.id),
            &format!("an interface `cv{}` already", one.id),
        ),
    ] {
        world.host(make);
        let state = || world.host("ip -o addr; ip -o link | grep cove0 || true; nft list ruleset");
        let before = state();
        let (vm, slot, namespace) = handed(&one);
        let plan = HostPlan::new(world.setup.clone());
        let part = message.to_owned();
        world.on_host(async move |mut host| {
            assert_eq!(
                host.sync(&plan).await,
                Ok(Vec::new()),
                "there is nothing of ours to remove"
            );
            let report = match host.attach(&vm, slot, namespace).await {
                Err(report) if report.kind == Kind::Conflict => report,
                other => panic!("{part}: {other:?}"),
            };
            assert!(report.message.contains(&part), "{report:?}");
            assert!(report.hint.is_some_and(|hint| hint.contains("`[net.bridge]`")), "{part}");
        });
        assert_eq!(state(), before, "{message}");
        world.host(unmake);
    }
    assert_eq!(world.left(), "");
}

#[test]
fn namespaces_that_are_no_vms_are_refused() {
    let Some(world) = World::new() else { return };
    let one = world.vm(1);
    let open = |path: PathBuf| std::fs::File::open(path).expect("it is there").into();
    let foreign = Keeper::new(&world.internet, 4711);
    let host = PathBuf::from("/run/netns").join(world.internet.host().name());
    let outside = PathBuf::from("/run/netns").join(world.internet.outside().name());
    let cases: Vec<(std::os::fd::OwnedFd, &str)> = vec![
        (tempfile::tempfile().expect("a file").into(), "is no network namespace"),
        (open("/dev/null".into()), "is no network namespace"),
        (open(one.keeper.path("user")), "is no network namespace"),
        (open(one.keeper.path("mnt")), "is no network namespace"),
        (open(host), "is the host's"),
        (open(outside), "is the host's"),
        (foreign.namespace(), "belongs to user 4711, not to 0"),
    ];
    let (vm, plan) = (one.id.clone(), HostPlan::new(world.setup.clone()));
    let namespace = one.keeper.namespace();
    world.on_host(async move |mut host| {
        let report = host.attach(&vm, 1, namespace).await.expect_err("it was told nothing");
        assert!(report.message.contains("has not been told yet"), "{report:?}");
        host.sync(&plan).await.expect("synced");
        for (descriptor, part) in cases {
            let report = host.attach(&vm, 1, descriptor).await.expect_err(part);
            assert!(report.message.contains(part) && report.kind == Kind::Refused, "{report:?}");
        }
    });
    assert_eq!(world.left(), "", "nothing was begun");
}

#[test]
fn the_daemons_bridge_knows_a_keeper_by_pid_and_start_time() {
    let Some(world) = World::new() else { return };
    let one = world.vm(1);
    let (vm, slot, pid) = (one.id.clone(), one.slot, one.keeper.pid());
    let setup = world.setup.clone();
    world.on_host(async move |_host| {
        let tasks = Tasks::default();
        let bridge = Bridge::start(setup, "/nonexistent".into(), &tasks);
        assert_eq!(bridge.sync(Some(Vec::new())).await, Ok(Vec::new()));
        let keeper = Process::open_any(pid).expect("opens").expect("it lives").id();
        let later = ProcessId { start_ticks: keeper.start_ticks + 1, ..keeper };
        let member = Member { vm: vm.clone(), slot, peers: [].into() };
        let report = bridge.attach(member.clone(), later).await.expect_err("another process");
        assert_eq!(report.message, format!("the network keeper of VM `{vm}` has ended"));
        bridge.attach(member, keeper).await.expect("attached");
        let inside = bridge.inside(slot).expect("there is one");
        assert_eq!(Some(inside.lease), bridge.setup().ranges().lease(slot));
        assert_eq!(bridge.check().await, Ok(None));
    });
    one.join(&world.setup, ROOT);
    assert!(world.asks(&one).is_some());
    assert_eq!(sync(&world, &[], &[]), Vec::new());
    assert_eq!(world.left(), "");
}

#[test]
fn a_chain_that_drops_what_vms_send_is_found() {
    let Some(world) = World::new() else { return };
    let problem = |part: Option<&'static str>| {
        world.on_host(async move |mut host| {
            let found = host.check().await.expect("read");
            let text = found.map(|problem| format!("{} {}", problem.what, problem.fix));
            match (part, text) {
                (Some(part), Some(text)) => assert!(text.contains(part), "{text}"),
                (part, text) => assert!(part.is_none() && text.is_none(), "{part:?} {text:?}"),
            }
        });
    };
    problem(None);
    let chain = |table: &str, others: &str| {
        format!(
            "table {table} {{\n{others}\nchain FORWARD {{\n type filter hook forward priority 0; policy \
             drop;\n}}\n}}"
        )
    };
    for (table, others, part) in [
        ("ip filter", "chain DOCKER-USER {\n}", "iptables -I DOCKER-USER -i cove0 -j ACCEPT"),
        ("ip filter", "chain ufw-user-forward {\n}", "ufw route allow in on cove0"),
        ("inet firewalld", "", "--zone=trusted --add-interface=cove0"),
        ("inet other", "", "nft insert rule inet other FORWARD iifname cove0 accept"),
    ] {
        world.nft(&chain(table, others));
        problem(Some(part));
        world.host(&format!("nft insert rule {table} FORWARD iifname cove0 accept"));
        problem(None);
        world.host(&format!("nft delete table {table}"));
    }
}

#[test]
fn a_thousand_vms_fit_into_one_transaction() {
    let Some(world) = World::new() else { return };
    let mut plan = HostPlan::new(world.setup.clone());
    for slot in 0..1000 {
        plan.vms.insert(VmId::random(), slot);
    }
    let vms: Vec<VmId> = plan.vms.keys().cloned().collect();
    let pairs = vms.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    plan.peers = pairs.take(500).collect();
    let empty = HostPlan::new(world.setup.clone());
    world.on_host(async move |mut host| {
        assert_eq!(host.sync(&plan).await.expect("synced"), vms);
        assert_eq!(host.sync(&empty).await, Ok(Vec::new()));
    });
    assert_eq!(world.left(), "");
}

#[test]
fn a_host_without_ipv6_has_a_bridge_all_the_same() {
    let Some(world) = World::new() else { return };
    world.host(
        "cd /proc/sys/net/ipv6/conf && echo 1 > all/disable_ipv6 && echo 1 > default/disable_ipv6",
    );
    let one = world.vm(1);
    attach(&world, &[&one], &[]);
    one.join(&world.setup, ROOT);
    assert!(world.asks(&one).is_some());
    assert!(one.ask(internet::WEB, 80).is_ok());
    assert_eq!(sync(&world, &[], &[]), Vec::new());
    assert_eq!(world.left(), "");
}
