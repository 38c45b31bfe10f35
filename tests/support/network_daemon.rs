//! A driver process (`network_driver.rs`) and the network it has made, as the tests see them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use cove::egress::{Mode, Policy};
use cove::id::VmId;
use cove::process::ProcessId;
use cove::wire::guest::Network;
use cove::wire::rpc::{Denials, NetExplanation};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::guest_link::GuestLink;
use crate::internet::Internet;
use crate::network_driver::{Answer, Command, OnTheBridge, SETTINGS, Settings};
use crate::no_nftables::take_nftables_away;

/// The user id of root.
pub(crate) const ROOT: u32 = 0;

/// The user id of somebody who is nobody in particular.
pub(crate) const ORDINARY: u32 = 54_321;

/// Who the daemon is, and how its VM is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By {
    pub(crate) user: u32,
    pub(crate) bridge: bool,
}

impl From<u32> for By {
    fn from(user: u32) -> Self {
        Self { user, bridge: false }
    }
}

/// The network helper of an ordinary user, which runs as root. Killed when dropped.
struct Helper(Child);

impl Helper {
    fn start(internet: &Internet, user: u32, socket: &Path) -> Self {
        let mut command = internet.command(env!("CARGO_BIN_EXE_cove-net-helper"));
        command.arg("--socket").arg(socket).args(["--user", &user.to_string()]);
        command.args(["--config", "/nonexistent"]).stdin(Stdio::null());
        let helper = Self(command.spawn().expect("the helper starts"));
        crate::wait_until("the helper listens", || socket.exists());
        helper
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill().expect("it is a child");
        self.0.wait().expect("it is a child");
    }
}

/// A running driver. What it has started is killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    vm: VmId,
    _helper: Option<Helper>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start(internet: &Internet, by: impl Into<By>) -> Self {
        Self::with_path(internet, by, "")
    }

    /// A daemon with this search path before the system's.
    pub(crate) fn with_path(internet: &Internet, by: impl Into<By>, path: &str) -> Self {
        Self::with(internet, by.into(), path, &[])
    }

    /// A daemon of root on a host that allows no user namespaces.
    pub(crate) fn without_user_namespaces(internet: &Internet) -> Self {
        let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
        let words = ["unshare", "--user", "--map-root-user", "--", "sh", "-ec", forbid];
        Self::with(internet, ROOT.into(), "", &words)
    }

    /// A daemon on a host whose kernel has no nftables.
    pub(crate) fn without_nftables(internet: &Internet, by: By) -> Self {
        std::thread::scope(|scope| {
            let started = scope.spawn(|| {
                take_nftables_away();
                Self::start(internet, by)
            });
            started.join().expect("no panic")
        })
    }

    /// A daemon started by the program that `words` begin with.
    fn with(internet: &Internet, By { user, bridge }: By, path: &str, words: &[&str]) -> Self {
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
        let (path, helper) = (path.to_owned(), root.path().join("helper.sock"));
        let bridge = bridge.then_some(OnTheBridge { slot: 5, helper });
        let helper = bridge.as_ref().filter(|_| user != ROOT);
        let helper = helper.map(|place| Helper::start(internet, user, &place.helper));
        let settings = Settings { coved, folder, vm: vm.clone(), path, bridge };
        let mut command = match user {
            ROOT => match words {
                [] => internet.command(&driver),
                [program, rest @ ..] => {
                    let mut command = internet.command(program);
                    command.args(rest).arg(&driver);
                    command
                }
            },
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
        Self { child, commands, answers, vm, _helper: helper, _folder: root }
    }

    pub(crate) fn ask(&mut self, command: &Command) -> Answer {
        let command = serde_json::to_string(command).expect("json");
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

    pub(crate) fn done(&mut self, command: &Command) {
        let answer = self.ask(command);
        assert!(matches!(answer, Answer::Done), "{command:?}: {answer:?}");
    }

    pub(crate) fn started(&mut self) -> Started {
        match self.ask(&Command::Start) {
            Answer::Started { tap, guest, keeper, uplink, rows } => {
                let driver = self.driver();
                let tap = pidfd_getfd(driver, tap, PidfdGetfdFlags::empty());
                let link = GuestLink::new(tap.expect("the driver's TAP"), &guest);
                Started { vm: self.vm.clone(), link, guest, keeper, uplink, rows }
            }
            other => panic!("start: {other:?}"),
        }
    }

    /// Sets the policy, in force at once where a network is up.
    pub(crate) fn policy(&mut self, mode: Mode, rules: &[&str]) {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        self.done(&Command::Policy(Policy { mode, rules }));
    }

    pub(crate) fn explain(&mut self, host: impl ToString, port: Option<u16>) -> NetExplanation {
        match self.ask(&Command::Explain(host.to_string(), port)) {
            Answer::Explained(explanation) => explanation,
            other => panic!("explain: {other:?}"),
        }
    }

    /// What was refused after this number; waits for one when there is none.
    pub(crate) fn denials(&mut self, after: u64) -> Denials {
        match self.ask(&Command::Denials(after, 20_000)) {
            Answer::Denied(denials) => denials,
            other => panic!("denials: {other:?}"),
        }
    }

    /// `ip netns exec` and `setpriv` become the driver.
    fn driver(&self) -> OwnedFd {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        pidfd_open(pid, PidfdFlags::empty()).expect("it runs")
    }

    pub(crate) fn found(&mut self) -> Vec<ProcessId> {
        match self.ask(&Command::Find) {
            Answer::Found(mut found) => {
                // The driver has the id in its environment only.
                found.sort_by_key(|process| process.pid);
                found
            }
            other => panic!("find: {other:?}"),
        }
    }

    /// Every process on the machine that carries the VM's id, whoever's it is.
    pub(crate) fn left(&self) -> Vec<i32> {
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

/// A network that is up, with a namespace for its guest.
pub(crate) struct Started {
    pub(crate) vm: VmId,
    pub(crate) link: GuestLink,
    pub(crate) guest: Network,
    pub(crate) keeper: ProcessId,
    pub(crate) uplink: Option<ProcessId>,
    pub(crate) rows: Vec<String>,
}

impl Started {
    /// What `curl` prints in the guest, or its exit status.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Result<String, i32> {
        let mut curl = self.link.namespace.command("curl");
        let done = curl.args(["-sS", "--max-time", "15"]).args(arguments).output().expect("runs");
        match done.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            code => Err(code.unwrap_or(-1)),
        }
    }

    pub(crate) fn get(&self, address: Ipv4Addr) -> Result<String, i32> {
        self.curl(&[&format!("http://{address}/")])
    }

    /// A TCP connection of the guest, which times out rather than wait for ever.
    pub(crate) fn connect(&self, address: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
        let connected = self.link.namespace.enter(move || {
            let stream = TcpStream::connect_timeout(&(address, port).into(), CONNECTION_TIME)?;
            stream.set_read_timeout(Some(CONNECTION_TIME))?;
            Ok(stream)
        });
        connected.join().expect("no panic")
    }

    /// Sends a datagram of `size` bytes and waits a moment for its refusal.
    pub(crate) fn send(&self, address: Ipv4Addr, size: usize) -> Option<std::io::ErrorKind> {
        self.send_to(address, 9, size)
    }

    /// The same to another port.
    pub(crate) fn send_to(
        &self,
        address: Ipv4Addr,
        port: u16,
        size: usize,
    ) -> Option<std::io::ErrorKind> {
        let sent = self.link.namespace.enter(move || -> std::io::Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect((address, port))?;
            socket.set_read_timeout(Some(REFUSAL_TIME))?;
            socket.send(&vec![0; size])?;
            socket.recv(&mut [0]).map(drop)
        });
        let refused = sent.join().expect("no panic").expect_err("nobody answers");
        (refused.kind() != std::io::ErrorKind::WouldBlock).then_some(refused.kind())
    }

    /// Sends an ICMP echo request and says whether the answer came.
    pub(crate) fn ping(&self, address: Ipv4Addr) -> bool {
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
    pub(crate) fn in_namespace(&self, script: &str) -> String {
        let net = format!("--net=/proc/{}/ns/net", self.keeper.pid);
        #[expect(clippy::disallowed_methods, reason = "a tool of this test")]
        let mut nsenter = std::process::Command::new("nsenter");
        let done = nsenter.args([&net, "sh", "-c", script]).output().expect("runs");
        assert!(done.status.success(), "{script}: {done:?}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }
}

/// Everything is on one machine.
const CONNECTION_TIME: Duration = Duration::from_secs(15);

/// A refusal of a datagram comes back within microseconds.
const REFUSAL_TIME: Duration = Duration::from_millis(500);
