//! Ports of guests at ports of the host: by hand and published, with a guest that has no network.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{BOOT, QUICK, Ran, Who, World, as_everybody};
use crate::watch;

/// How many bytes go each way in one piece.
const MUCH: usize = 8 << 20;

/// Connections at once.
const MANY: usize = 50;

/// Programs of the guest: one that gives back what it gets, one that first reads to the end and then says how
/// much it was and its checksum, one that accepts and says nothing.
const PROGRAMS: &str = r#"
    use IO::Socket::INET;
    sub serve {
        my ($port, $talk) = @_;
        return if fork;
        my $s = IO::Socket::INET->new(Listen => 128, LocalAddr => "127.0.0.1", LocalPort => $port,
            ReuseAddr => 1) or die "$port: $!";
        $SIG{CHLD} = "IGNORE";
        while (my $c = $s->accept) {
            if (fork) { close $c; next }
            binmode $c; $talk->($c); exit 0;
        }
        exit 1;
    }
    serve(7, sub { my $c = shift; my $b;
        while (sysread $c, $b, 65536) { my $o = 0;
            while ($o < length $b) { $o += syswrite($c, $b, length($b) - $o, $o) // exit 1 } } });
    serve(8, sub { my $c = shift; my ($b, $n, $sum) = ("", 0, 0);
        while (my $r = sysread $c, $b, 65536) { $n += $r; $sum = ($sum + unpack("%32C*", $b)) % 2**32 }
        print $c "$n $sum\n"; close $c });
    serve(9, sub { sleep 1000 });
"#;

/// A port of the host that is free now.
fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("bound").port()
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn connect(port: u16) -> TcpStream {
    let socket = watch::until("somebody listens", QUICK, || TcpStream::connect(at(port)).ok());
    socket.set_read_timeout(Some(BOOT)).expect("set");
    socket.set_write_timeout(Some(BOOT)).expect("set");
    socket
}

/// Starts the guest's programs, and waits until they listen.
fn programs(world: &World, vm: &str) {
    let save = ["exec", vm, "--", "sh", "-c", "cat > /root/serve.pl"];
    world.command(save).stdin(PROGRAMS).run().success();
    world.guest(vm, "setsid perl /root/serve.pl </dev/null >/root/serve.log 2>&1 &");
    watch::until("they listen", BOOT, || {
        let ports = world.json(["ports", vm, "--json"]);
        let listens = |port| {
            ports["sockets"].as_array().expect("a list").iter().any(|one| one["port"] == port)
        };
        [7, 8, 9].into_iter().all(listens).then_some(())
    });
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).expect("random bytes");
    noise
}

/// Sends all and ends that half, and returns all that comes.
fn exchange(port: u16, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = connect(port);
    let mut writer = socket.try_clone()?;
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        let feed = scope.spawn(move || {
            writer.write_all(sent)?;
            writer.shutdown(Shutdown::Write)
        });
        socket.read_to_end(&mut got)?;
        feed.join().expect("no panic")
    })?;
    Ok(got)
}

/// Bytes go both ways unchanged, halves end by themselves, and many connections do not disturb each other.
fn carries(echo: u16, counts: u16) {
    let sent = noise(MUCH);
    let got = exchange(echo, &sent).expect("carried");
    assert!(got == sent, "{} bytes came back, and not the same", got.len());
    let sum = sent.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    let told = exchange(counts, &sent).expect("carried");
    assert_eq!(String::from_utf8_lossy(&told), format!("{MUCH} {sum}\n"), "a half-close is kept");
    let sent = noise(100_000);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..MANY).map(|_| scope.spawn(|| exchange(echo, &sent))).collect();
        for one in all {
            assert!(one.join().expect("no panic").expect("carried") == sent);
        }
    });
}

/// An open connection of a guest that ends is broken off, in time.
fn broken_off(mut open: TcpStream) {
    let end = open.read(&mut [0]);
    assert!(matches!(&end, Err(error) if error.kind() == ErrorKind::ConnectionReset), "{end:?}");
}

as_everybody!(a_port_is_forwarded_until_it_is_ended);

fn a_port_is_forwarded_until_it_is_ended(who: Who) {
    let world = World::new(who);
    world.start("web", &["--net", "none"]);
    programs(&world, "web");
    let [echo, counts, silent, nobody] = [(); 4].map(|()| free());
    let pairs = [(echo, 7), (counts, 8), (silent, 9), (nobody, 10)];
    let words = pairs.map(|(host, guest)| format!("{host}:{guest}"));
    let arguments = ["forward", "web"].into_iter().chain(words.iter().map(String::as_str));
    let forward = world.command(arguments).spawn();
    carries(echo, counts);
    let refused = exchange(nobody, b"").expect_err("nothing listens there");
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);

    // A port is one program's.
    let again = world.cove(["forward", "web", &format!("{echo}:7")]).status(4);
    again.prints("").says("is in use").says("hint: ");
    forward.signal(Signal::SIGINT);
    let ended: Ran = forward.wait().success().says("ended").says("nothing listens on port 10");
    assert!(ended.stdout.starts_with(&format!("127.0.0.1:{echo} -> web:7\n")), "{}", ended.told());
    TcpStream::connect(at(echo)).expect_err("nobody listens any more");

    // The VM stops while a connection is open.
    let forward = world.command(["forward", "web", &format!("{silent}:9")]).spawn();
    let open = connect(silent);
    world.cove(["stop", "web"]).success();
    forward.wait().status(4).says("`web` is being stopped, and its forwards ended");
    broken_off(open);
    world.cove(["forward", "web", &format!("{silent}:9")]).status(4).says("cove start web");
    world.finish();
}

as_everybody!(a_published_port_comes_back_with_the_vm_and_with_the_daemon);

fn a_published_port_comes_back_with_the_vm_and_with_the_daemon(who: Who) {
    let world = World::new(who);
    let [echo, counts, silent] = [(); 3].map(|()| free());
    let words =
        [(echo, 7), (counts, 8), (silent, 9)].map(|(host, guest)| format!("{host}:{guest}"));
    let publish = words.iter().flat_map(|word| ["--publish", word.as_str()]);
    let publish: Vec<_> = ["--net", "none"].into_iter().chain(publish).collect();
    let vm = world.start("web", &publish);
    assert_eq!(vm["publish"][0], format!("127.0.0.1:{echo}:7"));
    programs(&world, "web");
    carries(echo, counts);

    // Nobody else gets it: not another VM, and not a forward by hand.
    let other = world.cove(["create", "--name", "other", "--publish", &words[0]]).status(4);
    other.says("`web` has").says("hint: ");
    world.cove(["forward", "web", &words[0]]).status(4).says("is in use");

    // Another daemon.
    let open = connect(silent);
    watch::kill_daemon(&world);
    // Its sockets were closed for it, so that this looks like an end.
    assert_eq!((&open).read(&mut [0]).unwrap_or_default(), 0);
    assert_eq!(world.json(["show", "web", "--json"])["state"], "running");
    assert_eq!(exchange(echo, b"again").expect("carried"), b"again");

    // Another boot.
    let open = connect(silent);
    world.cove(["stop", "web"]).success();
    broken_off(open);
    TcpStream::connect(at(echo)).expect_err("it does not run");
    world.cove(["start", "web"]).success();
    programs(&world, "web");
    assert_eq!(exchange(echo, b"still").expect("carried"), b"still");

    taken_by_others(&world, echo);
    world.cove(["delete", "web"]).success();
    TcpStream::connect(at(echo)).expect_err("it is gone");
    world.finish();
}

/// Takes a port as soon as it is free: a killed process lets go of it a moment later.
fn take(port: u16) -> TcpListener {
    watch::until("the port is free", QUICK, || TcpListener::bind(at(port)).ok())
}

/// The port is another program's when the VM starts, and when the daemon comes back.
fn taken_by_others(world: &World, echo: u16) {
    let place = format!("127.0.0.1:{echo}:7");
    world.cove(["stop", "web"]).success();
    let taken = take(echo);
    let failed = world.cove(["start", "web"]).status(4);
    failed.says(&place).says("of `web`").says("is in use by a program");
    let vm = world.json(["show", "web", "--json"]);
    assert_eq!(vm["state"], "stopped");
    watch::nothing_runs(world, &vm);
    drop(taken);
    world.cove(["start", "web"]).success();

    watch::kill_daemon(world);
    let taken = take(echo);
    let vm = world.json(["show", "web", "--json"]);
    assert_eq!(vm["state"], "running");
    let failed = vm["publish_failed"][0].as_str().expect("it is said");
    assert!(failed.contains(&place), "{failed}");
    assert!(world.cove(["show", "web"]).success().stdout.contains("not published"));
    assert!(world.log().contains(&place), "and in the log");
    drop(taken);
}

as_everybody!(an_open_forward_is_a_use_of_the_vm);

fn an_open_forward_is_a_use_of_the_vm(who: Who) {
    let world = World::new(who);
    let counts = free();
    // A program that ends its half when the client has ended its own: one that never looks keeps its connection.
    world.start("idle", &["--net", "none", "--publish", &format!("{counts}:8")]);
    programs(&world, "idle");
    let open = connect(counts);
    world.cove(["set", "idle", "--auto-stop-after", "2s"]).success();
    // Longer than it may be idle: nothing tells that something does not happen.
    std::thread::sleep(Duration::from_secs(6));
    let vm = world.json(["show", "idle", "--json"]);
    assert_eq!(vm["state"], "running", "a connection is open: {vm}");
    drop(open);
    watch::state(&world, "idle", "stopped");
    world.finish();
}
