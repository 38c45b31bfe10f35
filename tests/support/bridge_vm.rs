//! VMs that are none, for tests of the bridge: a namespace as a keeper has it, and one that plays the guest.
//!
//! ```text
//!  guest namespace                 keeper's namespace                         host namespace
//!   guest0 10.203.x.y/16 ── veth ── tap0 │ forwards │ up<id> ═══ cv<id> ── cove0
//! ```
//!
//! The keeper's namespace belongs to a user namespace of its own, held by a process of the daemon's user.

#![expect(clippy::disallowed_methods, reason = "what a test needs of the system, it runs itself")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cove::id::VmId;
use cove::net::bridge::{Inside, Setup, join};
use cove::task::Tasks;
use cove::vm::address::Lease;

use crate::internet::{Internet, Namespace};

/// Where every guest answers with the address of who asks.
pub(crate) const PORT: u16 = 7000;

/// Nothing that is let through takes as long.
const PATIENCE: Duration = Duration::from_secs(3);

/// A process in namespaces of its own, as a keeper is.
#[derive(Debug)]
pub(crate) struct Keeper(Child);

impl Keeper {
    /// One of `user`.
    pub(crate) fn new(internet: &Internet, user: u32) -> Self {
        let mut command = internet.command_as(user, "unshare");
        command.args(["--user", "--map-root-user", "--net", "--", "sleep", "600"]);
        let child = command.stdin(Stdio::null()).spawn().expect("`unshare` runs");
        let keeper = Self(child);
        let entered = || {
            let name = std::fs::read(format!("/proc/{}/comm", keeper.0.id()));
            name.is_ok_and(|name| name == b"sleep\n")
        };
        crate::wait_until("the keeper has its namespaces", entered);
        keeper
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// The path of one of its namespaces.
    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.0.id()).into()
    }

    /// Its network namespace, as the daemon sends it.
    pub(crate) fn namespace(&self) -> OwnedFd {
        File::open(self.path("net")).expect("the keeper lives").into()
    }

    /// Runs a command line in its network namespace, as root.
    pub(crate) fn shell(&self, line: &str) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path("net").display()));
        run(command.args(["sh", "-ec", line]));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.kill().expect("it is a child");
        self.0.wait().expect("it is a child");
    }
}

/// One VM.
#[derive(Debug)]
pub(crate) struct FakeVm {
    pub(crate) id: VmId,
    pub(crate) slot: u32,
    pub(crate) lease: Lease,
    pub(crate) keeper: Keeper,
    guest: Namespace,
}

impl FakeVm {
    /// A VM of `user`, without an uplink.
    pub(crate) fn new(internet: &Internet, setup: &Setup, user: u32, slot: u32) -> Self {
        let id = VmId::random();
        let keeper = Keeper::new(internet, user);
        let guest = Namespace::new(&format!("guest{slot}"));
        let ranges = setup.ranges();
        let lease = ranges.lease(slot).expect("a slot of the range");
        let (name, pid) = (guest.name(), keeper.pid());
        run(Command::new("ip").args(
            format!("link add guest0 netns {name} type veth peer name tap0 netns {pid}").split(' '),
        ));
        keeper.shell(
            "ip link set lo up; ip link set tap0 up; echo 1 > /proc/sys/net/ipv4/ip_forward; \
             echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; \
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; ip address add fe80::1/64 dev tap0 nodad",
        );
        let length = ranges.range4().prefix_len();
        guest.ip(&format!("address add {}/{length} dev guest0", lease.ipv4));
        guest.ip(&format!("address add {}/128 dev guest0 nodad", lease.ipv6));
        guest.ip("link set guest0 up");
        guest.ip(&format!("route add default via {}", ranges.gateway().ipv4));
        guest.ip("route add default via fe80::1 dev guest0");
        // It ends with the test.
        drop(guest.enter(|| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).expect("it listens");
            for stream in listener.incoming() {
                answer(&mut stream.expect("a connection"));
            }
        }));
        Self { id, slot, lease, keeper, guest }
    }

    /// What its keeper does when the uplink is there.
    pub(crate) fn join(&self, setup: &Setup, user: u32) {
        let inside = Inside::new(setup, self.slot, user).expect("a slot of the range");
        let vm = self.id.clone();
        within(self.keeper.path("net"), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let tasks = Tasks::default();
                let (connection, netlink, _) = rtnetlink::new_connection().expect("netlink");
                drop(tasks.spawn_until_shutdown("netlink", connection));
                join(&netlink, &vm, "tap0", &inside).await.expect("it joins");
            });
        });
    }

    /// What the guest gets to hear from a web server, or from another guest.
    pub(crate) fn ask(&self, address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
        ask(&Path::new("/run/netns").join(self.guest.name()), address, port)
    }
}

/// Answers with the address of who asks.
pub(crate) fn answer(stream: &mut TcpStream) {
    let Ok(peer) = stream.peer_addr() else { return };
    let mut request = [0; 64];
    // Who asks and goes away does not wait for an answer.
    if stream.read(&mut request).is_ok() {
        drop(stream.write_all(format!("asked by {}\n", peer.ip().to_canonical()).as_bytes()));
    }
}

/// Asks from the namespace at `path`.
pub(crate) fn ask(path: &Path, address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    let to = SocketAddr::new(address.into(), port);
    within(path.to_owned(), move || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    })
}

/// Runs `work` in a network namespace, on a thread of its own.
pub(crate) fn within<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        let namespace = File::open(path).expect("the namespace is there");
        nix::sched::setns(namespace.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("root may enter it");
        work()
    });
    thread.join().expect("no panic")
}

/// Runs a command to its end, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let done = command.output().expect("it runs");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {errors}");
    String::from_utf8(done.stdout).expect("UTF-8")
}
