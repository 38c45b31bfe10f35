//! A host in memory: rows, processes and folders that survive the daemons over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::plugins::VARIABLE;
use crate::egress::{Policy, Rule};
use crate::id::VmId;
use crate::process::ProcessId;
use crate::vm::ledger::ResourceKind;
use crate::vm::ports::{DiskCopy, Stall, WorkSeen};
use crate::vm::record::{Unreadable, VmRecord};
use crate::vm::state::State;
use crate::wire::guest::{CopyFiles, DetachedProgram, Exec};
use crate::wire::rpc::{HookPoint, Publish};

/// The folder of the VMs' folders.
pub(crate) const VMS: &str = "/vms";

/// How guests and hooks behave.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Plugins.
    pub(crate) plugins: Plugins,
    /// Guests print but never answer.
    pub(crate) never_answers: bool,
    /// Guests neither print nor answer.
    pub(crate) silent: bool,
    /// Guests agree to power off and do not.
    pub(crate) ignores_power_off: bool,
    /// Monitors do not end by signals that ask them to.
    pub(crate) ignores_signals: bool,
    /// The host's disk is full: machines that go on stand still again.
    pub(crate) full_disk: bool,
}

/// How plugins behave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Plugins {
    #[default]
    Fine,
    /// A hook fails that must not.
    Fail(HookPoint),
    /// A hook does not come to an end before its deadline.
    Hang(HookPoint),
    /// All hooks fail, and none of them has to succeed.
    FailSoftly,
}

impl Plugins {
    /// The hook that prepares work disks fails.
    pub(crate) const BROKEN: Self = Self::Fail(HookPoint::PrepareWorkDisk);
}

/// A process of the host.
#[derive(Debug, Clone)]
pub(crate) struct SimProcess {
    pub(crate) id: ProcessId,
    pub(crate) vm: VmId,
    pub(crate) kind: ResourceKind,
}

/// A work disk: its bytes as a file of the host, as its machine sees them, and of the file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimDisk {
    pub(crate) file: u64,
    pub(crate) seen: u64,
    pub(crate) system: u64,
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) rows: Vec<VmRecord>,
    pub(crate) unreadable: Vec<Unreadable>,
    pub(crate) resources: BTreeMap<(VmId, ResourceKind), Option<ProcessId>>,
    pub(crate) processes: Vec<SimProcess>,
    pub(crate) folders: BTreeSet<PathBuf>,
    pub(crate) disks: BTreeMap<PathBuf, SimDisk>,
    /// Folders that were set aside.
    pub(crate) lost: BTreeSet<PathBuf>,
    pub(crate) behaviour: Behaviour,
    pub(crate) printed: u64,
    pub(crate) signals: Vec<(ProcessId, Signal)>,
    /// What was run in guests.
    pub(crate) commands: Vec<Exec>,
    /// The detached programs of guests.
    pub(crate) detached: Vec<DetachedProgram>,
    /// How many frames programs have been rid of.
    pub(crate) told: usize,
    /// How many programs that wait have been left alone.
    pub(crate) hung_up: usize,
    /// Ports of the host that others have.
    pub(crate) in_use: BTreeSet<u16>,
    /// The ports of guests that were connected to.
    pub(crate) connected: Vec<u16>,
    /// What was copied out of guests and into them.
    pub(crate) copied: Vec<CopyFiles>,
    /// Copies out of disks that have not ended.
    pub(crate) read: Vec<DiskCopy>,
    /// The VMs that plugins know of and have not been told to forget.
    pub(crate) introduced: BTreeSet<VmId>,
    /// How often plugins have been asked what a machine gets.
    pub(crate) asked: u64,
    /// The ports that plugins ask for.
    pub(crate) forwards: Vec<Publish>,
    /// The labels that plugins give.
    pub(crate) labels: BTreeMap<String, String>,
    /// The names that they ask to be reachable.
    pub(crate) wished: BTreeSet<Rule>,
    /// What VMs may reach, as long as their keepers live.
    pub(crate) policies: BTreeMap<VmId, Policy>,
    /// What is to be seen of the work in VMs, where it is not safe.
    pub(crate) work: BTreeMap<VmId, WorkSeen>,
    /// What was seen of it when they stopped.
    pub(crate) left: BTreeMap<VmId, WorkSeen>,
    /// The VMs that have a port on the bridge.
    pub(crate) bridge: BTreeSet<VmId>,
    /// Whether machines stand still, by VM, as long as their monitors live.
    stalls: BTreeMap<VmId, watch::Sender<Option<Stall>>>,
    next_pid: i32,
}

/// The host, shared by daemons one after the other.
#[derive(Clone, Default)]
pub(crate) struct World {
    host: Arc<Mutex<Host>>,
    ended: watch::Sender<u64>,
}

impl World {
    pub(crate) fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().expect("no panic under the lock")
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.host().behaviour = behaviour;
    }

    /// Plugins behave so, and nothing else is unusual.
    pub(crate) fn plug(&self, plugins: Plugins) {
        self.behave(Behaviour { plugins, ..Behaviour::default() });
    }

    pub(crate) fn spawn(&self, vm: &VmId, kind: ResourceKind) -> ProcessId {
        let mut host = self.host();
        host.next_pid += 1;
        let id = ProcessId { pid: host.next_pid, start_ticks: 7 };
        host.processes.push(SimProcess { id, vm: vm.clone(), kind });
        if kind == ResourceKind::Monitor {
            host.stalls.insert(vm.clone(), watch::Sender::new(None));
        }
        id
    }

    pub(crate) fn alive(&self, process: ProcessId) -> bool {
        self.host().processes.iter().any(|one| one.id == process)
    }

    /// A guest boots: its machine sees the file, and the agent grows the file system when it mounts it.
    pub(crate) fn boot_disk(&self, folder: &Path) {
        let mut host = self.host();
        if let Some(disk) = host.disks.get_mut(folder) {
            (disk.seen, disk.system) = (disk.file, disk.file);
        }
    }

    /// A process ends, however it comes to it.
    pub(crate) fn end(&self, process: ProcessId) {
        let mut host = self.host();
        let ended = host.processes.iter().find(|one| one.id == process).cloned();
        host.processes.retain(|one| one.id != process);
        match ended {
            Some(SimProcess { vm, kind: ResourceKind::Monitor, .. }) => {
                host.stalls.remove(&vm);
            }
            Some(SimProcess { vm, kind: ResourceKind::NetworkKeeper, .. }) => {
                host.policies.remove(&vm);
            }
            Some(SimProcess {
                kind:
                    ResourceKind::Folder
                    | ResourceKind::VsockDevice
                    | ResourceKind::Uplink
                    | ResourceKind::BridgePort,
                ..
            })
            | None => {}
        }
        drop(host);
        self.ended.send_modify(|count| *count += 1);
    }

    /// A process gets a signal, and does what monitors do.
    pub(crate) fn signal(&self, process: ProcessId, signal: Signal) {
        let mut host = self.host();
        if !host.processes.iter().any(|one| one.id == process) {
            return;
        }
        host.signals.push((process, signal));
        let ignores = host.behaviour.ignores_signals;
        drop(host);
        if matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP) && !ignores {
            self.end(process);
        }
    }

    pub(crate) async fn until_ended(&self, process: ProcessId) {
        let mut ended = self.ended.subscribe();
        ended.wait_for(|_| !self.alive(process)).await.expect("the sender lives");
    }

    /// The monitors that live.
    pub(crate) fn monitors(&self) -> Vec<ProcessId> {
        let host = self.host();
        let monitors = host.processes.iter().filter(|one| one.kind == ResourceKind::Monitor);
        monitors.map(|one| one.id).collect()
    }

    /// The monitors of one VM that live.
    pub(crate) fn monitors_of(&self, vm: &VmId) -> Vec<ProcessId> {
        let host = self.host();
        let of_vm = |one: &&SimProcess| one.vm == *vm && one.kind == ResourceKind::Monitor;
        host.processes.iter().filter(of_vm).map(|one| one.id).collect()
    }

    /// The host's disk is full, and every guest has written something.
    pub(crate) fn fill(&self) {
        let mut host = self.host();
        host.behaviour.full_disk = true;
        for stall in host.stalls.values() {
            stall.send_replace(Some(Stall::NoRoom));
        }
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        self.host().behaviour.full_disk = false;
    }

    /// A machine goes on; on a full disk until its next write, which is at once.
    pub(crate) fn go_on(&self, vm: &VmId) {
        let host = self.host();
        let now = host.behaviour.full_disk.then_some(Stall::NoRoom);
        if let Some(stall) = host.stalls.get(vm) {
            stall.send_replace(now);
        }
    }

    pub(crate) fn watch_stall(&self, vm: &VmId) -> watch::Receiver<Option<Stall>> {
        let host = self.host();
        host.stalls.get(vm).map_or_else(|| watch::channel(None).1, watch::Sender::subscribe)
    }

    /// What is wrong between rows and host when nothing is under way.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let host = self.host();
        let mut wrong = Vec::new();
        let row = |vm: &VmId| host.rows.iter().find(|row| row.id == *vm);
        for process in &host.processes {
            let written = host.resources.get(&(process.vm.clone(), process.kind));
            if written != Some(&Some(process.id)) {
                wrong.push(format!("{process:?} is written down as {written:?}"));
            }
            if !row(&process.vm).is_some_and(|row| matches!(row.state, State::Running { .. })) {
                wrong.push(format!("{process:?} is of a VM that does not run"));
            }
        }
        for ((vm, kind), process) in &host.resources {
            if row(vm).is_none() {
                wrong.push(format!("the row of {kind:?} has no VM {vm}"));
            }
            let there = match (kind, process) {
                (ResourceKind::Folder, _) => host.folders.contains(&folder(vm)),
                (ResourceKind::BridgePort, _) => host.bridge.contains(vm),
                (_, Some(process)) => host.processes.iter().any(|one| one.id == *process),
                (_, None) => false,
            };
            if !there {
                wrong.push(format!("the row of {kind:?} of {vm} stands for nothing: {process:?}"));
            }
        }
        for row in &host.rows {
            if !host.resources.contains_key(&(row.id.clone(), ResourceKind::Folder)) {
                wrong.push(format!("{} has no folder's row", row.id));
            }
            wrong.extend(unfit(&host, row));
            wrong.extend(wrong_disk(&host, row));
            wrong.extend(not_given(&host, row));
            wrong.extend(not_in_force(&host, row));
        }
        for vm in &host.bridge {
            if !host.resources.contains_key(&(vm.clone(), ResourceKind::BridgePort)) {
                wrong.push(format!("the port of {vm} on the bridge has no row"));
            }
        }
        for vm in &host.introduced {
            if row(vm).is_none() {
                wrong.push(format!("plugins were not told that {vm} goes"));
            }
        }
        for folder in &host.folders {
            if !host.rows.iter().any(|row| self::folder(&row.id) == *folder) {
                wrong.push(format!("{} is nobody's", folder.display()));
            }
        }
        wrong
    }
}

/// What is wrong with a VM's state when nothing is under way.
fn unfit(host: &Host, row: &VmRecord) -> Option<String> {
    match &row.state {
        State::Created | State::Stopped { .. } | State::Error { .. } => None,
        State::Running { boot } => {
            let monitor = host.resources.get(&(row.id.clone(), ResourceKind::Monitor));
            let alive = host.processes.iter().any(|one| one.id == boot.monitor);
            (!alive || monitor != Some(&Some(boot.monitor)))
                .then(|| format!("{} is written down as running with {monitor:?}", row.id))
        }
        state @ (State::Making
        | State::Starting { .. }
        | State::Stopping { .. }
        | State::Deleting) => Some(format!("{} was left {state:?}", row.id)),
    }
}

/// What is wrong with a VM's work disk: a guest has what its boot says, and nothing more is promised
/// than the file has, unless the next start makes it so.
fn wrong_disk(host: &Host, row: &VmRecord) -> Option<String> {
    let disk = host.disks.get(&folder(&row.id))?;
    let boot = row.state.boot()?.size.disk_bytes;
    let SimDisk { file, seen, system } = *disk;
    let sound = system <= seen && seen <= file && boot <= system;
    (!sound).then(|| format!("{} boots with {boot}, but its disk is {disk:?}", row.id))
}

/// What is wrong with what plugins gave a VM that runs: every boot has its own.
fn not_given(host: &Host, row: &VmRecord) -> Option<String> {
    let given = |row: &VmRecord| row.state.boot()?.extras.env.get(VARIABLE).cloned();
    let own = given(row);
    let known = host.introduced.contains(&row.id);
    let shared = host.rows.iter().any(|other| other.id != row.id && given(other) == own);
    let wrong = row.state.boot().is_some() && (own.is_none() || shared || !known);
    wrong.then(|| format!("{} runs with {own:?} from plugins that know it: {known}", row.id))
}

/// What is wrong with what a VM that runs may reach.
fn not_in_force(host: &Host, row: &VmRecord) -> Option<String> {
    let in_force = host.policies.get(&row.id);
    let wrong = row.state.boot().is_some() && in_force != Some(&row.egress());
    wrong.then(|| format!("{} is to reach {:?}, but it is {in_force:?}", row.id, row.egress()))
}

/// A VM's folder.
pub(crate) fn folder(vm: &VmId) -> PathBuf {
    Path::new(VMS).join(vm.as_str())
}

/// The VM of a folder.
pub(crate) fn vm_of(folder: &Path) -> VmId {
    let name = folder.file_name().and_then(|name| name.to_str()).expect("a VM's folder");
    name.parse().expect("a VM's id")
}
