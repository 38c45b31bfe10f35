//! The owner of one VM: the only task that changes it.
//!
//! Commands queue up and run in order; different VMs never wait for each other. A kill or a delete does
//! not wait for what runs: it counts itself in `interrupts` first, which ends a start or a graceful
//! stop, and then takes its place in the queue. Everybody else sees the VM through a `watch`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::operation::Running;
use super::ports::{Checkout, PortResult, Ports, Processes};
use super::record::VmRecord;
use super::release::{Extent, release};
use super::start::{Start, StartDeadlines, StartFailure};
use super::state::{Event, State};
use crate::process::ProcessId;
use crate::report::{Kind, Report};
use crate::wire::rpc::{ClientContext, Deleted, OperationEnd, Vm};

/// How many commands may wait for one VM; more is a client gone wild, which then waits itself.
pub(super) const QUEUE: usize = 64;

/// How long it takes until a monitor that could not be watched is watched again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// What is asked of a VM.
pub(super) enum Command {
    /// Make its disks, and start it unless told otherwise. The VM is removed when this fails.
    Make { begin: Begin, start: bool },
    /// Start it.
    Start { begin: Begin },
    /// Stop it gracefully.
    Stop { answer: Answer<Vm> },
    /// End its monitor at once. Counted in `interrupts`.
    Kill { answer: Answer<Vm> },
    /// Remove it with all it has. Counted in `interrupts`.
    Delete { answer: Answer<Deleted> },
    /// Somebody used it.
    Touch,
}

/// What a start is begun with.
pub(super) struct Begin {
    pub(super) operation: Running,
    pub(super) client: ClientContext,
    pub(super) checkout: Option<Arc<dyn Checkout>>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, Report>>;

/// What all owners share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) ports: Ports,
    pub(super) start: StartDeadlines,
    pub(super) stop: Duration,
    pub(super) consoles: PathBuf,
}

/// One VM's owner.
pub(super) struct Owner {
    pub(super) shared: Shared,
    pub(super) folder: PathBuf,
    pub(super) record: VmRecord,
    pub(super) view: watch::Sender<VmRecord>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) interrupts: watch::Receiver<u32>,
    pub(super) handled: watch::Sender<u32>,
    pub(super) shutdown: CancellationToken,
}

/// Whether the VM is still there.
#[derive(PartialEq, Eq)]
enum Life {
    Goes,
    Over,
}

impl Owner {
    /// Runs until the VM is deleted or the daemon ends, which waits for the command under way.
    pub(super) async fn run(mut self) {
        loop {
            let monitor = self.record.state.boot().map(|boot| boot.monitor);
            let processes = self.shared.ports.processes.clone();
            let ended = async move {
                match monitor {
                    Some(monitor) => until_ended(&*processes, monitor).await,
                    None => std::future::pending().await,
                }
            };
            // All arms are cancel-safe: a command is taken or not, readiness is not consumed.
            let life = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => Life::Over,
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => Life::Over,
                },
                () = ended => {
                    let cause = "its monitor ended without being asked to".to_owned();
                    self.settle(Some(cause)).await.unwrap_or_else(|error| self.warn(&error));
                    Life::Goes
                }
            };
            if life == Life::Over {
                return;
            }
        }
    }

    async fn handle(&mut self, command: Command) -> Life {
        match command {
            Command::Make { begin, start } => return self.make(begin, start).await,
            Command::Start { begin } => self.start(begin).await,
            Command::Stop { answer } => reply(answer, self.stop().await),
            Command::Kill { answer } => {
                self.count_handled();
                let killed = self.settle(None).await;
                reply(answer, killed.map(|()| self.record.view()));
            }
            Command::Delete { answer } => {
                self.count_handled();
                let deleted = self.delete().await;
                let life = if deleted.is_ok() { Life::Over } else { Life::Goes };
                reply(answer, deleted);
                return life;
            }
            Command::Touch => {
                self.record.last_touched_at = super::now();
                self.publish().await.unwrap_or_else(|error| self.warn(&error));
            }
        }
        Life::Goes
    }

    async fn make(&mut self, begin: Begin, start: bool) -> Life {
        let operation = begin.operation.clone();
        let made = {
            let _stage = operation.stage("disks");
            let spec = &self.record.spec;
            self.shared.ports.disks.make(&self.folder, spec.disk_bytes, spec.root_disk_bytes).await
        };
        let failure = match made {
            Err(error) => error,
            Ok(()) if !start => {
                operation.end(OperationEnd::Done { vm: Box::new(self.record.view()) });
                return Life::Goes;
            }
            Ok(()) => match self.try_start(&begin).await {
                Ok(()) => return Life::Goes,
                Err(StartFailure::Guest(error)) => {
                    return self.keep_or_save(&operation, error).await;
                }
                Err(StartFailure::Undo(error)) => error,
            },
        };
        self.undo_make(&operation, failure).await
    }

    /// Removes a VM whose making failed.
    async fn undo_make(&mut self, operation: &Running, mut error: Report) -> Life {
        let removed = self.delete().await;
        let vm_kept = removed.is_err();
        if let Err(left) = removed {
            error.cause.push(left.one_line());
        }
        let error = error.in_operation(operation.id.clone());
        operation.end(OperationEnd::Failed { error, vm_kept, console_saved: None });
        if vm_kept { Life::Goes } else { Life::Over }
    }

    async fn start(&mut self, begin: Begin) {
        let operation = begin.operation.clone();
        let (error, vm_kept) = match self.try_start(&begin).await {
            Ok(()) => return,
            Err(StartFailure::Undo(error)) => (error, true),
            Err(StartFailure::Guest(error)) => (self.with_logs_hint(error), true),
        };
        let error = error.in_operation(operation.id.clone());
        operation.end(OperationEnd::Failed { error, vm_kept, console_saved: None });
    }

    /// Starts and ends the operation when that succeeds. A failure has been released, and the state
    /// says what the VM is now.
    async fn try_start(&mut self, begin: &Begin) -> Result<(), StartFailure> {
        let operation = &begin.operation;
        self.change(Event::Start { operation: operation.id.clone() }).await?;
        let start = Start {
            ports: &self.shared.ports,
            record: &self.record,
            folder: self.folder.clone(),
            deadlines: self.shared.start,
            operation,
            client: &begin.client,
            checkout: begin.checkout.clone(),
        };
        let mut interrupts = self.interrupts.clone();
        let handled = *self.handled.borrow();
        // Dropping the start leaves what the ledger names, which is released below.
        let started = tokio::select! {
            started = start.run() => started,
            () = operation.cancelled() => Err(StartFailure::Undo(cancelled("it was cancelled"))),
            _ = interrupts.wait_for(|count| *count > handled) => {
                Err(StartFailure::Undo(cancelled("the VM is being killed or deleted")))
            }
        };
        match started {
            Ok(boot) => {
                self.record.started_at = Some(super::now());
                self.record.last_touched_at = super::now();
                if let Some(checkout) = &begin.checkout {
                    self.record.workspace = Some(checkout.record());
                }
                self.change(Event::Started { boot }).await?;
                operation.end(OperationEnd::Done { vm: Box::new(self.record.view()) });
                Ok(())
            }
            Err(failure) => Err(self.start_failed(failure).await),
        }
    }

    async fn start_failed(&mut self, failure: StartFailure) -> StartFailure {
        let ports = &self.shared.ports;
        let released = release(ports, &self.record.id, &self.folder, Extent::Boot).await;
        let kept = match &failure {
            StartFailure::Guest(error) => Some(error.one_line()),
            StartFailure::Undo(_) => None,
        };
        let changed = self.change(Event::StartFailed { kept }).await;
        for error in [released, changed].into_iter().filter_map(Result::err) {
            self.warn(&error);
        }
        failure
    }

    /// A new VM whose guest never became reachable is kept, or under a lease its console is saved and
    /// it is removed.
    async fn keep_or_save(&mut self, operation: &Running, error: Report) -> Life {
        if !self.record.leased {
            let error = self.with_logs_hint(error).in_operation(operation.id.clone());
            operation.end(OperationEnd::Failed { error, vm_kept: true, console_saved: None });
            return Life::Goes;
        }
        let saved = self.save_console().await;
        let deleted = self.delete().await;
        let mut error = error.in_operation(operation.id.clone());
        for failure in [saved.as_ref().err(), deleted.as_ref().err()].into_iter().flatten() {
            error.cause.push(failure.one_line());
        }
        let vm_kept = deleted.is_err();
        operation.end(OperationEnd::Failed { error, vm_kept, console_saved: saved.ok() });
        if vm_kept { Life::Goes } else { Life::Over }
    }

    fn with_logs_hint(&self, error: Report) -> Report {
        let name = &self.record.name;
        error.with_hint(format!(
            "the VM is kept: `cove logs {name}` shows its console, `cove delete {name}` removes it"
        ))
    }

    async fn save_console(&self) -> PortResult<String> {
        let (bytes, _, _) = self.shared.ports.machines.console(&self.folder, None)?;
        let file = format!("{}-{}.log", self.record.name, self.record.id);
        let path = self.shared.consoles.join(file);
        let failed = |error: std::io::Error| {
            Report::new(Kind::Failed, format!("cannot save the console to `{}`", path.display()))
                .with_cause(&error)
        };
        tokio::fs::create_dir_all(&self.shared.consoles).await.map_err(failed)?;
        tokio::fs::write(&path, bytes).await.map_err(failed)?;
        Ok(path.display().to_string())
    }

    async fn stop(&mut self) -> Result<Vm, Report> {
        if !matches!(self.record.state, State::Running { .. }) {
            return match self.record.state {
                State::Stopped { .. } | State::Created | State::Error { .. } => {
                    Ok(self.record.view())
                }
                State::Starting { .. } | State::Running { .. } | State::Stopping { .. } => {
                    Err(Report::new(Kind::Conflict, "the VM is between two states"))
                }
            };
        }
        self.change(Event::Stop).await?;
        let Some(boot) = self.record.state.boot().cloned() else {
            return Ok(self.record.view());
        };
        let processes = self.shared.ports.processes.clone();
        let guest = self.shared.ports.guest_of(&self.folder, &boot);
        let graceful = async {
            if let Some(guest) = guest
                && let Err(error) = guest.power_off().await
            {
                tracing::warn!(vm = %self.record.id, error = error.one_line(), "no graceful stop");
                return;
            }
            processes.ended(boot.monitor).await.ok();
        };
        let mut interrupts = self.interrupts.clone();
        let handled = *self.handled.borrow();
        // Whatever is dropped here, the monitor is killed below if it still lives.
        tokio::select! {
            () = graceful => {}
            () = tokio::time::sleep(self.shared.stop) => {
                tracing::warn!(vm = %self.record.id, "the guest did not power off in time");
            }
            _ = interrupts.wait_for(|count| *count > handled) => {}
        }
        self.settle(None).await?;
        Ok(self.record.view())
    }

    /// Releases what a boot has and says that it ended.
    async fn settle(&mut self, cause: Option<String>) -> PortResult<()> {
        let ports = &self.shared.ports;
        let released = release(ports, &self.record.id, &self.folder, Extent::Boot).await;
        let changed = self.change(Event::Ended { cause }).await;
        released.and(changed)
    }

    async fn delete(&mut self) -> Result<Deleted, Report> {
        let ports = &self.shared.ports;
        release(ports, &self.record.id, &self.folder, Extent::All).await?;
        ports.rows.remove(&self.record.id).await?;
        let (id, name) = (self.record.id.clone(), self.record.name.clone());
        Ok(Deleted { id, name, console_saved: None })
    }

    /// Applies an event, writes the row, shows the new state.
    async fn change(&mut self, event: Event) -> PortResult<()> {
        let state = self
            .record
            .state
            .clone()
            .after(event)
            .map_err(|error| Report::new(Kind::Conflict, error.to_string()))?;
        self.record.state = state;
        self.publish().await
    }

    async fn publish(&mut self) -> PortResult<()> {
        self.view.send_replace(self.record.clone());
        self.shared.ports.rows.update(&self.record).await
    }

    fn count_handled(&self) {
        self.handled.send_modify(|count| *count += 1);
    }

    fn warn(&self, error: &Report) {
        tracing::warn!(vm = %self.record.id, error = error.one_line());
    }
}

/// Waits for the end of a monitor. That it cannot be watched right now (no descriptors left) does not mean
/// that it has ended: it is asked again, because what follows its end is tear-down.
async fn until_ended(processes: &dyn Processes, monitor: ProcessId) {
    while let Err(error) = processes.ended(monitor).await {
        tracing::warn!(pid = monitor.pid, error = error.one_line(), "cannot watch a monitor");
        tokio::time::sleep(WATCH_RETRY).await;
    }
}

fn cancelled(why: &str) -> Report {
    Report::new(Kind::Cancelled, format!("the start was given up: {why}"))
}

/// Somebody who has gone away does not need the answer.
fn reply<T>(answer: Answer<T>, value: Result<T, Report>) {
    answer.send(value).ok();
}
