//! The host's side against the real agent, in one process: what differs from a guest is the socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use self::device::{Device, one_way_at_a_time, straight};
use super::*;
use crate::agent::exec::login::Login;
use crate::agent::failure::Failure;
use crate::agent::server::{Clock, Machine, Server};
use crate::id::VmId;
use crate::task::Tasks;
use crate::vm::plan::{Content, PlannedStep};
use crate::wire::guest::{Exec, ExecFailure, ExecInput, ExecStatus, PlanStep, TtySize};

mod again;
mod copy;
mod detached;
mod device;
mod exec;
mod forward;
mod system;
mod tree;

/// A machine without a kernel of its own.
struct Pretend {
    home: PathBuf,
    off: Arc<AtomicBool>,
    clock: Arc<AtomicU64>,
}

impl Clock for Pretend {
    fn uptime_ms(&self) -> u64 {
        7
    }
    fn set_clock(&self, unix_ms: u64) -> Result<(), Failure> {
        self.clock.store(unix_ms, Ordering::SeqCst);
        Ok(())
    }
}

impl Machine for Pretend {
    fn identify(&self, setup: &Setup) -> Result<(), Failure> {
        match setup.hostname.as_str() {
            "bad" => Err(Failure::new("set the hostname", "x".repeat(100_000))),
            _ => Ok(()),
        }
    }
    fn hand_over(&self) -> Result<(), Failure> {
        Ok(())
    }
    fn login(&self) -> Login {
        let home = self.home.to_string_lossy().into_owned();
        Login { user: "root".to_owned(), home, shell: "/bin/sh".to_owned() }
    }
    fn own_folder(&self) -> PathBuf {
        self.home.with_file_name("run")
    }
    fn grow_work_disk(&self, bytes: u64) -> Result<(), Failure> {
        match bytes {
            0 => Err(Failure::new("see the work disk grow", "it has 1 bytes, not 0")),
            _ => Ok(()),
        }
    }
    fn sync(&self) {}
    fn power_off(&self) {
        self.off.store(true, Ordering::SeqCst);
    }
}

/// A pretended guest with an agent that serves.
pub(crate) struct Guest {
    folder: tempfile::TempDir,
    pub(crate) agent: Agent,
    off: Arc<AtomicBool>,
    /// What its wall clock was set to, in milliseconds since 1970.
    clock: Arc<AtomicU64>,
    dialed: Arc<AtomicUsize>,
}

impl Guest {
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// How many connections were made to it.
    fn dialed(&self) -> usize {
        self.dialed.load(Ordering::SeqCst)
    }

    pub(crate) async fn ready() -> Self {
        Self::ready_behind(straight).await
    }

    async fn ready_behind(device: Device) -> Self {
        let guest = Self::behind(device);
        guest.agent.set_up(setup("web"), WorkDiskPlan::default()).await.expect("set up");
        guest
    }

    fn new() -> Self {
        Self::behind(straight)
    }

    fn behind(device: Device) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let home = folder.path().join("home");
        fs::create_dir(&home).expect("made");
        let (key, boot_id) = (BootKey::random(), BootId::random());
        let (off, clock) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let machine = Pretend { home, off: off.clone(), clock: clock.clone() };
        let server = Arc::new(Server::new(key.clone(), boot_id.clone(), machine));
        let tasks = Tasks::default();
        let (serving, dialed) = (tasks.clone(), Arc::new(AtomicUsize::new(0)));
        let dials = dialed.clone();
        listen(folder.path(), &tasks, move |stream| {
            dials.fetch_add(1, Ordering::SeqCst);
            let (server, stream) = (server.clone(), device(stream, &serving));
            serving.spawn("connection", async move {
                server.serve(stream).await.ok();
            });
        });
        announce(folder.path(), &tasks);
        let agent = Agent::new(dial(folder.path()), key, boot_id);
        Self { folder, agent, off, clock, dialed }
    }
}

/// Announces a guest as soon as somebody waits for it, as the agent does.
fn announce(folder: &Path, tasks: &Tasks) {
    let ready = folder.join("vsock.sock_1025");
    tasks.spawn("announce", async move {
        while UnixStream::connect(&ready).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}

fn dial(folder: &Path) -> Dial {
    Dial::Unix { folder: folder.to_owned(), socket: "vsock.sock".to_owned() }
}

/// A vsock device's Unix socket: takes the text handshake and passes connections on.
fn listen(folder: &Path, tasks: &Tasks, serve: impl Fn(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(folder.join("vsock.sock")).expect("binds");
    tasks.spawn("listener", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut line = String::new();
            // One byte at a time, so that nothing of what follows is taken.
            while !line.ends_with('\n') {
                line.push(char::from(stream.read_u8().await.expect("a byte")));
            }
            assert_eq!(line, "CONNECT 1024\n");
            stream.write_all(b"OK 1073741824\n").await.expect("answered");
            serve(stream);
        }
    });
}

fn setup(hostname: &str) -> Setup {
    Setup {
        vm: VmId::random(),
        hostname: hostname.to_owned(),
        unix_time_ns: 0,
        entropy: String::new(),
        network: None,
        ssh_host_key: None,
        steps: 0,
    }
}

fn write(path: &str, content: Content) -> PlannedStep {
    let step = PlanStep::WriteFile { path: path.to_owned(), mode: 0o600, size: 0 };
    PlannedStep { step, content }
}

#[tokio::test]
async fn a_guest_is_set_up_once_and_says_how_it_is() {
    let guest = Guest::new();
    let health = guest.agent.wait_answering(SHORT).await.expect("answers");
    assert!(!health.ready && health.uptime_ms == 7);
    let early = guest.agent.power_off().await.expect_err("refused");
    assert_eq!(
        early.to_string(),
        "the guest could not take a request: the guest has not been set up"
    );

    let file = guest.folder.path().join("source");
    fs::write(&file, vec![b'f'; 3 * MAX + 1]).expect("written");
    let host_file = Content::HostFile {
        file: fs::File::open(&file).expect("opens"),
        size: (3 * MAX + 1) as u64,
    };
    let steps = vec![write("a/large", host_file), write("small", Content::Bytes(b"s".to_vec()))];
    guest.agent.set_up(setup("web"), WorkDiskPlan { steps }).await.expect("set up");
    assert_eq!(fs::read(guest.home().join("a/large")).expect("there"), vec![b'f'; 3 * MAX + 1]);
    assert_eq!(fs::read(guest.home().join("small")).expect("there"), b"s");
    assert!(guest.agent.health().await.expect("answers").ready);

    let again = guest.agent.set_up(setup("web"), WorkDiskPlan::default()).await;
    assert!(again.expect_err("refused").to_string().ends_with("set up already"));
    guest.agent.power_off().await.expect("synced");
    let off = async {
        while !guest.off.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SHORT, off).await.expect("in time");
}

const MAX: usize = crate::wire::frame::MAX_PAYLOAD;

#[tokio::test]
async fn a_failed_step_is_named_even_while_much_is_still_to_be_sent() {
    let guest = Guest::new();
    let steps = vec![
        write("../etc/shadow", Content::Bytes(b"x".to_vec())),
        write("large", Content::Bytes(vec![0; 40 * MAX])),
    ];
    let failed = guest.agent.set_up(setup("web"), WorkDiskPlan { steps }).await;
    assert_eq!(
        failed.expect_err("refused").to_string(),
        "the guest could not write `~/../etc/shadow`: `../etc/shadow` is not a path below the home"
    );
    let failed = guest.agent.set_up(setup("bad"), WorkDiskPlan::default()).await;
    let text = failed.expect_err("refused").to_string();
    assert!(text.len() < 5000 && text.ends_with("x…"), "{} bytes", text.len());
    guest.agent.set_up(setup("web"), WorkDiskPlan::default()).await.expect("tried again");
}

#[tokio::test]
async fn a_host_file_that_became_shorter_fails_the_set_up() {
    let guest = Guest::new();
    let file = guest.folder.path().join("source");
    fs::write(&file, b"short").expect("written");
    let file = fs::File::open(&file).expect("opens");
    let steps = vec![write("copy", Content::HostFile { file, size: 100 })];
    let failed = guest.agent.set_up(setup("web"), WorkDiskPlan { steps }).await;
    let error = failed.expect_err("refused");
    assert_eq!(error.to_string(), "cannot read the content for `~/copy`");
    assert!(!guest.home().join("copy").exists());
}

#[tokio::test]
async fn neither_side_talks_to_one_without_the_key() {
    let guest = Guest::new();
    let stranger = Agent::new(dial(guest.folder.path()), BootKey::random(), BootId::random());
    let error = stranger.wait_answering(SHORT).await.expect_err("refused");
    assert!(matches!(error, GuestError::AnotherMachine), "{error}");

    let key = BootKey::random();
    let host = Agent::new(dial(guest.folder.path()), key, BootId::random());
    let stream = host.0.dial.connect().await.expect("connects");
    let mut frames = Framed::new(stream, FrameCodec::default());
    let hello = HostHello { version: VERSION, nonce: nonce() };
    send(&mut frames, Frame::control(&hello)).await.expect("sent");
    let hello: AgentHello = next(&mut frames).await.expect("a frame").message().expect("a hello");
    assert_eq!(hello.version, VERSION);
    let proof = HostProof { proof: nonce() };
    send(&mut frames, Frame::control(&proof)).await.expect("sent");
    send(&mut frames, Frame::control(&Request::Health)).await.expect("sent");
    let refused = reply(&mut frames, "refuse", SHORT).await.expect_err("refused");
    assert!(refused.to_string().contains("does not hold the key"), "{refused}");
}

#[tokio::test]
async fn a_guest_that_does_not_answer_is_given_up_in_time() {
    let folder = tempfile::tempdir().expect("tempdir");
    let agent = Agent::new(dial(folder.path()), BootKey::random(), BootId::random());
    let absent = agent.wait_answering(Duration::from_millis(100)).await.expect_err("absent");
    assert!(matches!(absent, GuestError::NotAnswering { .. }), "{absent}");

    let tasks = Tasks::default();
    let silent = std::sync::Mutex::new(Vec::new());
    listen(folder.path(), &tasks, move |stream| silent.lock().expect("kept").push(stream));
    let error = agent.wait_answering(Duration::from_millis(100)).await.expect_err("silent");
    assert!(matches!(error, GuestError::NotAnswering { .. }), "{error}");
}

#[tokio::test]
async fn a_booting_guest_is_knocked_at_when_it_says_that_it_listens() {
    let folder = tempfile::tempdir().expect("tempdir");
    let guest = Guest::new();
    let (key, boot_id) = (guest.agent.0.key.clone(), guest.agent.0.boot_id.clone());
    let booting = Agent::new(dial(folder.path()), key, boot_id);
    let ready = folder.path().join("vsock.sock_1025");
    let boot = async {
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        fs::rename(guest.folder.path().join("vsock.sock"), folder.path().join("vsock.sock"))
            .expect("moved");
        UnixStream::connect(&ready).await.expect("announced")
    };
    let (health, _announced) = tokio::join!(booting.wait_answering(SHORT), boot);
    assert!(!health.expect("answers").ready);
    assert!(!ready.exists(), "nothing is taken from the guest any more");
}

#[tokio::test(start_paused = true)]
async fn a_booting_guest_that_says_nothing_is_never_knocked_at() {
    let folder = tempfile::tempdir().expect("tempdir");
    let device = UnixListener::bind(folder.path().join("vsock.sock")).expect("binds");
    let agent = Agent::new(dial(folder.path()), BootKey::random(), BootId::random());
    // Time goes on by itself when there is nothing else to do.
    tokio::select! {
        knock = device.accept() => panic!("that does it harm: {knock:?}"),
        answered = agent.wait_answering(Duration::from_secs(3600)) => {
            let error = answered.expect_err("it says nothing");
            assert!(matches!(error, GuestError::NotAnswering { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn garbage_from_a_guest_is_an_error() {
    let folder = tempfile::tempdir().expect("tempdir");
    let tasks = Tasks::default();
    let writing = tasks.clone();
    listen(folder.path(), &tasks, move |mut stream| {
        writing.spawn("garbage", async move { stream.write_all(&[0xff; 64]).await });
    });
    let agent = Agent::new(dial(folder.path()), BootKey::random(), BootId::random());
    let error = agent.health().await.expect_err("refused");
    assert!(matches!(error, GuestError::Connection(_)), "{error}");

    let other = tempfile::tempdir().expect("tempdir");
    let listener = UnixListener::bind(other.path().join("vsock.sock")).expect("binds");
    tasks.spawn("refusing", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            stream.read_line(&mut String::new()).await.expect("a line");
            stream.write_all(b"\x1b[2Jno\n").await.expect("answered");
        }
    });
    let agent = Agent::new(dial(other.path()), BootKey::random(), BootId::random());
    let error = agent.health().await.expect_err("refused");
    let causes = crate::report::causes(&error).join("");
    assert_eq!(causes, "the vsock device answered `\\u{1b}[2Jno`");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}
