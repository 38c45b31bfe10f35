//! Machines that stand still because the host's disk takes no more of what their guests write.
//!
//! The monitor stops a machine at a write that fails, keeps the write, and tries it again when the machine
//! goes on. So nothing is lost, and nothing of it is written down: whether a machine stands still is the
//! monitor's truth, and the disk that the rows lie on is most likely the full one.
//!
//! | what is asked of such a VM | what happens |
//! |---|---|
//! | start | it goes on where it was, and its clock is set; when there is still no room it stands still again, and start says so |
//! | stop, restart | it is tried to let it go on and power off; when it cannot, its power is cut at once: waiting would help nobody, and the VM's cause says that what it had not written is lost |
//! | kill, delete | as ever |
//! | exec, stats, ports, growing its disk | refused, with what to do: the guest cannot answer |
//! | nothing, for as long as it may be idle | it is not stopped: its guest holds work that is on no disk |
//!
//! A start during which the machine comes to stand still is undone: nobody has used that guest yet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::command::Begin;
use super::operation::Running;
use super::owner::{Owner, Shared, cancelled};
use super::ports::{PortResult, Stall, Stalls};
use super::record::VmRecord;
use super::state::State;
use crate::id::{VmId, VmName};
use crate::report::{Kind, Report};
use crate::wire::rpc::{Happening, OperationEnd, Vm};

/// How long a machine that goes on is watched. Nothing tells that a write has been taken, but one that is
/// refused again is refused at once.
const SETTLES: Duration = Duration::from_secs(3);

impl Stall {
    /// Why, for people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoRoom => "the host's disk is full",
            Self::Failed => "the host's disk fails",
        }
    }
}

/// Whether one VM's machine stands still, and how that is said.
#[derive(Clone)]
pub(super) struct Stillness {
    stalls: Arc<dyn Stalls>,
    vm: VmId,
    name: VmName,
    folder: PathBuf,
}

impl Stillness {
    pub(super) fn of(stalls: Arc<dyn Stalls>, record: &VmRecord, folder: PathBuf) -> Self {
        Self { stalls, vm: record.id.clone(), name: record.name.clone(), folder }
    }

    /// Why it stands still, if it does.
    pub(super) fn now(&self) -> Option<Stall> {
        *self.stalls.watch(&self.vm).borrow()
    }

    /// Done when it stands still. Cancel-safe.
    pub(super) async fn begins(&self) -> Stall {
        let mut stalls = self.stalls.watch(&self.vm);
        let began = stalls.wait_for(Option::is_some).await.ok().and_then(|now| *now);
        match began {
            Some(stall) => stall,
            // No machine runs.
            None => std::future::pending().await,
        }
    }

    /// Work with the guest, ended as soon as the guest stands still: it would not answer.
    pub(super) async fn unless<T>(
        &self,
        work: impl Future<Output = PortResult<T>>,
    ) -> PortResult<T> {
        // What is dropped here is a connection to the guest.
        tokio::select! {
            biased;
            stall = self.begins() => Err(self.report(Kind::Conflict, stall)),
            done = work => done,
        }
    }

    /// Has it go on.
    pub(super) async fn end(&self) -> PortResult<()> {
        self.stalls.go_on(&self.vm).await?;
        // Both arms are cancel-safe.
        tokio::select! {
            biased;
            stall = self.begins() => Err(self.report(Kind::Failed, stall)),
            () = tokio::time::sleep(SETTLES) => Ok(()),
        }
    }

    /// That it stands still, and what to do.
    pub(super) fn report(&self, kind: Kind, stall: Stall) -> Report {
        let (name, folder) = (&self.name, self.folder.display());
        let message = format!("the VM `{name}` is stalled: {}", stall.reason());
        Report::new(kind, message).with_hint(match stall {
            Stall::NoRoom => format!(
                "make room on the file system of `{folder}`, then `cove start {name}`: its guest goes on \
                 where it stands"
            ),
            Stall::Failed => format!(
                "see in the host's kernel log what is wrong with the file system of `{folder}`, then \
                 `cove start {name}`: its guest goes on where it stands"
            ),
        })
    }
}

impl Shared {
    pub(super) fn stillness(&self, record: &VmRecord) -> Stillness {
        let folder = self.vms.join(record.id.as_str());
        Stillness::of(self.ports.stalls.clone(), record, folder)
    }

    /// Why a VM that runs stands still, if it does.
    pub(super) fn stall(&self, record: &VmRecord) -> Option<Stall> {
        let State::Running { .. } = record.state else {
            return None;
        };
        *self.ports.stalls.watch(&record.id).borrow()
    }

    /// A VM as clients see it.
    pub(super) fn shown(&self, record: &VmRecord) -> Vm {
        let stalled = self.stall(record).map(|stall| stall.reason().to_owned());
        let publish_failed = self.ports.forwards.failed(&record.id);
        Vm { stalled, publish_failed, ..record.view() }
    }
}

impl Owner {
    /// Done when the machine has come to stand still, or goes on, and nobody has been told. Cancel-safe.
    pub(super) fn stall_to_tell(&self) -> impl Future<Output = Option<Stall>> + use<> {
        let told = self.told_stall;
        let runs = matches!(self.record.state, State::Running { .. });
        let stalls = runs.then(|| self.shared.ports.stalls.watch(&self.record.id));
        async move { changed(stalls, told).await }
    }

    /// Tells that it has come to stand still, or goes on.
    pub(super) fn tell_stall(&mut self, now: Option<Stall>) {
        self.told_stall = now;
        let (vm, vm_name) = (self.record.id.clone(), self.record.name.clone());
        self.view.tell(match now {
            Some(stall) => {
                tracing::warn!(%vm, reason = stall.reason(), "stalled");
                Happening::VmStalled { vm, vm_name, reason: stall.reason().to_owned() }
            }
            None => Happening::VmWentOn { vm, vm_name },
        });
    }

    /// The start of a VM that runs and stands still: it goes on. When it does not it is as it was.
    pub(super) async fn go_on(&mut self, begin: Begin) {
        let operation = &begin.operation;
        let went_on = {
            let _stage = operation.stage("go on");
            let stillness = self.shared.stillness(&self.record);
            let mut interrupts = self.interrupts.clone();
            // Whatever is dropped here, the machine goes on or not, and shows it.
            let go_on = async {
                stillness.end().await?;
                self.set_clock(operation, &stillness).await;
                Ok(())
            };
            tokio::select! {
                went_on = go_on => went_on,
                () = operation.cancelled() => Err(cancelled("it was cancelled")),
                _ = interrupts.wait_for(|count| *count > 0) => {
                    Err(cancelled("the VM is being killed or deleted"))
                }
            }
        };
        match went_on {
            Ok(()) => {
                self.record.last_touched_at = super::now();
                self.publish().await.unwrap_or_else(|error| self.warn(&error));
                operation.end(OperationEnd::Done { vm: Box::new(self.shown()) });
            }
            Err(error) => {
                let error = error.in_operation(operation.id.clone());
                operation.end(OperationEnd::Failed { error, vm_kept: true, console_saved: None });
            }
        }
    }

    /// Sets the clock of a guest, which has stood still with it.
    async fn set_clock(&self, operation: &Running, stillness: &Stillness) {
        let boot = self.record.state.boot();
        let guest = boot.and_then(|boot| self.shared.ports.guest_of(&self.folder, boot));
        let Some(guest) = guest else { return };
        if let Err(error) = stillness.unless(guest.set_clock()).await {
            let error = error.one_line();
            operation
                .note(format!("the guest's clock is late by as long as it stood still: {error}"));
        }
    }

    /// The VM as clients see it.
    pub(super) fn shown(&self) -> Vm {
        self.shared.shown(&self.record)
    }
}

async fn changed(
    stalls: Option<watch::Receiver<Option<Stall>>>,
    told: Option<Stall>,
) -> Option<Stall> {
    // A machine that has ended neither stands still nor goes on; its end is told by itself.
    let open = stalls.filter(|stalls| stalls.has_changed().is_ok());
    if let Some(mut stalls) = open {
        let now = stalls.wait_for(|now| *now != told).await.ok().map(|now| *now);
        if let Some(now) = now {
            return now;
        }
    }
    std::future::pending().await
}
