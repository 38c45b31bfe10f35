//! The service's face: verbs on VMs, by name, id or prefix.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::command::{Answer, Command, Doom, Doomed, Interrupt, Unexported};
use super::create::CreateDefaults;
use super::events::{self, Events, View};
use super::idle::{OwnUsage, Usage};
use super::lease::Leases;
use super::operation::{Operations, ended};
use super::owner::{Owner, QUEUE, Shared};
use super::ports::{Guest, HookedVm, Ports};
use super::record::{Unreadable, VmRecord};
use super::resolve::resolve;
use super::roster::Roster;
use super::shown::{Seen, Shown, ShownPage};
use super::start::StartDeadlines;
use super::still::DiskLock;
use crate::id::VmId;
use crate::report::{Kind, Report};
use crate::task::Tasks;
use crate::wire::rpc::{Deleted, KillSignal, LogQuery, Logs, Operation, Page, Vm, VmState};

/// What the service is told at its making.
#[derive(Debug, Clone)]
pub struct VmSettings {
    /// The folder of the VMs' folders.
    pub vms: PathBuf,
    /// Where consoles are saved.
    pub consoles: PathBuf,
    /// Deadlines of a start.
    pub start: StartDeadlines,
    /// A guest that is asked to stop is killed after this.
    pub stop: Duration,
    /// Memory of this host in MiB: no VM can have more.
    pub host_memory_mib: u64,
    /// What a VM gets when its maker does not say.
    pub defaults: CreateDefaults,
}

/// The VM service. Clones are the same service.
#[derive(Clone)]
pub struct VmService {
    pub(super) shared: Shared,
    pub(super) settings: Arc<VmSettings>,
    pub(super) operations: Arc<Operations>,
    pub(super) events: Events,
    pub(super) leases: Arc<Leases>,
    pub(super) tasks: Tasks,
    pub(super) vms: Arc<Mutex<Roster<Arc<Handle>>>>,
    /// Held while a new VM is compared with the others and comes to be one of them.
    pub(super) joining: Arc<Mutex<()>>,
    /// Rows that could not be read when the daemon began.
    pub(super) unreadable: Arc<OnceLock<Vec<Unreadable>>>,
}

/// How the service reaches one VM's owner.
pub(super) struct Handle {
    pub(super) view: watch::Receiver<Seen>,
    commands: mpsc::Sender<Command>,
    interrupts: watch::Sender<u32>,
    uses: watch::Sender<u32>,
    pub(super) disk: DiskLock,
}

/// Most VMs on one page.
const MAX_PAGE: u32 = 1000;
/// VMs on a page when the client does not say.
const DEFAULT_PAGE: u32 = 500;

impl VmService {
    /// The service over its ports. It knows no VM until [`recover`](Self::recover).
    #[must_use]
    pub fn new(ports: Ports, settings: VmSettings, tasks: Tasks) -> Self {
        let events = Events::default();
        let shared = Shared {
            ports,
            start: settings.start,
            stop: settings.stop,
            vms: settings.vms.clone(),
            consoles: settings.consoles.clone(),
            host_memory_mib: settings.host_memory_mib,
        };
        Self {
            shared,
            settings: Arc::new(settings),
            operations: Arc::new(Operations::new(events.clone())),
            events,
            leases: Arc::default(),
            tasks,
            vms: Arc::default(),
            joining: Arc::default(),
            unreadable: Arc::default(),
        }
    }

    /// The operations of VMs.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// What happens to VMs and operations.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Gives a VM its owner.
    pub(super) fn adopt(&self, record: VmRecord) -> Arc<Handle> {
        let id = record.id.clone();
        let (commands, queue) = mpsc::channel(QUEUE);
        let (interrupts, interrupted) = watch::channel(0);
        let (uses, disk) = (watch::Sender::new(0), DiskLock::default());
        let usage = OwnUsage { uses: uses.clone(), commands: commands.downgrade() };
        let (view, views) = View::new(record.clone(), self.events.clone());
        let vms = self.vms.clone();
        let forget = Box::new({
            let (id, name, events) = (id.clone(), record.name.clone(), self.events.clone());
            move || {
                let was_there = vms.lock().expect("no panic under the lock").remove(&id);
                if was_there {
                    events.publish(events::deleted(&id, &name));
                }
            }
        });
        let disk_of_owner = disk.clone();
        let handle = Arc::new(Handle { view: views, commands, interrupts, uses, disk });
        self.vms.lock().expect("no panic under the lock").insert(&record, handle.clone());
        let owner = Owner {
            shared: self.shared.clone(),
            folder: self.folder(&id),
            record,
            view,
            told_stall: None,
            commands: queue,
            interrupts: interrupted,
            usage,
            disk: disk_of_owner,
            adopted: Instant::now(),
            shutdown: self.tasks.shutdown(),
            forget,
        };
        owner.reopen_ports();
        self.tasks.spawn("vm", owner.run());
        handle
    }

    pub(super) fn folder(&self, vm: &VmId) -> PathBuf {
        self.settings.vms.join(vm.as_str())
    }

    pub(super) fn handle(&self, wanted: &str) -> Result<Arc<Handle>, Report> {
        let found = resolve(&self.vms.lock().expect("no panic under the lock"), wanted);
        found.map_err(|error| {
            let mut unreadable = self.unreadable.get().into_iter().flatten();
            unreadable.find(|row| row.is(wanted)).map_or(error, Unreadable::report)
        })
    }

    /// All VMs, as they are now.
    pub(super) fn records(&self) -> Vec<VmRecord> {
        let (all, _) = self.vms.lock().expect("no panic under the lock").page(None, usize::MAX);
        all.into_iter().map(|vm| vm.view.borrow().record.clone()).collect()
    }

    fn handle_with_id(&self, vm: &VmId) -> Option<Arc<Handle>> {
        self.vms.lock().expect("no panic under the lock").with_id(vm.as_str()).cloned()
    }

    /// The operation now, or at its end.
    pub(super) async fn report(
        &self,
        operation: &crate::id::OperationId,
        wait: bool,
    ) -> Result<Operation, Report> {
        let state = self.operations.watch(operation)?;
        if wait {
            return ended(state).await;
        }
        let now = state.borrow().clone();
        Ok(now)
    }

    /// Stops a VM gracefully, by force after the deadline. One that does not run is no error.
    ///
    /// # Errors
    /// When there is no such VM, or something of it cannot be released.
    pub async fn stop(&self, wanted: &str) -> Result<Vm, Report> {
        self.handle(wanted)?.ask(wanted, |answer| Command::Stop { answer }).await
    }

    /// Sends a signal to a VM's monitor. One that ends it does so even while the VM starts.
    ///
    /// # Errors
    /// When there is no such VM, something of it cannot be released, or a VM that does not run is to
    /// stand still or go on.
    pub async fn kill(&self, wanted: &str, signal: KillSignal) -> Result<Vm, Report> {
        let handle = self.handle(wanted)?;
        let interrupt = signal.ends().then(|| Interrupt::new(&handle.interrupts));
        handle.ask(wanted, |answer| Command::Kill { answer, signal, interrupt }).await
    }

    /// Deletes a VM. One with work that is to be kept is left as it is.
    ///
    /// # Errors
    /// When there is no such VM, it is none that is to be deleted, it has work that is to be kept, its disk is
    /// being read, or something of it cannot be released.
    pub async fn delete(&self, wanted: &str, doom: Doom) -> Result<Deleted, Report> {
        let handle = self.handle(wanted)?;
        let Doom { which, work } = doom;
        // Where work may be kept, nothing may be cut short before that is known.
        let may_stay = work == Unexported::Keep && handle.view.borrow().record.workspace.is_some();
        match (which, may_stay) {
            (Doomed::Any, false) => self.delete_handle(&handle, wanted, doom).await,
            (Doomed::AtRest, _) | (Doomed::Any, true) => {
                let command = |answer| Command::Delete { answer, doom, interrupt: None };
                handle.ask(wanted, command).await
            }
        }
    }

    /// Deletes this very VM, whatever other VMs are named. None when it is gone already.
    pub(super) async fn delete_id(&self, vm: &VmId) -> Option<Result<Deleted, Report>> {
        let handle = self.handle_with_id(vm)?;
        Some(self.delete_handle(&handle, vm.as_str(), Doom::WHATEVER).await)
    }

    /// Deletes it, and cuts short what it does.
    async fn delete_handle(
        &self,
        handle: &Handle,
        wanted: &str,
        doom: Doom,
    ) -> Result<Deleted, Report> {
        let interrupt = Some(Interrupt::new(&handle.interrupts));
        let command = |answer| Command::Delete { answer, doom, interrupt };
        let deleted = handle.ask(wanted, command).await;
        match deleted {
            // A create that this has interrupted has removed the VM itself.
            Err(error) if error.kind == Kind::NotFound => {
                let VmRecord { id, name, .. } = handle.view.borrow().record.clone();
                Ok(Deleted { id, name, console_saved: None })
            }
            deleted => deleted,
        }
    }

    /// One VM.
    ///
    /// # Errors
    /// When there is no such VM.
    pub fn show(&self, wanted: &str) -> Result<Vm, Report> {
        Ok(self.shared.shown(&self.handle(wanted)?.view.borrow().record))
    }

    /// One VM, as hooks see it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn hooked(&self, wanted: &str) -> Result<HookedVm, Report> {
        Ok(self.handle(wanted)?.view.borrow().record.hooked())
    }

    /// A page of VMs, oldest first.
    ///
    /// # Errors
    /// When the limit or the cursor is wrong.
    pub fn list(&self, page: &Page) -> Result<ShownPage, Report> {
        let limit = page.limit.unwrap_or(DEFAULT_PAGE);
        if limit == 0 || limit > MAX_PAGE {
            let message = format!("`limit` is {limit}, but must lie in 1 to {MAX_PAGE}");
            return Err(Report::new(Kind::Invalid, message));
        }
        let vms = self.vms.lock().expect("no panic under the lock");
        let (page, next) = vms.page(page.cursor.as_deref(), limit as usize);
        drop(vms);
        let vms = page.iter().map(|vm| self.shown(&vm.view.borrow())).collect();
        Ok(ShownPage { vms, next })
    }

    /// A VM in a list. Whether it stands still, and which ports it does not have, is not known when its record
    /// changes, but now.
    fn shown(&self, seen: &Seen) -> Shown {
        let failed = self.shared.ports.forwards.failed(&seen.record.id);
        match self.shared.stall(&seen.record) {
            None if failed.is_empty() => seen.shown.clone(),
            Some(_) | None => Shown::of(&self.shared.shown(&seen.record)),
        }
    }

    /// How many VMs there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.vms.lock().expect("no panic under the lock").len()
    }

    /// The console of a VM.
    ///
    /// # Errors
    /// When there is no such VM or its ring cannot be read.
    pub async fn logs(&self, query: &LogQuery) -> Result<Logs, Report> {
        let id = self.handle(&query.vm)?.view.borrow().record.id.clone();
        let (folder, machines) = (self.folder(&id), &self.shared.ports.machines);
        let (bytes, next, lost) = machines.console(&folder, query.from).await?;
        Ok(Logs { text: String::from_utf8_lossy(&bytes).into_owned(), next, lost })
    }

    /// The guest of a running VM.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn guest(&self, record: &VmRecord) -> Result<Arc<dyn Guest>, Report> {
        let folder = self.folder(&record.id);
        let boot = record.state.boot().filter(|_| record.state.view() == VmState::Running);
        let guest = boot.and_then(|boot| self.shared.ports.guest_of(&folder, boot));
        guest.ok_or_else(|| {
            let name = &record.name;
            Report::new(Kind::Conflict, format!("the VM `{name}` is not running"))
                .with_hint(format!("start it with `cove start {name}`"))
        })
    }
}

fn gone(wanted: &str) -> Report {
    Report::new(Kind::NotFound, format!("the VM `{wanted}` has just been deleted"))
}

impl Handle {
    /// To say how long the VM is being used.
    pub(super) fn usage(&self) -> Usage {
        Usage { uses: self.uses.clone(), commands: self.commands.clone() }
    }

    pub(super) async fn send(&self, command: Command, wanted: &str) -> Result<(), Report> {
        self.commands.send(command).await.map_err(|_| gone(wanted))
    }

    pub(super) async fn ask<T>(
        &self,
        wanted: &str,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<T, Report> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer), wanted).await?;
        answered.await.unwrap_or_else(|_| Err(gone(wanted)))
    }
}
