//! The daemon's part of the network tests, in a process of its own: `Networks`, driven by lines on stdin.
//!
//! It runs in the host namespace of a test internet, as root or as an ordinary user.

#[path = "network_starts.rs"]
pub(crate) mod starts;

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cove::config::{BridgeConfig, machine_id};
use cove::egress::Policy;
use cove::id::VmId;
use cove::net::bridge::Setup;
use cove::net::{Ahead, Attached, Living, Networks, OnBridge, Place, Wanted};
use cove::process::{Process, ProcessId, find_servants};
use cove::report::{Report, causes};
use cove::task::Tasks;
use cove::vm::ledger::{Ledger, LedgerError, ResourceKind, SpareProcesses, SpareRows};
use cove::wire::guest::Network;
use cove::wire::rpc::{Denials, NetExplanation};
use serde::{Deserialize, Serialize};

/// Tasks end at shutdown in far less.
const GRACE: Duration = Duration::from_secs(30);

/// The driver's settings, in its environment.
pub(crate) const SETTINGS: &str = "COVE_TEST_NET_DRIVER";

/// Who the daemon is, and whose network it makes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) coved: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) vm: VmId,
    pub(crate) path: String,
    /// Its place on the bridge, and the network helper's socket; none for one that goes out by pasta.
    pub(crate) bridge: Option<OnTheBridge>,
}

/// Where a VM of these tests is on the bridge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OnTheBridge {
    pub(crate) slot: u32,
    pub(crate) helper: PathBuf,
}

impl Settings {
    fn place(&self) -> Option<Place> {
        let name = format!("vm-{}", self.vm).parse().expect("a name");
        let bridge = self.bridge.as_ref()?;
        Some(Place { name, slot: bridge.slot, peers: BTreeSet::new() })
    }
}

/// What the driver is told to do, one JSON value per line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Start,
    StartWithoutUplinkRow,
    StartAndCancel,
    Stop,
    Restart,
    Find,
    Check,
    /// In force at once where a network is up, and with the next start.
    Policy(Policy),
    /// The same while somebody waits for a denial that does not come.
    PolicyMeanwhile(Policy),
    Explain(String, Option<u16>),
    /// After this number, waiting so many milliseconds.
    Denials(u64, u64),
    /// Times starts of networks, for the benchmark of them.
    TimeStarts,
}

/// What a check found, or the problem and its fix.
pub(crate) type Found = Result<String, (String, String)>;

/// What the driver answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Started {
        tap: i32,
        guest: Network,
        keeper: ProcessId,
        uplink: Option<ProcessId>,
        rows: Vec<String>,
    },
    Done,
    Found(Vec<ProcessId>),
    Checks(Vec<(String, Found)>),
    Explained(NetExplanation),
    Denied(Denials),
    Timed(starts::Timed),
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

struct Driver {
    settings: Settings,
    tasks: Tasks,
    networks: Networks,
    attached: Option<Attached>,
    policy: Policy,
}

impl Driver {
    fn new(settings: Settings) -> Self {
        let (tasks, networks) = daemon(&settings);
        Self { settings, tasks, networks, attached: None, policy: Policy::default() }
    }

    async fn answer(&mut self, command: Command) -> Answer {
        let fail = match command {
            Command::Start => None,
            Command::StartWithoutUplinkRow => Some("made uplink"),
            Command::StartAndCancel => return self.cancel().await,
            Command::Stop => return self.stop().await,
            Command::Restart => return self.restart().await,
            Command::Find => return Answer::Found(find_servants(self.settings.vm.as_str())),
            Command::Check => return self.check().await,
            Command::TimeStarts => return Answer::Timed(starts::time(&self.settings).await),
            Command::Policy(policy) => return self.set_policy(policy).await,
            Command::PolicyMeanwhile(policy) => return self.set_policy_meanwhile(policy).await,
            Command::Explain(host, port) => {
                let explained = self.networks.explain(&self.settings.folder, &host, port).await;
                return explained.map_or_else(|error| failed(&error), Answer::Explained);
            }
            Command::Denials(after, wait) => {
                let wait = Duration::from_millis(wait);
                let denials = self.networks.denials(&self.settings.folder, after, wait).await;
                return denials.map_or_else(|error| failed(&error), Answer::Denied);
            }
        };
        let rows = Rows { fail, ..Rows::default() };
        let (Settings { vm, folder, .. }, place) = (&self.settings, self.settings.place());
        let wanted = Wanted { vm, folder, policy: &self.policy, place: place.as_ref() };
        match self.networks.start(wanted, &rows).await {
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

    async fn set_policy(&mut self, policy: Policy) -> Answer {
        self.policy = policy;
        if self.attached.is_none() {
            return Answer::Done;
        }
        match self.networks.set_policy(&self.settings.folder, &self.policy).await {
            Ok(()) => Answer::Done,
            Err(error) => failed(&error),
        }
    }

    async fn set_policy_meanwhile(&mut self, policy: Policy) -> Answer {
        let (_, networks) = daemon(&self.settings);
        let folder = self.settings.folder.clone();
        let waiting = networks.denials(&folder, u64::MAX - 1, Duration::from_secs(20));
        // Cancel-safe: whichever is first, the other is not needed any more.
        tokio::select! {
            waited = waiting => Answer::Failed(vec![format!("{waited:?}")]),
            done = self.set_policy(policy) => done,
        }
    }

    /// As the VM service releases a network: it is off the bridge, and both processes are killed.
    async fn stop(&mut self) -> Answer {
        let attached = self.attached.take().expect("it was started");
        if self.settings.bridge.is_some() {
            self.networks.detach(&self.settings.vm).await.expect("off the bridge");
        }
        for process in attached.uplink.into_iter().chain([attached.keeper]) {
            let Some(process) = Process::open(process).expect("looked at") else { continue };
            process.kill(GRACE).await.expect("killed");
        }
        Answer::Done
    }

    /// The daemon ends and another one begins.
    async fn restart(&mut self) -> Answer {
        assert_eq!(self.tasks.drain(GRACE).await, 0, "tasks end at shutdown");
        (self.tasks, self.networks) = daemon(&self.settings);
        let attached = self.attached.as_ref().expect("it was started");
        let Settings { vm, folder, .. } = &self.settings;
        if let Some(place) = self.settings.place() {
            let (vm, folder, keeper) = (vm.clone(), folder.clone(), Some(attached.keeper));
            let addresses = attached.guest.addresses();
            let living = vec![Living { vm, folder, place, addresses, keeper }];
            self.networks.recover_bridge(living, Vec::new()).await;
        }
        let processes = (attached.keeper, attached.uplink);
        match self.networks.adopt(vm, folder, processes, &self.policy).await {
            Ok(()) => Answer::Done,
            Err(error) => failed(&error),
        }
    }

    /// A start that is dropped as soon as it has its first process.
    async fn cancel(&self) -> Answer {
        let rows = Rows::default();
        let (Settings { vm, folder, .. }, place) = (&self.settings, self.settings.place());
        let wanted = Wanted { vm, folder, policy: &self.policy, place: place.as_ref() };
        let mut start = Box::pin(self.networks.start(wanted, &rows));
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

/// The default bridge of this user.
fn on_bridge(settings: &Settings) -> OnBridge {
    let user = nix::unistd::geteuid().as_raw();
    OnBridge {
        setup: Setup::new(&BridgeConfig::default(), &machine_id(), user).expect("the defaults"),
        socket: settings.bridge.as_ref().map(|bridge| bridge.helper.clone()).unwrap_or_default(),
        zone: "cove.internal".parse().expect("a name"),
    }
}

fn daemon(settings: &Settings) -> (Tasks, Networks) {
    let tasks = Tasks::default();
    let ahead = Ahead { rows: Arc::new(NoSpares), folder: settings.folder.clone(), count: 0 };
    let (coved, path) = (settings.coved.clone(), OsStr::new(&settings.path));
    let networks = Networks::new(coved, path, ahead, on_bridge(settings), tasks.clone());
    (tasks, networks)
}

/// No network is made ahead here, so there are no rows of any.
struct NoSpares;

#[async_trait]
impl SpareRows for NoSpares {
    fn ledger(&self, spare: &VmId) -> Arc<dyn Ledger> {
        panic!("`{spare}` was made ahead")
    }

    async fn hand_over(&self, spare: &VmId, _: &VmId) -> Result<(), LedgerError> {
        panic!("`{spare}` was made ahead")
    }

    async fn all(&self) -> Result<Vec<SpareProcesses>, Report> {
        Ok(Vec::new())
    }

    async fn owned(&self) -> Result<HashSet<ProcessId>, Report> {
        Ok(HashSet::new())
    }

    async fn released(&self, spare: &VmId) -> Result<(), Report> {
        panic!("`{spare}` was made ahead")
    }
}

fn failed(error: &dyn std::error::Error) -> Answer {
    Answer::Failed([error.to_string()].into_iter().chain(causes(error)).collect())
}

/// Answers the parent's commands until it closes its end.
pub(crate) fn run() {
    #[expect(clippy::disallowed_methods, reason = "how its parent tells it what to do")]
    let settings = std::env::var(SETTINGS).expect("started by another test");
    let settings = serde_json::from_str(&settings).expect("settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut driver = Driver::new(settings);
        let mut commands =
            tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(tokio::io::stdin()));
        while let Some(command) = commands.next_line().await.expect("a line") {
            let command = serde_json::from_str(&command).expect("a command");
            let answer = driver.answer(command).await;
            let answer = serde_json::to_string(&answer).expect("json");
            writeln!(std::io::stdout(), "\n{answer}").expect("the parent reads");
        }
    });
}
