//! The network of a VM, with the real keeper, the real `pasta` and the real rules, in a small internet of
//! network namespaces; a namespace plays the guest.
//!
//! The daemon's part runs in a process of its own (`driver`, this program again), because it must run in
//! the host namespace and, in half of the tests, as an ordinary user.

#[path = "support/guest_link.rs"]
mod guest_link;
#[path = "support/internet.rs"]
mod internet;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cove::id::VmId;
use cove::net::{Attached, Networks};
use cove::process::{ProcessId, find_by_argument};
use cove::report::causes;
use cove::task::Tasks;
use cove::vm::ledger::{Ledger, LedgerError, ResourceKind};
use cove::wire::guest::Network;
use guest_link::GuestLink;
use internet::{Internet, Place, Resolver};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde::{Deserialize, Serialize};

const ROOT: u32 = 0;
const ORDINARY: u32 = 54_321;

/// Whatever is waited for takes far less.
const DEADLINE: Duration = Duration::from_secs(30);

/// The driver's settings, in its environment.
const SETTINGS: &str = "COVE_TEST_NET_DRIVER";

#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    coved: PathBuf,
    folder: PathBuf,
    vm: VmId,
    path: String,
}

/// What a check found, or the problem and its fix.
type Found = Result<String, (String, String)>;

/// What the driver answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Started { tap: i32, guest: Network, keeper: ProcessId, uplink: ProcessId, rows: Vec<String> },
    Done,
    Found(Vec<ProcessId>),
    Checks(Vec<(String, Found)>),
    Failed(Vec<String>),
}

/// The rows, in memory.
#[derive(Default)]
struct Rows {
    rows: Mutex<Vec<String>>,
    /// The row that cannot be written.
    fail: Option<&'static str>,
}

impl Rows {
    fn write(&self, kind: ResourceKind, row: String) -> Result<(), LedgerError> {
        if self.fail == Some(row.as_str()) {
            return Err(LedgerError { kind, source: "the disk is full".into() });
        }
        self.rows.lock().expect("no panic").push(row);
        Ok(())
    }
}

#[async_trait]
impl Ledger for Rows {
    async fn intend(&self, kind: ResourceKind) -> Result<(), LedgerError> {
        self.write(kind, format!("intend {}", kind.as_str()))
    }

    async fn made(&self, kind: ResourceKind, _: ProcessId) -> Result<(), LedgerError> {
        self.write(kind, format!("made {}", kind.as_str()))
    }
}

// --- the daemon's part ---

struct Driver {
    settings: Settings,
    tasks: Tasks,
    networks: Networks,
    attached: Option<Attached>,
}

impl Driver {
    fn new(settings: Settings) -> Self {
        let (tasks, networks) = daemon(&settings);
        Self { settings, tasks, networks, attached: None }
    }

    async fn answer(&mut self, command: &str) -> Answer {
        let fail = match command {
            "start" => None,
            "start without uplink row" => Some("made uplink"),
            "stop" => return self.stop().await,
            "restart" => return self.restart().await,
            "find" => return Answer::Found(find_by_argument(self.settings.vm.as_str())),
            "check" => return self.check().await,
            "start and cancel" => return self.cancel().await,
            _ => panic!("no such command: {command}"),
        };
        let rows = Rows { fail, ..Rows::default() };
        match self.networks.start(&self.settings.vm, &self.settings.folder, &rows).await {
            Err(error) => failed(&error),
            Ok(attached) => {
                let Attached { tap, guest, keeper, uplink } = &attached;
                let answer = Answer::Started {
                    tap: tap.as_raw_fd(),
                    guest: guest.clone(),
                    keeper: *keeper,
                    uplink: *uplink,
                    rows: rows.rows.into_inner().expect("no panic"),
                };
                self.attached = Some(attached);
                answer
            }
        }
    }

    async fn stop(&mut self) -> Answer {
        let attached = self.attached.take().expect("it was started");
        match self.networks.stop(Some(attached.keeper), Some(attached.uplink)).await {
            Ok(()) => Answer::Done,
            Err(error) => failed(&error),
        }
    }

    /// The daemon ends and another one begins.
    async fn restart(&mut self) -> Answer {
        assert_eq!(self.tasks.drain(DEADLINE).await, 0, "tasks end at shutdown");
        (self.tasks, self.networks) = daemon(&self.settings);
        let attached = self.attached.as_ref().expect("it was started");
        let Settings { vm, folder, .. } = &self.settings;
        match self.networks.adopt(vm, folder, attached.keeper, attached.uplink).await {
            Ok(()) => Answer::Done,
            Err(error) => failed(&error),
        }
    }

    /// A start that is dropped as soon as it has its first process.
    async fn cancel(&self) -> Answer {
        let rows = Rows::default();
        let Settings { vm, folder, .. } = &self.settings;
        let mut start = Box::pin(self.networks.start(vm, folder, &rows));
        std::future::poll_fn(|context| {
            let polled = start.as_mut().poll(context);
            assert!(polled.is_pending(), "{polled:?}");
            if rows.rows.lock().expect("no panic").iter().any(|row| row == "made network_keeper") {
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        })
        .await;
        Answer::Done
    }

    async fn check(&self) -> Answer {
        let checks = self.networks.check().await;
        let row = |check: cove::net::Check| {
            let found = check.found.map_err(|problem| (problem.what, problem.fix));
            (check.need.to_owned(), found)
        };
        Answer::Checks(checks.into_iter().map(row).collect())
    }
}

fn daemon(settings: &Settings) -> (Tasks, Networks) {
    let tasks = Tasks::default();
    let networks = Networks::new(settings.coved.clone(), OsStr::new(&settings.path), tasks.clone());
    (tasks, networks)
}

fn failed(error: &dyn std::error::Error) -> Answer {
    Answer::Failed([error.to_string()].into_iter().chain(causes(error)).collect())
}

#[test]
#[ignore = "the daemon's part of the other tests, which start it"]
fn driver() {
    #[expect(clippy::disallowed_methods, reason = "how its parent tells it what to do")]
    let settings = std::env::var(SETTINGS).expect("started by another test");
    let settings = serde_json::from_str(&settings).expect("settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut driver = Driver::new(settings);
        let mut commands =
            tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(tokio::io::stdin()));
        while let Some(command) = commands.next_line().await.expect("a line") {
            let answer = driver.answer(&command).await;
            let answer = serde_json::to_string(&answer).expect("json");
            writeln!(std::io::stdout(), "\n{answer}").expect("the parent reads");
        }
    });
}

// --- the tests' part ---

/// A running driver. What it has started is killed when dropped.
struct Daemon {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    vm: VmId,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start(internet: &Internet, user: u32) -> Self {
        Self::with_path(internet, user, "")
    }

    /// A daemon as `user`, with this search path before the system's.
    fn with_path(internet: &Internet, user: u32, path: &str) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        // Longer than the 108 bytes of a socket's name.
        let folder = root.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&folder).expect("made");
        let place = |program: &Path, name: &str| {
            let copy = root.path().join(name);
            let linked = std::fs::hard_link(program, &copy);
            linked.or_else(|_| std::fs::copy(program, &copy).map(drop)).expect("placed");
            copy
        };
        let coved = place(Path::new(env!("CARGO_BIN_EXE_coved")), "coved");
        let driver = place(&std::env::current_exe().expect("this program"), "driver");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root.path(), mode).expect("open to all");
        std::os::unix::fs::chown(&folder, Some(user), Some(user)).expect("given away");
        let vm = VmId::random();
        let settings = Settings { coved, folder, vm: vm.clone(), path: path.to_owned() };
        let mut command = match user {
            ROOT => internet.command(&driver),
            user => internet.command_as(user, &driver),
        };
        let mut child = command
            .args(["--exact", "driver", "--ignored", "--nocapture"])
            .env(SETTINGS, serde_json::to_string(&settings).expect("json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the driver starts");
        let commands = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, commands, answers, vm, _folder: root }
    }

    fn ask(&mut self, command: &str) -> Answer {
        writeln!(self.commands, "{command}").expect("the driver reads");
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.answers.read_line(&mut line).expect("the driver answers");
            assert!(read > 0, "the driver has ended");
            // The test harness writes lines of its own.
            if let Ok(answer) = serde_json::from_str(&line) {
                return answer;
            }
        }
    }

    fn done(&mut self, command: &str) {
        let answer = self.ask(command);
        assert!(matches!(answer, Answer::Done), "{command}: {answer:?}");
    }

    fn started(&mut self) -> Started {
        match self.ask("start") {
            Answer::Started { tap, guest, keeper, uplink, rows } => {
                let driver = self.driver();
                let tap = pidfd_getfd(driver, tap, PidfdGetfdFlags::empty());
                let link = GuestLink::new(tap.expect("the driver's TAP"), &guest);
                Started { vm: self.vm.clone(), link, guest, keeper, uplink, rows }
            }
            other => panic!("start: {other:?}"),
        }
    }

    /// `ip netns exec` and `setpriv` become the driver.
    fn driver(&self) -> OwnedFd {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        pidfd_open(pid, PidfdFlags::empty()).expect("it runs")
    }

    fn found(&mut self) -> Vec<ProcessId> {
        match self.ask("find") {
            Answer::Found(mut found) => {
                // The driver has the id in its environment only.
                found.sort_by_key(|process| process.pid);
                found
            }
            other => panic!("find: {other:?}"),
        }
    }

    /// Every process on the machine that carries the VM's id, whoever's it is.
    fn left(&self) -> Vec<i32> {
        let all = procfs::process::all_processes().expect("processes").flatten();
        let marked = |process: &procfs::process::Process| {
            let line = process.cmdline().unwrap_or_default();
            line.iter().any(|word| word.contains(self.vm.as_str()))
        };
        all.filter(marked).map(|process| process.pid).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for pid in self.left() {
            let pid = Pid::from_raw(pid).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Started {
    vm: VmId,
    link: GuestLink,
    guest: Network,
    keeper: ProcessId,
    uplink: ProcessId,
    rows: Vec<String>,
}

impl Started {
    /// What `curl` prints in the guest, or its exit status.
    fn curl(&self, arguments: &[&str]) -> Result<String, i32> {
        let mut curl = self.link.namespace.command("curl");
        let done = curl.args(["-sS", "--max-time", "15"]).args(arguments).output().expect("runs");
        match done.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            code => Err(code.unwrap_or(-1)),
        }
    }

    fn get(&self, address: Ipv4Addr) -> Result<String, i32> {
        self.curl(&[&format!("http://{address}/")])
    }

    /// Sends a datagram of `size` bytes and waits a moment for its refusal.
    fn send(&self, address: Ipv4Addr, size: usize) -> Option<std::io::ErrorKind> {
        let sent = self.link.namespace.enter(move || -> std::io::Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect((address, 9))?;
            socket.set_read_timeout(Some(REFUSAL_TIME))?;
            socket.send(&vec![0; size])?;
            socket.recv(&mut [0]).map(drop)
        });
        let refused = sent.join().expect("no panic").expect_err("nobody answers");
        (refused.kind() != std::io::ErrorKind::WouldBlock).then_some(refused.kind())
    }

    /// Sends an ICMP echo request and says whether the answer came.
    fn ping(&self, address: Ipv4Addr) -> bool {
        use nix::sys::socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv,
            send, setsockopt, socket, sockopt::ReceiveTimeout,
        };
        let answered = self.link.namespace.enter(move || -> nix::Result<bool> {
            let flags = SockFlag::empty();
            let protocol = SockProtocol::Icmp;
            let raw = socket(AddressFamily::Inet, SockType::Raw, flags, protocol)?;
            setsockopt(&raw, ReceiveTimeout, &nix::sys::time::TimeVal::new(1, 0))?;
            connect(raw.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))?;
            // Echo request, code 0, its checksum, and zeros.
            send(raw.as_raw_fd(), &[8, 0, 0xf7, 0xff, 0, 0, 0, 0], MsgFlags::empty())?;
            let mut answer = [0; 64];
            let length = recv(raw.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            // Behind 20 bytes of IP header: echo reply.
            Ok(length >= 28 && answer[20] == 0)
        });
        answered.join().expect("no panic").unwrap_or(false)
    }

    /// What a script says that root runs in the namespace of the VM.
    fn in_namespace(&self, script: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.keeper.pid);
        #[expect(clippy::disallowed_methods, reason = "a tool of this test")]
        let mut nsenter = std::process::Command::new("nsenter");
        let done = nsenter.args([&net, "sh", "-c", script]).output().expect("runs");
        assert!(done.status.success(), "{script}: {done:?}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }
}

/// A refusal of a datagram comes back within microseconds.
const REFUSAL_TIME: Duration = Duration::from_millis(500);

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
        drop(writeln!(std::io::stderr(), "skipped: {reason}"));
    }
    reason.is_some()
}

fn for_both_users(test: impl Fn(u32)) {
    if !skipped() {
        test(ROOT);
        test(ORDINARY);
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

        let mut made = [started.keeper, started.uplink];
        made.sort_by_key(|process| process.pid);
        assert_eq!(daemon.found(), made, "recovery finds them by the VM's id");
        drop(started);
        daemon.done("stop");
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
        let lie = guest.curl(&["--interface", false_address, "--max-time", "2", &web]);
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
            daemon.done("restart");
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
        daemon.done("stop");
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
        daemon.done("stop");
        // The same VM gets another network, over the socket that the first has left.
        let again = daemon.started();
        assert!(again.get(internet::WEB).is_ok());
        drop(again);
        daemon.done("stop");
        assert_eq!(daemon.left(), Vec::<i32>::new());
    });
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        match daemon.ask("start without uplink row") {
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

        daemon.done("start and cancel");
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
        match daemon.ask("start") {
            Answer::Failed(chain) => {
                assert_eq!(chain, ["the uplink ended at once", "no luck today"]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(daemon.left(), Vec::<i32>::new());
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
        assert!(started.curl(&["--max-time", "2", &web]).is_err());
        ip("route add default via 11.1.0.1");
        assert!(started.get(internet::WEB).is_ok());
        drop(started);
        daemon.done("stop");
    });
}

#[test]
fn the_checks_pass_where_the_network_works() {
    for_both_users(|user| {
        let internet = Internet::new();
        let mut daemon = Daemon::start(&internet, user);
        let Answer::Checks(checks) = daemon.ask("check") else { panic!("checks") };
        let needs: Vec<&str> = checks.iter().map(|(need, _)| need.as_str()).collect();
        assert_eq!(needs, ["pasta", "nft", "/dev/net/tun", "user namespaces"]);
        for (need, found) in &checks {
            assert!(found.is_ok(), "{need}: {found:?}");
        }
    });
}
