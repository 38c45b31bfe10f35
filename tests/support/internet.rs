//! A small internet in network namespaces, for tests of what a guest can and cannot reach.
//!
//! ```text
//!  host namespace                         outside namespace
//!   lo     127.0.0.1, 11.3.0.2             lo   web 11.2.0.80, DNS 11.2.0.53, 169.254.169.254,
//!   host0  11.1.0.2/24, 10.8.0.2/24 ─veth─ out0 11.1.0.1/24    10.20.30.40, 100.64.9.9, 11.4.0.2, 11.4.0.3
//!          default route via 11.1.0.1
//! ```
//!
//! There is no way from either namespace to the machine or beyond: the public-range addresses are
//! borrowed. Behind every address answer HTTP on port 80, something on port 443 that says what it heard, and
//! UDP sinks on ports 9 and 443, and each counts what reaches it. A test runs the daemon in the host namespace with [`Internet::command`].
//!
//! Making namespaces takes root: ask [`unavailable`] first.

#![expect(dead_code, reason = "each test program uses its own part of this")]

#[path = "internet_servers.rs"]
mod servers;

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use servers::{Counts, Server};

/// The host's loopback.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The host's address, with the default route.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(11, 1, 0, 2);
/// A second public address of the host.
pub(crate) const HOST_SECOND: Ipv4Addr = Ipv4Addr::new(11, 3, 0, 2);
/// A private address of the host.
pub(crate) const HOST_PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
/// Outside at first; [`Internet::give_to_host`] can give it to the host.
pub(crate) const MOVABLE: Ipv4Addr = Ipv4Addr::new(11, 4, 0, 2);
/// Another one.
pub(crate) const MOVABLE_TOO: Ipv4Addr = Ipv4Addr::new(11, 4, 0, 3);
/// A public web server.
pub(crate) const WEB: Ipv4Addr = Ipv4Addr::new(11, 2, 0, 80);
/// Its name.
pub(crate) const WEB_NAME: &str = "web.cove-test.net";
/// The resolver of the host, unless [`Resolver::OnLoopback`].
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(11, 2, 0, 53);
/// The metadata service, reachable from the host by its default route.
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// A machine in a private network, reachable from the host.
pub(crate) const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 20, 30, 40);
/// A machine in the range that providers share with customers, reachable from the host.
pub(crate) const SHARED: Ipv4Addr = Ipv4Addr::new(100, 64, 9, 9);
/// A stub resolver as systemd-resolved has it.
pub(crate) const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Nobody's, until a benchmark has its own server there.
pub(crate) const BULK: Ipv4Addr = Ipv4Addr::new(11, 2, 0, 81);

/// Names that the name server knows besides, their addresses, and for how many seconds.
pub(crate) const NAMES: [(&str, &[Ipv4Addr], u8); 9] = [
    (WEB_NAME, &[WEB], 60),
    ("bulk.cove-test.net", &[BULK], 60),
    ("one.cove-test.net", &[MOVABLE], 60),
    ("two.cove-test.net", &[MOVABLE], 60),
    ("deep.below.cove-test.net", &[MOVABLE_TOO], 60),
    ("short.cove-test.net", &[MOVABLE_TOO], 1),
    ("rebind.cove-test.net", &[PRIVATE], 60),
    ("metadata.cove-test.net", &[METADATA], 60),
    ("mixed.cove-test.net", &[PRIVATE, HOST, WEB], 60),
];

const OUTSIDE: [Ipv4Addr; 7] = [WEB, DNS, METADATA, PRIVATE, SHARED, MOVABLE, MOVABLE_TOO];
const HOST_OWN: [Ipv4Addr; 6] = [LOOPBACK, HOST, HOST_SECOND, HOST_PRIVATE, MOVABLE, MOVABLE_TOO];

/// Where the host's resolver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// At [`DNS`], outside.
    Outside,
    /// At [`STUB`], on the host's loopback.
    OnLoopback,
}

/// In which namespace a listener is. One address can be in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The host.
    Host,
    /// The rest of the world.
    Outside,
}

/// Why no internet can be made here, if so: a test prints it and ends.
pub(crate) fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces are made by root only".to_owned());
    }
    let missing: Vec<_> = ["ip", "setpriv", "curl"]
        .into_iter()
        .filter(|program| {
            let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
            !folders.iter().any(|folder| Path::new(folder).join(program).exists())
        })
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

/// The namespaces and their listeners; gone when dropped.
#[derive(Debug)]
pub(crate) struct Internet {
    host: Namespace,
    outside: Namespace,
    counts: Counts,
    servers: Vec<Server>,
}

impl Internet {
    /// An internet whose host has its resolver outside.
    pub(crate) fn new() -> Self {
        Self::with_resolver(Resolver::Outside)
    }

    /// An internet with the host's resolver where it is said.
    pub(crate) fn with_resolver(resolver: Resolver) -> Self {
        let (host, outside) = (Namespace::new("host"), Namespace::new("outside"));
        let (inner, outer) = (host.name(), outside.name());
        ip(&format!("link add host0 netns {inner} type veth peer name out0 netns {outer}"));
        for (namespace, device, addresses) in [
            (&host, "host0", vec![(HOST, 24), (HOST_PRIVATE, 24)]),
            (&host, "lo", vec![(HOST_SECOND, 32)]),
            (&outside, "out0", vec![(Ipv4Addr::new(11, 1, 0, 1), 24)]),
            (&outside, "lo", OUTSIDE.map(|address| (address, 32)).into()),
        ] {
            namespace.up(device);
            for (address, length) in addresses {
                namespace.ip(&format!("address add {address}/{length} dev {device}"));
            }
            // Addresses that come later are listened on from the start.
            namespace.write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1");
        }
        host.ip("route add default via 11.1.0.1");
        outside.ip(&format!("route add {HOST_SECOND}/32 via {HOST}"));
        let counts = Counts::default();
        let dns_place = match resolver {
            Resolver::Outside => (Place::Outside, DNS),
            Resolver::OnLoopback => (Place::Host, STUB),
        };
        host.resolver(dns_place.1);
        let dns = |place| (dns_place.0 == place).then_some(dns_place.1);
        let servers = vec![
            Server::start(&host, Place::Host, &HOST_OWN, dns(Place::Host), &counts),
            Server::start(&outside, Place::Outside, &OUTSIDE, dns(Place::Outside), &counts),
        ];
        Self { host, outside, counts, servers }
    }

    /// A command that runs in the host namespace, as root. It finds the host's resolver in
    /// `/etc/resolv.conf`.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.host.command(program)
    }

    /// The words before a command that make it run there.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let command = self.command("");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_str().expect("UTF-8").to_owned());
        words.filter(|word| !word.is_empty()).collect()
    }

    /// A command in the same place as an ordinary user: with this user and group id and no other group.
    pub(crate) fn command_as(&self, user: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.host.command("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
        command.args(["--clear-groups", "--inh-caps=-all", "--"]).arg(program);
        command
    }

    /// Moves [`MOVABLE`] or [`MOVABLE_TOO`] from outside to the host.
    pub(crate) fn give_to_host(&self, address: Ipv4Addr) {
        self.outside.ip(&format!("address del {address}/32 dev lo"));
        self.host.ip(&format!("address add {address}/32 dev host0"));
    }

    /// The namespace of the host.
    pub(crate) fn host(&self) -> &Namespace {
        &self.host
    }

    /// The namespace of the rest of the world.
    pub(crate) fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// How many HTTP connections and UDP datagrams have reached `address`.
    pub(crate) fn seen(&self, place: Place, address: Ipv4Addr) -> usize {
        self.seen_by(place, address, "http") + self.seen_by(place, address, "udp")
    }

    /// The same of one kind: `http`, `udp`, `tls`, `quic` or `dns`.
    pub(crate) fn seen_by(&self, place: Place, address: Ipv4Addr, kind: &'static str) -> usize {
        let counts = self.counts.lock().expect("no listener panicked");
        counts.get(&(place, address, kind)).copied().unwrap_or(0)
    }
}

/// A network namespace with a name of its own, gone when dropped.
#[derive(Debug)]
pub(crate) struct Namespace(String);

/// Names are `cove-PID-START-NUMBER-WHAT`: PID and start time of the test tell whether it is still there.
const NAME: &str = "cove-";

impl Namespace {
    /// A new namespace with its loopback up. What killed tests have left is removed first.
    pub(crate) fn new(what: &str) -> Self {
        static STALE: std::sync::Once = std::sync::Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        STALE.call_once(remove_stale);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let start = start_time(pid).expect("this process has a start time");
        let namespace = Self(format!("{NAME}{pid}-{start}-{number}-{what}"));
        ip(&format!("netns add {}", namespace.name()));
        namespace.up("lo");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// A command that runs in it, as root.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = command("ip");
        command.args(["netns", "exec", self.name()]).arg(program);
        command
    }

    /// Runs `ip` with these words in it.
    pub(crate) fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.name()));
    }

    /// What `/etc/resolv.conf` says in it.
    pub(crate) fn resolver(&self, address: Ipv4Addr) {
        let folder = self.folder();
        std::fs::create_dir_all(&folder).expect("a folder below /etc/netns");
        std::fs::write(folder.join("resolv.conf"), format!("nameserver {address}\n"))
            .expect("a resolv.conf");
    }

    /// Runs `work` in it, on a thread of its own.
    pub(crate) fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let path = Path::new("/run/netns").join(self.name());
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).expect("the namespace is there");
            nix::sched::setns(namespace.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("root may enter it");
            work()
        })
    }

    fn up(&self, device: &str) {
        self.ip(&format!("link set {device} up"));
    }

    fn write(&self, path: &'static str, value: &'static str) {
        let written = self.enter(move || std::fs::write(path, value)).join();
        written.expect("no panic").expect("written");
    }

    fn folder(&self) -> PathBuf {
        Path::new("/etc/netns").join(self.name())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(self.name());
    }
}

fn remove(name: &str) {
    drop(command("ip").args(["netns", "delete", name]).output());
    drop(std::fs::remove_dir_all(Path::new("/etc/netns").join(name)));
}

fn remove_stale() {
    let folders = ["/run/netns", "/etc/netns"].map(std::fs::read_dir);
    for entry in folders.into_iter().flatten().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.strip_prefix(NAME).unwrap_or_default().split('-');
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u64>().ok());
        let (Some(pid), Some(start)) = (number(parts.next()), number(parts.next())) else {
            continue;
        };
        if u32::try_from(pid).ok().and_then(start_time) != Some(start) {
            remove(&name);
        }
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    process.stat().ok().map(|stat| stat.starttime)
}

#[expect(clippy::disallowed_methods, reason = "the one wrapper of this test support")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn ip(words: &str) {
    let done = command("ip").args(words.split(' ')).output().expect("`ip` runs");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}
