//! The bridge as the rest of the daemon uses it: one task holds what has privilege, and is asked through a
//! bounded queue.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::check::ForwardingProblem;
use super::error::BridgeError;
use super::plan::HostPlan;
use super::setup::Setup;
use super::{Helper, Host, Inside, Privileged, ipv6, lock};
use crate::id::VmId;
use crate::process::{Process, ProcessId};
use crate::report::{Kind, Report};
use crate::task::Tasks;

/// How many requests may wait before those who ask wait for a place.
const QUEUE: usize = 64;

/// More than the network helper gets for one request; there may be some in front.
const DEADLINE: Duration = Duration::from_secs(120);

/// A VM and its place on the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The VM.
    pub vm: VmId,
    /// What stands for its addresses.
    pub slot: u32,
    /// The VMs that it is to reach, and that are to reach it, once they are on the bridge too.
    pub peers: BTreeSet<VmId>,
}

impl Member {
    /// Whether the two are peers: it is enough that one of them wants it.
    #[must_use]
    pub fn is_peer_of(&self, other: &Self) -> bool {
        self.peers.contains(&other.vm) || other.peers.contains(&self.vm)
    }
}

/// Looking takes milliseconds, and others wait in front of it only while ports are made.
const LOOK_DEADLINE: Duration = Duration::from_secs(15);

/// The bridge of this daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Bridge {
    requests: mpsc::Sender<Ask>,
    setup: Setup,
    user: u32,
}

#[derive(Debug)]
enum Ask {
    Sync { members: Option<Vec<Member>>, answer: Answer<Vec<VmId>> },
    Attach { member: Member, namespace: OwnedFd, answer: Answer<()> },
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
        let serving = Serving {
            setup: setup.clone(),
            socket,
            tasks: tasks.clone(),
            members: Vec::new(),
            synced: false,
            lock: None,
        };
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

    /// What the keeper of the VM with `slot` has to know.
    ///
    /// # Errors
    /// When there is no such slot.
    pub fn inside(&self, slot: u32) -> Result<Inside, Report> {
        let inside = Inside::new(&self.setup, slot, self.user).ok_or_else(|| {
            let range = self.setup.ranges().range4();
            Report::new(Kind::Invalid, format!("`{range}` has no address number {slot}"))
        })?;
        Ok(match ipv6::is_on_bridge(self.setup.name()) {
            true => inside,
            false => inside.without_ipv6(),
        })
    }

    /// Whether the host carries IPv6 from one VM to another, now.
    #[must_use]
    pub fn carries_ipv6(&self) -> bool {
        ipv6::is_carried()
    }

    /// Has exactly these VMs on the bridge, or those that are to be there already. Returns those that have no
    /// port: they have to be attached again. Until this was said there is none on it.
    ///
    /// # Errors
    /// As [`Privileged::sync`]; it is tried again with the next request.
    pub async fn sync(&self, members: Option<Vec<Member>>) -> Result<Vec<VmId>, Report> {
        self.ask(|answer| Ask::Sync { members, answer }).await
    }

    /// Gives a VM its uplink in the namespace of its keeper, and opens the way to its peers.
    ///
    /// # Errors
    /// When the keeper is gone; else as [`Privileged::attach`]. It may be on the bridge all the same, without
    /// its peers.
    pub async fn attach(&self, member: Member, keeper: ProcessId) -> Result<(), Report> {
        let namespace = namespace_of(&member.vm, keeper).map_err(|error| Report::of(&error))?;
        self.ask(|answer| Ask::Attach { member, namespace, answer }).await
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
        self.ask_within(LOOK_DEADLINE, |answer| Ask::Check { answer }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Ask) -> Result<T, Report> {
        self.ask_within(DEADLINE, request).await
    }

    async fn ask_within<T>(
        &self,
        deadline: Duration,
        request: impl FnOnce(Answer<T>) -> Ask,
    ) -> Result<T, Report> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let ended = || Report::new(Kind::Cancelled, "the daemon ends");
            self.requests.send(request(answer)).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        };
        let late = || {
            let text = format!("the bridge was not ready within {} s", deadline.as_secs());
            Report::new(Kind::TimedOut, text)
        };
        tokio::time::timeout(deadline, asked).await.unwrap_or_else(|_| Err(late()))
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
    /// The VMs that are to be on the bridge.
    members: Vec<Member>,
    /// Whether what has privilege knows them.
    synced: bool,
    /// Held by a daemon that is root, as long as it lives.
    lock: Option<lock::Lock>,
}

impl Serving {
    async fn serve(mut self, mut queue: mpsc::Receiver<Ask>, user: nix::unistd::Uid) {
        let mut privileged: Option<Box<dyn Privileged>> = None;
        // Who asked and has gone away does not need the answer.
        while let Some(ask) = queue.recv().await {
            // Whatever becomes of the request: that is how it is to be.
            match &ask {
                Ask::Sync { members: Some(members), .. } => self.members.clone_from(members),
                Ask::Detach { vm, .. } => self.members.retain(|member| member.vm != *vm),
                Ask::Sync { members: None, .. } | Ask::Attach { .. } | Ask::Check { .. } => {}
            }
            let ready = match (privileged.take(), &ask) {
                (Some(ready), _) => Ok(ready),
                // To look changes nothing, so nothing is said about members either.
                (None, Ask::Sync { .. } | Ask::Check { .. }) => self.open(user),
                (None, Ask::Attach { .. } | Ask::Detach { .. }) => self.open_synced(user).await,
            };
            match ready {
                Ok(mut ready) => {
                    self.answer(ready.as_mut(), ask).await;
                    privileged = self.synced.then_some(ready);
                }
                Err(report) => refuse(report, ask),
            }
        }
    }

    async fn answer(&mut self, privileged: &mut dyn Privileged, ask: Ask) {
        match ask {
            Ask::Sync { answer, .. } => {
                let synced = privileged.sync(&self.plan()).await;
                self.synced = synced.is_ok();
                drop(answer.send(synced));
            }
            Ask::Attach { member, namespace, answer } => {
                drop(answer.send(self.attach(privileged, member, namespace).await));
            }
            Ask::Detach { vm, answer } => drop(answer.send(privileged.detach(&vm).await)),
            Ask::Check { answer } => drop(answer.send(privileged.check().await)),
        }
    }

    async fn attach(
        &mut self,
        privileged: &mut dyn Privileged,
        member: Member,
        namespace: OwnedFd,
    ) -> Result<(), Report> {
        self.members.retain(|other| other.vm != member.vm);
        privileged.attach(&member.vm, member.slot, namespace).await?;
        let has_peers = self.members.iter().any(|other| other.is_peer_of(&member));
        self.members.push(member);
        if has_peers {
            privileged.sync(&self.plan()).await?;
        }
        Ok(())
    }

    fn plan(&self) -> HostPlan {
        let mut plan = HostPlan::new(self.setup.clone());
        plan.vms = self.members.iter().map(|member| (member.vm.clone(), member.slot)).collect();
        for (at, one) in self.members.iter().enumerate() {
            let peers = self.members[..at].iter().filter(|other| one.is_peer_of(other));
            plan.peers.extend(peers.map(|other| (other.vm.clone(), one.vm.clone())));
        }
        plan
    }

    async fn open_synced(&mut self, user: nix::unistd::Uid) -> Result<Box<dyn Privileged>, Report> {
        let mut opened = self.open(user)?;
        let missing = opened.sync(&self.plan()).await?;
        self.synced = true;
        if !missing.is_empty() {
            tracing::warn!(?missing, "VMs are not on the bridge any more; restart them");
        }
        Ok(opened)
    }

    fn open(&mut self, user: nix::unistd::Uid) -> Result<Box<dyn Privileged>, Report> {
        if !user.is_root() {
            return Ok(Box::new(Helper::new(self.socket.clone(), self.setup.clone())));
        }
        if self.lock.is_none() {
            let lock = lock::take(self.setup.name());
            self.lock = Some(lock.map_err(|error| Report::of(&error))?);
        }
        match Host::new(self.setup.clone(), user.as_raw(), &self.tasks) {
            Ok(host) => Ok(Box::new(host)),
            Err(error) => Err(Report::of(&error)),
        }
    }
}

fn refuse(report: Report, ask: Ask) {
    match ask {
        Ask::Sync { answer, .. } => drop(answer.send(Err(report))),
        Ask::Attach { answer, .. } | Ask::Detach { answer, .. } => drop(answer.send(Err(report))),
        Ask::Check { answer } => drop(answer.send(Err(report))),
    }
}
