//! Guests on the bridge, by the real `cove` in a small internet of namespaces.

#![expect(clippy::disallowed_methods, reason = "the network helper is a program of this test's")]

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use cove::rpc::client::Client;
use cove::wire::rpc::{CreateVm, NetMode, VmCreate};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::RecordType;

use crate::harness::{BOOT, QUICK, Who, World, as_everybody, skipped};
use crate::internet::{HOST, Internet, METADATA, Namespace, Place, WEB, WEB_NAME, unavailable};
use crate::kill_walk::killed_after;
use crate::watch;

/// The bridge's own address in the default range.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);

/// A program of the guest that answers at port 80.
const SERVER: &str = r#"
    use IO::Socket::IP;
    my $s = IO::Socket::IP->new(Listen => 16, LocalHost => "::", LocalPort => 80, V6Only => 0,
        ReuseAddr => 1) or die $@;
    while (my $c = $s->accept) {
        while (my $line = <$c>) { last if $line eq "\r\n" }
        print $c "HTTP/1.0 200 OK\r\n\r\nhi\n";
        close $c;
    }
"#;

/// What an ordinary user needs of root: the network helper. Killed when dropped.
struct Helper(Option<Child>);

impl Helper {
    fn of(world: &World) -> Self {
        if world.who.id() == 0 {
            return Self(None);
        }
        let socket = world.folder().join("helper.sock");
        world.configure(&format!("[net.bridge]\nsocket = {:?}\n", socket.display()));
        let helper = env!("CARGO_BIN_EXE_cove-net-helper").to_owned();
        let words: Vec<String> = world.prefix.iter().cloned().chain([helper]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--config", "/nonexistent", "--socket"]).arg(&socket);
        command.args(["--user", &world.who.id().to_string()]).stdin(Stdio::null());
        let child = command.spawn().expect("the helper starts");
        watch::until("the helper listens", QUICK, || socket.exists().then_some(()));
        Self(Some(child))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().expect("it is a child");
            child.wait().expect("it is a child");
        }
    }
}

/// What a shell on the host prints, and whether it succeeds.
fn on_host(internet: &Internet, script: &str) -> (bool, String) {
    let done = internet.command("sh").args(["-c", script]).output().expect("runs");
    (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
}

fn host_reaches(internet: &Internet, address: &str) -> bool {
    on_host(internet, &format!("curl -sS --max-time 5 http://{address}/")).0
}

/// Ports, tables, addresses and routes of the bridge on the host.
fn left(internet: &Internet) -> String {
    let script = "ip -o link | grep -E 'cove0|cv[0-9a-f]{12}'; nft list tables | grep cove; \
                  ip route | grep 10.203";
    on_host(internet, script).1
}

fn address(world: &World, vm: &str) -> String {
    let shown = world.json(["show", vm, "--json"]);
    shown["net"]["address"].as_str().expect("it runs").to_owned()
}

fn address6(world: &World, vm: &str) -> String {
    let shown = world.json(["show", vm, "--json"]);
    shown["net"]["address6"].as_str().expect("it runs, and has IPv6").to_owned()
}

fn serve(world: &World, vm: &str) {
    let save = ["exec", vm, "--", "sh", "-c", "cat > /root/serve.pl"];
    world.command(save).stdin(SERVER).run().success();
    world.guest(vm, "setsid perl /root/serve.pl </dev/null >/root/serve.log 2>&1 &");
    watch::until("it listens", BOOT, || {
        let ports = world.json(["ports", vm, "--json"]);
        let sockets = ports["sockets"].as_array().expect("a list");
        sockets.iter().any(|one| one["port"] == 80).then_some(())
    });
}

as_everybody!(guests_on_the_bridge_are_reached_by_the_host_and_by_their_peers);

fn guests_on_the_bridge_are_reached_by_the_host_and_by_their_peers(who: Who) {
    if let Some(reason) = unavailable() {
        return skipped(&reason);
    }
    let internet = Internet::new();
    forward_ipv6(&internet);
    let mut world = World::new(who);
    world.prefix = internet.prefix();
    let helper = Helper::of(&world);
    world.start("db", &["--net", "bridge", "--egress", "closed"]);
    world.start("web", &["--net", "bridge", "--peer", "db"]);
    let other = world.start("other", &["--net", "bridge"]);
    let [db, web, stranger] = ["db", "web", "other"].map(|vm| address(&world, vm));
    for vm in ["db", "web", "other"] {
        serve(&world, vm);
    }

    for address in [&db, &web, &stranger] {
        assert!(host_reaches(&internet, address), "the host reaches {address}");
    }
    assert!(world.reaches("web", "db.cove.internal"), "its peer, by name");
    assert!(world.reaches("db", &web), "and back, whatever its policy says");
    for (from, to) in [("other", &db), ("other", &web), ("db", &stranger), ("web", &stranger)] {
        assert!(!world.reaches(from, to), "{from} is no peer of {to}");
    }
    let denied = world.cove(["net", "denials", "other"]).success().stdout;
    assert!(denied.contains(&db), "{denied}");
    let explained = world.cove(["net", "explain", "web", &db]).success().stdout;
    assert!(explained.contains("it is a peer"), "{explained}");
    assert!(world.cove(["net", "show", "db"]).success().stdout.contains("peer     web"));

    assert!(world.reaches("web", WEB_NAME), "the internet, by name");
    assert!(!world.reaches("db", &WEB.to_string()), "closed is closed");
    for (place, address) in [(Place::Host, HOST), (Place::Outside, METADATA)] {
        assert!(host_reaches(&internet, &address.to_string()), "the control: {address}");
        let seen = internet.seen(place, address);
        assert!(!world.reaches("web", &address.to_string()), "{address}");
        assert_eq!(internet.seen(place, address), seen, "{address}");
    }
    assert!(!world.reaches("web", &GATEWAY.to_string()), "the bridge's own address");

    the_same_by_ipv6(&world, &internet);

    watch::kill_daemon(&world);
    assert!(host_reaches(&internet, &web), "without a daemon");
    assert!(host_reaches(&internet, &format!("[{}]", address6(&world, "web"))), "by IPv6 too");
    assert!(world.reaches("web", "db.cove.internal"), "a daemon that comes back has the names");
    assert!(!world.reaches("other", &db), "and opens nothing");
    assert_eq!(address(&world, "other"), stranger);

    // An address is the VM's for as long as it exists.
    world.cove(["stop", "db", "other"]).success();
    assert!(!host_reaches(&internet, &db));
    world.cove(["start", "db"]).success();
    assert_eq!(address(&world, "db"), db);
    serve(&world, "db");
    assert!(world.reaches("web", &db), "peers again");
    world.cove(["delete", "web", "db"]).success();
    assert_eq!(left(&internet), "", "with the last one the bridge goes");
    world.cove(["start", "other"]).success();
    assert_eq!(watch::id(&other), watch::id(&world.json(["show", "other", "--json"])));
    world.cove(["delete", "other"]).success();
    assert_eq!(left(&internet), "");
    drop(helper);
    world.finish();
}

/// Kernels before 6.17 forward all of IPv6 or nothing: there it is the operator who wants it.
fn forward_ipv6(internet: &Internet) {
    let forward =
        "cd /proc/sys/net/ipv6/conf; test -e all/force_forwarding || echo 1 > all/forwarding";
    assert!(on_host(internet, forward).0);
}

/// The same three guests: `web` and `db` are peers, `other` is nobody's.
fn the_same_by_ipv6(world: &World, internet: &Internet) {
    let [db, web, other] = ["db", "web", "other"].map(|vm| address6(world, vm));
    for (name, address) in [("db", &db), ("web", &web), ("other", &other)] {
        let by_name = addresses6(internet, &format!("{name}.cove.internal."));
        assert_eq!(by_name, [address.as_str()], "the host finds {name}");
        assert!(host_reaches(internet, &format!("[{address}]")), "the host reaches {name}");
    }
    assert!(world.cove(["net", "show", "web"]).success().stdout.contains(&web));
    assert!(world.reaches("web", &db), "its peer");
    assert!(world.reaches("db", &web), "and back");
    for (from, to) in [("other", &db), ("other", &web), ("db", &other), ("web", &other)] {
        is_told(world, from, to, "Connection refused");
    }

    let gateway =
        Ipv6Addr::from_bits((web.parse::<Ipv6Addr>().expect("one").to_bits() >> 64 << 64) + 1);
    internet.host().ip("-6 address add 2001:db8::2/64 dev host0 nodad");
    internet.outside().ip("-6 address add 2001:db8::1/64 dev out0 nodad");
    let outside = "2001:db8::1".parse().expect("an address");
    for (namespace, address, why) in [
        (internet.host(), gateway, "Connection refused"),
        (internet.outside(), outside, "Network is unreachable"),
    ] {
        let seen = listen6(namespace, address);
        assert!(on_host(internet, &format!("bash -c ': <>/dev/tcp/{address}/80'")).0, "{address}");
        watch::until("the control is seen", QUICK, || (seen.load(SeqCst) == 1).then_some(()));
        is_told(world, "web", &address.to_string(), why);
        assert_eq!(seen.load(SeqCst), 1, "{address}");
    }

    let device = "$(ip -o route show default | sed 's/.* dev //; s/ .*//')";
    let lie = Ipv6Addr::from_bits(gateway.to_bits() + 0xfff0).to_string();
    world.guest("web", &format!("ip -6 address add {lie}/128 dev {device} nodad"));
    let connects = |from: &str| {
        let ask = format!(
            "use IO::Socket::IP; exit !IO::Socket::IP->new(LocalHost => '{from}', \
             PeerHost => '{db}', PeerPort => 80, Timeout => 5)"
        );
        world.cove(["exec", "web", "--", "perl", "-e", &ask]).status == 0
    };
    assert!(connects(&web), "its own address");
    assert!(!connects(&lie), "another one");
    world.guest("web", &format!("ip -6 address del {lie}/128 dev {device}"));
}

/// That a guest which tries to connect is told why not, and does not wait.
fn is_told(world: &World, vm: &str, address: &str, why: &str) {
    let ask = format!("exec 3<>/dev/tcp/{address}/80");
    let told = world.cove(["exec", vm, "--", "timeout", "10", "bash", "-c", &ask]).told();
    assert!(told.contains(why), "{vm} to {address}: {told}");
}

/// Counts who connects, for as long as the test runs.
fn listen6(namespace: &Namespace, address: Ipv6Addr) -> Arc<AtomicUsize> {
    let listening = namespace.enter(move || TcpListener::bind((address, 80)));
    let listener = listening.join().expect("no panic").expect("bound");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    drop(std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream.expect("accepted"));
            count.fetch_add(1, SeqCst);
        }
    }));
    seen
}

/// The IPv6 addresses of a name, as the bridge's resolver tells the host.
fn addresses6(internet: &Internet, name: &str) -> Vec<String> {
    let mut question = Message::query();
    question.add_query(Query::query(name.parse().expect("a name"), RecordType::AAAA));
    let question = question.to_vec().expect("bytes");
    let asked = internet.host().enter(move || -> std::io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(QUICK))?;
        socket.send_to(&question, (GATEWAY, 5354))?;
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    });
    let answer = asked.join().expect("no panic").expect("an answer");
    let answer = Message::from_vec(&answer).expect("a message");
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

as_everybody!(a_bridge_that_cannot_be_had_is_said_and_nothing_is_made);

fn a_bridge_that_cannot_be_had_is_said_and_nothing_is_made(who: Who) {
    if let Some(reason) = unavailable() {
        return skipped(&reason);
    }
    let internet = Internet::new();
    let mut world = World::new(who);
    world.prefix = internet.prefix();
    let create = ["create", "--name", "one", "--net", "bridge"];
    world.cove(["create", "--name", "one", "--peer", "two"]).status(4).says("--net bridge");
    world.cove(create.iter().copied().chain(["--peer", "nobody"])).status(3).says("nobody");
    world.cove(["create", "--name", "user", "--net", "user"]).success();
    world
        .cove(create.iter().copied().chain(["--peer", "user"]))
        .status(4)
        .says("not on the bridge");

    let run = ["run", "-d", "--name", "one", "--net", "bridge"];
    if who.id() != 0 {
        let ran = world.cove(run).status(125);
        ran.says("cannot reach the network helper").says("README");
    }
    let helper = Helper::of(&world);
    world.cove(["daemon", "stop"]).success();
    let conflict = |make: &str, unmake: &str, part: &str| {
        assert!(on_host(&internet, make).0, "{make}");
        world.cove(run).status(125).says(part).says("[net.bridge]");
        assert!(on_host(&internet, unmake).0, "{unmake}");
    };
    conflict(
        "ip link add cove0 type bridge",
        "ip link del cove0",
        "there is an interface `cove0` already, which is not of this cove",
    );
    conflict(
        "ip route add 10.200.0.0/13 dev host0",
        "ip route del 10.200.0.0/13",
        "overlaps the route or address `10.200.0.0/13` on `host0`",
    );
    assert_eq!(left(&internet), "");
    let list = world.cove(["list"]).success().stdout;
    assert!(!list.contains("one"), "nothing is half made: {list}");
    drop(helper);
    world.finish();
}

/// How long after it has begun to make a network a daemon is killed, in milliseconds: namespace, port, rules,
/// name, and after all of it.
const INTO_NETWORK: [u64; 6] = [0, 15, 40, 80, 150, 400];

// As the caller only, as the other walk, and only where that is root: the helper's side is its own.
#[test]
fn a_daemon_killed_while_it_bridges_leaves_nothing_on_the_host() {
    let reason = unavailable();
    if let Some(reason) = reason {
        return skipped(&reason);
    }
    if Who::Caller.id() != 0 {
        return skipped("only root bridges without a helper");
    }
    let internet = Internet::new();
    let mut world = World::new(Who::Caller);
    world.prefix = internet.prefix();
    let create = |name: &str| CreateVm {
        name: Some(name.to_owned()),
        net: Some(NetMode::Bridge),
        ..CreateVm::default()
    };
    for delay in INTO_NETWORK.map(Duration::from_millis) {
        let one = create("one");
        let begin = async |client: &Client| client.call::<VmCreate>(one).await;
        let seen = killed_after(&world, "network", delay, begin);
        world.assert_no_vm(&[seen.vm.to_string()]);
        assert_eq!(left(&internet), "", "{delay:?}");
    }
    // Beside one that runs, which does not notice.
    world.start("kept", &["--net", "bridge"]);
    serve(&world, "kept");
    let before = left(&internet);
    for delay in INTO_NETWORK.map(Duration::from_millis) {
        let two = create("two");
        let begin = async |client: &Client| client.call::<VmCreate>(two).await;
        killed_after(&world, "network", delay, begin);
        assert_eq!(world.json(["list", "--json"]).as_array().expect("a list").len(), 1);
        assert_eq!(left(&internet), before, "{delay:?}");
        assert!(host_reaches(&internet, &address(&world, "kept")), "{delay:?}");
        assert!(world.reaches("kept", WEB_NAME), "{delay:?}");
    }
    let pid = watch::monitor(&world, &world.json(["show", "kept", "--json"]));
    watch::end(pid);
    watch::state(&world, "kept", "stopped");
    assert_eq!(left(&internet), "", "its monitor's end is its network's");
    world.finish();
}
