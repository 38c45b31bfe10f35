//! Networks made ahead, so that a start need not wait for one.
//!
//! ```text
//!  first start of a VM with a network ─▶ being made ─▶ ready ─▶ taken by a VM ─▶ another is made
//!                                                        │
//!                                                        └─ its keeper or uplink is gone: thrown away
//! ```
//!
//! A spare has an id of the same kind as a VM's, by which its processes are known, a folder of its own for
//! the keeper's socket, and rows. It lets nothing out: its policy is closed until a VM takes it. One
//! transaction makes its rows the VM's, so that after a crash its processes are either's, never nobody's.
//! Spares that a daemon leaves behind are ended by the next one ([`Spares::sweep`]).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::fs::DirBuilder;

use super::KILL_DEADLINE;
use super::control::{Channel, Reply, Request, SOCKET};
use super::error::{NetError, Said};
use super::hosts::HostAddresses;
use super::ranges::Prefix;
use super::rules::ResolverTransport;
use super::start::{Carrier, Starting, Up};
use super::talk::{another_answer, ask};
use super::uplink;
use super::way::Way;
use crate::egress::{DnsName, Mode, Policy};
use crate::id::VmId;
use crate::process::{Process, ProcessId, find_servants};
use crate::task::blocking;
use crate::vm::ledger::SpareRows;

/// How long after a start another network is made ahead.
const SETTLE: Duration = Duration::from_secs(3);

/// Handing over is two small changes of the firewall.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(30);

/// The networks that were made ahead.
#[derive(Clone)]
pub(super) struct Spares {
    rows: Arc<dyn SpareRows>,
    /// Where each has its folder.
    folder: PathBuf,
    /// How many there are to be.
    wanted: usize,
    stock: Arc<Mutex<Stock>>,
}

#[derive(Default)]
struct Stock {
    ready: Vec<Spare>,
    /// How many places are being filled.
    being_made: usize,
    /// Those whose folders are there, and whose processes may not be yet.
    begun: BTreeSet<VmId>,
}

/// A network that no VM has yet.
pub(super) struct Spare {
    pub(super) id: VmId,
    pub(super) folder: PathBuf,
    pub(super) tap: OwnedFd,
    pub(super) channel: Channel,
    pub(super) processes: Held,
    /// The host's addresses that its keeper knows.
    pub(super) host: Arc<Vec<Prefix>>,
}

/// Keeper and uplink of a spare: killed when dropped, unless somebody else has them.
pub(super) struct Held(Vec<ProcessId>);

impl Held {
    pub(super) fn new(keeper: ProcessId, uplink: Option<ProcessId>) -> Self {
        Self([keeper].into_iter().chain(uplink).collect())
    }

    fn live(&self) -> bool {
        self.0.iter().all(|process| matches!(Process::open(*process), Ok(Some(_))))
    }

    /// Ends them, because a VM's rows name them and it makes its own network.
    ///
    /// # Errors
    /// When one is still there; then they stay in the VM's rows.
    pub(super) async fn kill(&self) -> io::Result<()> {
        for process in &self.0 {
            if let Some(process) = Process::open(*process)? {
                process.kill(KILL_DEADLINE).await?;
            }
        }
        Ok(())
    }

    /// They are somebody else's: keeper and uplink.
    pub(super) fn let_go(mut self) -> (ProcessId, Option<ProcessId>) {
        let processes = std::mem::take(&mut self.0);
        (processes[0], processes.get(1).copied())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for process in self.0.iter().filter_map(|process| Process::open(*process).ok().flatten()) {
            // Cancelled: nobody is left to be told. The rows are there for the next daemon.
            drop(process.signal(Signal::KILL));
        }
    }
}

/// A place in the stock that is being filled. Given back when dropped.
pub(super) struct Place(Spares);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.stock().being_made -= 1;
    }
}

/// What a network is made with.
pub(super) struct Making {
    pub(super) coved: PathBuf,
    pub(super) path: OsString,
    pub(super) host: HostAddresses,
    pub(super) resolver: Option<ResolverTransport>,
    pub(super) zone: DnsName,
}

impl Place {
    /// Makes a network and puts it into the stock. What fails is logged: a start makes its own then.
    pub(super) async fn fill(self, making: Making) {
        // The start that has just begun has the processors first.
        tokio::time::sleep(SETTLE).await;
        let spares = self.0.clone();
        blocking(move || spares.remove_used()).await;
        match self.0.make(&making).await {
            Ok(spare) => {
                let id = spare.id.clone();
                self.0.stock().ready.push(spare);
                tracing::info!(spare = %id, "a network was made ahead");
            }
            Err(error) => {
                let why = crate::report::causes(&error).join(": ");
                tracing::warn!(%error, %why, "no network was made ahead");
            }
        }
    }
}

impl Spares {
    async fn make(&self, making: &Making) -> Result<Spare, NetError> {
        let id = VmId::random();
        self.stock().begun.insert(id.clone());
        let made = self.make_with(&id, making).await;
        self.stock().begun.remove(&id);
        made
    }

    async fn make_with(&self, id: &VmId, making: &Making) -> Result<Spare, NetError> {
        let folder = self.folder.join(id.as_str());
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&folder).await;
        made.map_err(|source| NetError::Socket { folder: folder.clone(), source })?;
        let host = making.host.borrow().clone().unwrap_or_default();
        let resolver = match making.resolver {
            Some(known) => known,
            None => uplink::resolver_transport(&making.path).await,
        };
        let ledger = self.rows.ledger(id);
        let mut starting = Starting::new(id, &folder, &*ledger, &making.path);
        let closed = Policy { mode: Mode::Closed, rules: Vec::new() };
        let (way, told) = (Way::User { resolver }, (&host[..], &closed));
        let ways = (&way, &making.zone);
        match starting.run(&making.coved, ways, told, Carrier::Pasta).await {
            Ok(Up { tap, channel, pasta }) => {
                let processes = Held::new(starting.finish(), pasta);
                Ok(Spare { id: id.clone(), folder, tap, channel, processes, host })
            }
            Err(error) => {
                let error = starting.undo(error).await;
                // What could not be ended keeps its rows, for the next daemon.
                if !matches!(error, NetError::Undo { .. }) {
                    self.end(id, Vec::new()).await;
                }
                Err(error)
            }
        }
    }

    /// `wanted` spares at a time, each with a folder below `folder`.
    pub(super) fn new(rows: Arc<dyn SpareRows>, folder: PathBuf, wanted: usize) -> Self {
        Self { rows, folder, wanted, stock: Arc::default() }
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        // What is under the lock is whole at every moment.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A spare whose processes live, or none. Those that do not are thrown away.
    pub(super) async fn take(&self) -> Option<Spare> {
        loop {
            let spare = self.stock().ready.pop()?;
            if spare.processes.live() {
                return Some(spare);
            }
            self.throw_away(spare).await;
        }
    }

    /// Makes the rows of a spare the VM's. When that fails the spare is ended.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) async fn rows_to(&self, spare: Spare, vm: &VmId) -> Result<Spare, NetError> {
        match self.rows.hand_over(&spare.id, vm).await {
            Ok(()) => Ok(spare),
            Err(error) => {
                self.throw_away(spare).await;
                Err(NetError::Ledger(error))
            }
        }
    }

    /// A place to fill, when there are fewer than there are to be.
    pub(super) fn place(&self) -> Option<Place> {
        let mut stock = self.stock();
        if stock.ready.len() + stock.being_made >= self.wanted {
            return None;
        }
        stock.being_made += 1;
        drop(stock);
        Some(Place(self.clone()))
    }

    /// Ends a spare that is no use.
    pub(super) async fn throw_away(&self, spare: Spare) {
        let processes = spare.processes.0.iter().rev().copied().collect();
        self.end(&spare.id, processes).await;
        spare.processes.let_go();
    }

    /// Ends all that are ready: the daemon ends.
    pub(super) async fn empty(&self) {
        let ready = std::mem::take(&mut self.stock().ready);
        for spare in ready {
            self.throw_away(spare).await;
        }
    }

    /// Ends what an earlier daemon has left. What a VM has taken is the VM's, and has no rows here.
    pub(super) async fn sweep(&self) {
        let rows = match self.rows.all().await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(
                    error = error.one_line(),
                    "the spare networks that were left are not known"
                );
                return;
            }
        };
        let owned = match self.rows.owned().await {
            Ok(owned) => owned,
            Err(error) => {
                tracing::error!(error = error.one_line(), "which networks VMs have is not known");
                return;
            }
        };
        // After the loss of a database a folder is all that is known of one.
        let spares = self.clone();
        let folders = blocking(move || spares.folders()).await;
        let without = folders.into_iter().filter(|id| !rows.iter().any(|(row, _)| row == id));
        let without: Vec<_> = without.map(|id| (id, Vec::new())).collect();
        for (id, processes) in rows.into_iter().chain(without) {
            let known = processes.into_iter().flatten();
            // A process whose row was not completed is known by the id alone.
            let all: Vec<_> = known.chain(find_servants(id.as_str())).collect();
            if !all.iter().any(|process| owned.contains(process)) {
                self.end(&id, all).await;
            }
        }
    }

    /// Removes the folders of spares that VMs have had.
    fn remove_used(&self) {
        for id in self.folders() {
            let used = {
                let stock = self.stock();
                !stock.begun.contains(&id) && !stock.ready.iter().any(|spare| spare.id == id)
            };
            if used && find_servants(id.as_str()).is_empty() {
                remove_folder(&self.folder.join(id.as_str()));
            }
        }
    }

    fn folders(&self) -> Vec<VmId> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// Ends these processes, and then the rows and the folder of the spare. What cannot be ended keeps its rows.
    async fn end(&self, id: &VmId, processes: Vec<ProcessId>) {
        for process in processes {
            let ended = match Process::open(process) {
                Ok(Some(process)) => process.kill(KILL_DEADLINE).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::error!(spare = %id, pid = process.pid, %error, "a spare network is left");
                return;
            }
        }
        let folder = self.folder.join(id.as_str());
        blocking(move || remove_folder(&folder)).await;
        if let Err(error) = self.rows.released(id).await {
            tracing::error!(spare = %id, error = error.one_line(), "the rows of a spare network are left");
        }
    }
}

/// Makes a spare whose rows are a VM's that VM's: its socket, and what it lets out. Its folder stays as long as
/// its processes: should the database be lost, they are known by its name.
///
/// # Errors
/// When one of these fails. Then its processes are still there.
pub(super) async fn hand_over(
    spare: &mut Spare,
    folder: &Path,
    (host, policy): (&Arc<Vec<Prefix>>, &Policy),
) -> Result<(), NetError> {
    let moved = tokio::fs::rename(spare.folder.join(SOCKET), folder.join(SOCKET)).await;
    moved.map_err(|source| NetError::Socket { folder: folder.to_owned(), source })?;
    if spare.host != *host {
        let request = Request::HostAddresses { host: host.to_vec() };
        tell(&mut spare.channel, &request, "take the host's addresses").await?;
        spare.host = Arc::clone(host);
    }
    let request = Request::Policy { policy: policy.clone() };
    tell(&mut spare.channel, &request, "take the policy").await
}

async fn tell(
    channel: &mut Channel,
    request: &Request,
    step: &'static str,
) -> Result<(), NetError> {
    let deadline = HAND_OVER_DEADLINE;
    match tokio::time::timeout(deadline, ask(channel, request)).await {
        Ok(Ok(Reply::Done)) => Ok(()),
        Ok(Ok(Reply::Failed { why })) => Err(NetError::Keeper { step, said: Said::chain(why) }),
        Ok(Ok(Reply::Explained(_) | Reply::Denied(_))) => {
            Err(NetError::Connection(another_answer()))
        }
        Ok(Err(broken)) => Err(NetError::Connection(broken)),
        Err(_) => Err(NetError::Silent { step, deadline }),
    }
}

/// There is nothing in it but the socket. One that stays is found by the next sweep. Blocks.
fn remove_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a folder is left");
    }
}
