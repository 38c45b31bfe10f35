//! The network helper as a program of its own, and a daemon of an ordinary user that asks it.

#[path = "support/bridge_vm.rs"]
mod bridge_vm;
#[path = "support/internet.rs"]
mod internet;

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bridge_vm::{FakeVm, PORT, ask, run};
use cove::config::{BridgeConfig, machine_id};
use cove::id::VmId;
use cove::net::bridge::{Helper, HostPlan, Privileged, Setup};
use cove::report::Kind;
use internet::Internet;
use rustix::process::Uid;

/// Whatever is waited for takes far less.
const DEADLINE: Duration = Duration::from_secs(30);

/// The daemon's user.
const USER: u32 = 4711;

/// The unit by which systemd starts the helper.
const UNIT: &str = include_str!("../scripts/cove-net-helper@.service");

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {} s: {what}", DEADLINE.as_secs());
        std::thread::yield_now();
    }
}

/// A host with a helper.
struct World {
    internet: Internet,
    setup: Setup,
    folder: tempfile::TempDir,
    helper: Child,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

impl World {
    /// `None`, and a reason is printed, where no namespaces can be made.
    fn new() -> Option<Self> {
        if let Some(reason) = internet::unavailable() {
            drop(writeln!(std::io::stderr(), "SKIPPED: {reason}"));
            return None;
        }
        let internet = Internet::new();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("set");
        let setup = Setup::new(&BridgeConfig::default(), &machine_id(), USER).expect("valid");
        let helper = start(&internet, folder.path());
        Some(Self { internet, setup, folder, helper })
    }

    fn kill(&mut self) {
        self.helper.kill().expect("it is a child");
        self.helper.wait().expect("it is a child");
    }

    fn start_again(&mut self) {
        self.kill();
        self.helper = start(&self.internet, self.folder.path());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("helper.sock")
    }

    fn vm(&self, slot: u32) -> FakeVm {
        FakeVm::new(&self.internet, &self.setup, USER, slot)
    }

    /// Runs `work` on a thread of the daemon's user, without any privilege.
    fn as_user<T: Send + 'static>(
        &self,
        user: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let thread = self.internet.host().enter(move || {
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).expect("root may");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The daemon's part.
    fn daemon<T: Send + 'static, F>(&self, work: impl FnOnce(Helper) -> F + Send + 'static) -> T
    where
        F: Future<Output = T>,
    {
        let (socket, setup) = (self.socket(), self.setup.clone());
        self.as_user(USER, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work(Helper::new(socket, setup)))
        })
    }

    /// What the helper answers to a line; nothing when it hangs up.
    fn says(&self, user: u32, line: impl Into<Vec<u8>>) -> String {
        let (socket, mut line) = (self.socket(), line.into());
        line.push(b'\n');
        self.as_user(user, move || {
            let Ok(mut stream) = UnixStream::connect(socket) else {
                return "it does not let us in".to_owned();
            };
            stream.set_read_timeout(Some(DEADLINE)).expect("set");
            // It may hang up before it has read all of it.
            drop(stream.write_all(&line));
            let mut answer = String::new();
            match BufReader::new(stream).read_line(&mut answer) {
                Ok(_) => answer,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                    String::new()
                }
            }
        })
    }

    fn host(&self, line: &str) -> String {
        run(self.internet.command("sh").args(["-ec", line]))
    }

    fn asks(&self, vm: &FakeVm) -> Option<String> {
        let host = Path::new("/run/netns").join(self.internet.host().name());
        ask(&host, vm.lease.ipv4, PORT).ok()
    }

    fn left(&self) -> String {
        self.host(
            "ip -o link | grep -E 'cove0|cv[0-9a-f]{12}' || true; nft list tables | grep cove0 || true",
        )
    }
}

/// Starts a helper with no more privileges than the unit gives it.
fn start(internet: &Internet, folder: &Path) -> Child {
    let socket = folder.join("helper.sock");
    drop(std::fs::remove_file(&socket));
    let mut command = internet.command("setpriv");
    command.args(["--no-new-privs", "--bounding-set", &capabilities_of_the_unit(), "--"]);
    command.arg(env!("CARGO_BIN_EXE_cove-net-helper"));
    command.arg("--socket").arg(&socket).args(["--user", &USER.to_string(), "--config"]);
    command.arg(folder.join("no-such-file")).stdin(Stdio::null());
    let helper = command.spawn().expect("it runs");
    wait_until("the helper listens", || UnixStream::connect(&socket).is_ok());
    helper
}

/// As `setpriv` wants them.
fn capabilities_of_the_unit() -> String {
    let named = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=CAP_"));
    let named = named.expect("the unit names them").to_lowercase();
    format!("-all,+{}", named.replace(" cap_", ",+"))
}

fn handed(vm: &FakeVm) -> (VmId, u32, PathBuf) {
    (vm.id.clone(), vm.slot, vm.keeper.path("net"))
}

/// What a daemon without privilege can open itself.
fn opened(path: &Path) -> OwnedFd {
    std::fs::File::open(path).expect("its own keeper's namespace").into()
}

#[test]
fn a_daemon_of_an_ordinary_user_gets_its_uplinks_and_the_helper_has_one_capability() {
    let Some(world) = World::new() else { return };
    let net_admin = "0000000000001000";
    let lines = [
        format!("CapEff:\t{net_admin}"),
        format!("CapPrm:\t{net_admin}"),
        format!("CapBnd:\t{net_admin}"),
        "CapInh:\t0000000000000000".to_owned(),
        "CapAmb:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
    ];
    wait_until("it has given up all privileges but one", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.helper.id()));
        let status = status.expect("it lives");
        lines.iter().all(|line| status.lines().any(|found| found == line))
    });
    let mode = std::fs::metadata(world.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let (one, other) = (world.vm(1), world.vm(2));
    let vms = [handed(&one), handed(&other)];
    let first = vms.clone();
    world.daemon(async move |mut helper| {
        // Unasked, the helper is told first that there are none.
        for (vm, slot, namespace) in first {
            helper.attach(&vm, slot, opened(&namespace)).await.expect("attached");
        }
        assert_eq!(helper.check().await, Ok(None));
    });
    one.join(&world.setup, USER);
    other.join(&world.setup, USER);
    assert!(world.asks(&one).is_some() && world.asks(&other).is_some());
    assert!(one.ask(internet::WEB, 80).is_ok());

    let mut plan = HostPlan::new(world.setup.clone());
    plan.vms = vms.iter().map(|(vm, slot, _)| (vm.clone(), *slot)).collect();
    world.daemon(async move |mut helper| {
        assert_eq!(helper.sync(&plan).await, Ok(Vec::new()), "a later daemon finds all as it was");
        helper.detach(&vms[0].0).await.expect("detached");
        helper.detach(&vms[1].0).await.expect("detached");
    });
    assert_eq!(world.left(), "");
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let folder = tempfile::tempdir().expect("a folder");
    let said_of = |unit: String| {
        let path = folder.path().join("cove-net-helper@1000.service");
        std::fs::write(&path, unit).expect("written");
        #[expect(clippy::disallowed_methods, reason = "a tool of this test")]
        let mut verify = std::process::Command::new("systemd-analyze");
        let done = verify.args(["verify", "--man=no"]).arg(path).output().ok()?;
        Some(String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let program = "ExecStart=/usr/local/libexec/cove-net-helper ";
    assert!(UNIT.contains(program));
    let here = format!("ExecStart={} ", env!("CARGO_BIN_EXE_cove-net-helper"));
    let unit = UNIT.replace(program, &here);
    let Some(said) = said_of(unit.clone()) else {
        drop(writeln!(std::io::stderr(), "SKIPPED: systemd-analyze is not installed"));
        return;
    };
    assert_eq!(said, "");
    let said = said_of(unit.replace("ProtectHome=", "ProtectHomes="));
    assert!(said.is_some_and(|said| said.contains("ProtectHomes")), "it looks at every line");
}

#[test]
fn what_is_no_request_of_its_user_is_refused() {
    let Some(mut world) = World::new() else { return };
    let plan = |plan: &HostPlan| serde_json::to_value(plan).expect("plain data");
    let empty = plan(&HostPlan::new(world.setup.clone()));
    let sync = |plan: &serde_json::Value| {
        serde_json::json!({"ask": "sync", "plan": plan}).to_string().into_bytes()
    };
    assert_eq!(world.says(USER, sync(&empty)), "{\"answer\":\"synced\",\"missing\":[]}\n");
    assert_eq!(world.says(USER + 1, sync(&empty)), "it does not let us in", "another user");
    assert_eq!(world.says(0, sync(&empty)), "", "root itself is not the daemon's user");

    let changed = |key: &str, value: serde_json::Value| {
        let mut plan = empty.clone();
        plan[key] = value;
        sync(&plan)
    };
    let mut named = empty.clone();
    named["setup"]["name"] = "docker0".into();
    for (line, part) in [
        (b"{\"ask\":\"attach\",\"vm\":\"../../etc\",\"slot\":1}".to_vec(), ""),
        (b"{\"ask\":\"attach\",\"vm\":\"0123456789ab\",\"slot\":-1}".to_vec(), ""),
        (b"{\"ask\":\"attach\",\"vm\":\"0123456789ab\",\"slot\":1,\"name\":\"eth0\"}".to_vec(), ""),
        (b"{\"ask\":\"run\",\"command\":\"id\"}".to_vec(), ""),
        (vec![b'x'; 2 << 20], ""),
        (changed("vms", serde_json::json!({"eth0": 1})), ""),
        (changed("setup", serde_json::json!({"name": "../x", "ranges": {}})), ""),
        (sync(&named), "is set up for `cove0`"),
        (changed("vms", serde_json::json!({"0123456789ab": 65_533})), "of a range with 65533"),
        (
            changed("vms", serde_json::json!({"0123456789ab": 1, "0123456789ac": 1})),
            "has the address of VM `0123456789ab`",
        ),
        (
            changed("peers", serde_json::json!([["0123456789ab", "0123456789ac"]])),
            "is not on the bridge",
        ),
        (
            b"{\"ask\":\"attach\",\"vm\":\"0123456789ab\",\"slot\":1}".to_vec(),
            "no network namespace came",
        ),
        (b"{\"ask\":\"detach\",\"vm\":\"0123456789ab\"}".to_vec(), "has not been told yet"),
    ] {
        let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        let answer = world.says(USER, line);
        assert!(answer.contains(part) && part.is_empty() == answer.is_empty(), "{shown}: {answer}");
    }
    assert!(world.helper.try_wait().expect("it is a child").is_none(), "it lives through all that");
    assert_eq!(world.left(), "");
}

#[test]
fn another_daemon_and_the_namespaces_of_others_are_refused() {
    let Some(world) = World::new() else { return };
    let roots = FakeVm::new(&world.internet, &world.setup, 0, 1);
    let namespace = roots.keeper.namespace();
    let vm = roots.id.clone();
    let (socket, setup) = (world.socket(), world.setup.clone());
    world.daemon(async move |mut helper| {
        let report = helper.attach(&vm, 1, namespace).await.expect_err("root's");
        assert!(report.message.contains("belongs to user 0, not to 4711"), "{report:?}");
        assert_eq!(report.kind, Kind::Refused);
        let mut second = Helper::new(socket, setup.clone());
        let report = second.sync(&HostPlan::new(setup)).await.expect_err("one is connected");
        assert!(report.message.contains("another daemon of this user"), "{report:?}");
    });
    assert_eq!(world.left(), "");
}

#[test]
fn a_helper_that_is_killed_in_the_middle_leaves_what_sync_mends() {
    let Some(mut world) = World::new() else { return };
    let vms: Vec<FakeVm> = (0..2).map(|slot| world.vm(slot)).collect();
    let plan =
        vms.iter().fold(HostPlan::new(world.setup.clone()), |plan, vm| plan.with(&vm.id, vm.slot));
    for round in 0..12 {
        let (vm, slot, namespace) = handed(&vms[1]);
        let keep = handed(&vms[0]);
        world.daemon(async move |mut helper| {
            helper.attach(&keep.0, keep.1, opened(&keep.2)).await.expect("attached");
            let attach = helper.attach(&vm, slot, opened(&namespace));
            // Each round a little later: from before the first step to after the last one.
            let cut = Duration::from_micros(round * 400);
            drop(tokio::time::timeout(cut, attach).await);
        });
        world.start_again();
        let (plan, vms_again) = (plan.clone(), [handed(&vms[0]), handed(&vms[1])]);
        world.daemon(async move |mut helper| {
            let missing = helper.sync(&plan).await.expect("synced");
            for (vm, slot, namespace) in vms_again.iter().filter(|(vm, ..)| missing.contains(vm)) {
                helper.attach(vm, *slot, opened(namespace)).await.expect("attached");
            }
        });
        for vm in &vms {
            vm.join(&world.setup, USER);
            assert!(world.asks(vm).is_some(), "round {round}");
        }
        let empty = HostPlan::new(world.setup.clone());
        world.daemon(async move |mut helper| {
            assert_eq!(helper.sync(&empty).await, Ok(Vec::new()));
        });
        assert_eq!(world.left(), "", "round {round}");
    }
}

#[test]
fn a_helper_with_a_configuration_of_others_does_not_start() {
    let Some(world) = World::new() else { return };
    let file = world.folder.path().join("net-helper.toml");
    let failed = |words: &[&str]| {
        let mut command = world.internet.command(env!("CARGO_BIN_EXE_cove-net-helper"));
        let done = command.args(words).output().expect("it runs");
        assert!(!done.status.success());
        String::from_utf8(done.stderr).expect("UTF-8")
    };
    let (socket, path) = (world.folder.path().join("x"), file.to_str().expect("UTF-8"));
    let words = ["--socket", socket.to_str().expect("UTF-8"), "--user", "4711", "--config", path];
    for (text, mode, part) in [
        ("", 0o666, "can be written by others"),
        ("name = \"../x\"", 0o644, "is no name for a bridge"),
        ("range4 = \"11.0.0.0/16\"", 0o644, "is not a private range"),
        ("user = 1", 0o644, "unknown field"),
    ] {
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("set");
        let said = failed(&words);
        assert!(said.contains(part), "{said}");
    }
    assert!(failed(&["--socket", "/nonexistent/s"]).contains("usage"), "it is nobody's");
    assert!(failed(&["--socket"]).contains("usage"));
}
