//! The bridge as the rest of the daemon uses it: one task holds what has privilege, and is asked through a
//! bounded queue.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::check::ForwardingProblem;
use super::error::BridgeError;
use super::plan::HostPlan;
use super::setup::Setup;
use super::{Helper, Host, Inside, Privileged};
use crate::id::VmId;
use crate::process::{Process, ProcessId};
use crate::report::{Kind, Report};
use crate::task::Tasks;

/// How many requests may wait before those who ask wait for a place.
const QUEUE: usize = 64;

/// More than the network helper gets for one request; there may be some in front.
const DEADLINE: Duration = Duration::from_secs(120);

/// The bridge of this daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Bridge {
    requests: mpsc::Sender<Ask>,
    setup: Setup,
    user: u32,
}

#[derive(Debug)]
enum Ask {
    Sync { plan: HostPlan, answer: Answer<Vec<VmId>> },
    Attach { vm: VmId, slot: u32, namespace: OwnedFd, answer: Answer<()> },
    Detach { vm: VmId, answer: Answer<()> },
    Check { answer: Answer<Option<ForwardingProblem>> },
}

type Answer<T> = oneshot::Sender<Result<T, Report>>;

impl Bridge {
    /// The bridge `setup` of this process's user: root makes it itself, anybody else asks the network
    /// helper at `socket`. Nothing is touched before the first request.
    #[must_use]
    pub fn start(setup: Setup, socket: PathBuf, tasks: &Tasks) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let user = nix::unistd::geteuid();
        let serving = Serving { setup: setup.clone(), socket, tasks: tasks.clone() };
        let serve = serving.serve(queue, user);
        // A request that is cut off at shutdown is mended by the next daemon's first one.
        drop(tasks.spawn_until_shutdown("bridge", serve));
        Self { requests, setup, user: user.as_raw() }
    }

    /// Name and addresses.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// As [`Privileged::sync`].
    ///
    /// # Errors
    /// As [`Privileged::sync`].
    pub async fn sync(&self, plan: HostPlan) -> Result<Vec<VmId>, Report> {
        self.ask(|answer| Ask::Sync { plan, answer }).await
    }

    /// Gives a VM its uplink in the namespace of its keeper. Returns what the keeper has to be told.
    ///
    /// # Errors
    /// When the keeper is gone; else as [`Privileged::attach`].
    pub async fn attach(&self, vm: &VmId, slot: u32, keeper: ProcessId) -> Result<Inside, Report> {
        let namespace = namespace_of(vm, keeper).map_err(|error| Report::of(&error))?;
        let inside = Inside::new(&self.setup, slot, self.user);
        let inside =
            inside.ok_or_else(|| Report::new(Kind::Invalid, "there is no such address"))?;
        let vm = vm.clone();
        self.ask(|answer| Ask::Attach { vm, slot, namespace, answer }).await?;
        Ok(inside)
    }

    /// As [`Privileged::detach`].
    ///
    /// # Errors
    /// As [`Privileged::detach`].
    pub async fn detach(&self, vm: &VmId) -> Result<(), Report> {
        let vm = vm.clone();
        self.ask(|answer| Ask::Detach { vm, answer }).await
    }

    /// As [`Privileged::check`].
    ///
    /// # Errors
    /// As [`Privileged::check`].
    pub async fn check(&self) -> Result<Option<ForwardingProblem>, Report> {
        self.ask(|answer| Ask::Check { answer }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Ask) -> Result<T, Report> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let ended = || Report::new(Kind::Cancelled, "the daemon ends");
            self.requests.send(request(answer)).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        };
        let late = || {
            let text = format!("the bridge was not ready within {} s", DEADLINE.as_secs());
            Report::new(Kind::TimedOut, text)
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The network namespace of a VM's keeper. Opened first, and only then is it asked whether the pid is
/// still the keeper's: so it cannot be the namespace of a process that came after it.
fn namespace_of(vm: &VmId, keeper: ProcessId) -> Result<OwnedFd, BridgeError> {
    let failed = |source| BridgeError::Namespace { vm: vm.clone(), source };
    let gone = || BridgeError::KeeperGone { vm: vm.clone() };
    let file = match File::open(format!("/proc/{}/ns/net", keeper.pid)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
        opened => opened.map_err(failed)?,
    };
    match Process::open(keeper).map_err(failed)? {
        Some(_) => Ok(file.into()),
        None => Err(gone()),
    }
}

struct Serving {
    setup: Setup,
    socket: PathBuf,
    tasks: Tasks,
}

impl Serving {
    async fn serve(self, mut queue: mpsc::Receiver<Ask>, user: nix::unistd::Uid) {
        let mut privileged: Option<Box<dyn Privileged>> = None;
        // Who asked and has gone away does not need the answer.
        while let Some(ask) = queue.recv().await {
            let ready = match privileged.take() {
                Some(ready) => Ok(ready),
                None => self.open(user),
            };
            match ready {
                Ok(mut ready) => {
                    answer(ready.as_mut(), ask).await;
                    privileged = Some(ready);
                }
                Err(report) => refuse(report, ask),
            }
        }
    }

    fn open(&self, user: nix::unistd::Uid) -> Result<Box<dyn Privileged>, Report> {
        if !user.is_root() {
            return Ok(Box::new(Helper::new(self.socket.clone(), self.setup.clone())));
        }
        match Host::new(self.setup.clone(), user.as_raw(), &self.tasks) {
            Ok(host) => Ok(Box::new(host)),
            Err(error) => Err(Report::of(&error)),
        }
    }
}

async fn answer(privileged: &mut dyn Privileged, ask: Ask) {
    match ask {
        Ask::Sync { plan, answer } => drop(answer.send(privileged.sync(&plan).await)),
        Ask::Attach { vm, slot, namespace, answer } => {
            drop(answer.send(privileged.attach(&vm, slot, namespace).await));
        }
        Ask::Detach { vm, answer } => drop(answer.send(privileged.detach(&vm).await)),
        Ask::Check { answer } => drop(answer.send(privileged.check().await)),
    }
}

fn refuse(report: Report, ask: Ask) {
    match ask {
        Ask::Sync { answer, .. } => drop(answer.send(Err(report))),
        Ask::Attach { answer, .. } | Ask::Detach { answer, .. } => drop(answer.send(Err(report))),
        Ask::Check { answer } => drop(answer.send(Err(report))),
    }
}
