//! The owner of one VM: the only task that changes it.
//!
//! Commands queue up and run in order; different VMs never wait for each other. A kill or a delete does
//! not wait for what runs: its `Interrupt` ends a start or a graceful stop, and then it takes its place
//! in the queue. Everybody else sees the VM through a `watch`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::command::{Answer, Begin, Command, Doom, Doomed, Launch, Unexported};
use super::events::View;
use super::hooks::cleanup;
use super::idle::OwnUsage;
use super::ports::{PortResult, Ports, Processes, Stall};
use super::record::VmRecord;
use super::release::{Extent, release};
use super::start::{Start, StartDeadlines, StartFailure};
use super::state::{Boot, Event, State};
use super::still::DiskLock;
use crate::process::ProcessId;
use crate::report::{Kind, Report};
use crate::wire::rpc::{Deleted, OperationEnd};

/// How many commands may wait for one VM; more is a client gone wild, which then waits itself.
pub(super) const QUEUE: usize = 64;

/// How long it takes until a monitor that could not be watched is watched again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// What all owners share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) ports: Ports,
    pub(super) start: StartDeadlines,
    pub(super) stop: Duration,
    /// The folder of the VMs' folders.
    pub(super) vms: PathBuf,
    pub(super) consoles: PathBuf,
    pub(super) host_memory_mib: u64,
}

/// One VM's owner.
pub(super) struct Owner {
    pub(super) shared: Shared,
    pub(super) folder: PathBuf,
    pub(super) record: VmRecord,
    pub(super) view: View,
    /// Why it stands still, as it was told last.
    pub(super) told_stall: Option<Stall>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) interrupts: watch::Receiver<u32>,
    /// How its use is told.
    pub(super) usage: OwnUsage,
    /// Held while it comes to run or goes.
    pub(super) disk: DiskLock,
    /// Since when this daemon has it.
    pub(super) adopted: Instant,
    pub(super) shutdown: CancellationToken,
    /// Takes the VM out of the service's sight.
    pub(super) forget: Box<dyn Fn() + Send + Sync>,
}

/// Whose start it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Its maker's: the VM is removed when it fails.
    Makers,
    /// Anybody's: the VM goes back to what it was.
    Anybodys,
}

/// Whether the VM is still there.
#[derive(PartialEq, Eq)]
pub(super) enum Life {
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
            let idle = self.until_idle();
            let stall = self.stall_to_tell();
            // All arms are cancel-safe: a command is taken or not, readiness is not consumed.
            let life = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => Life::Over,
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => Life::Over,
                },
                () = idle => {
                    self.stop_idle().await;
                    Life::Goes
                }
                now = stall => {
                    self.tell_stall(now);
                    Life::Goes
                }
                () = ended => {
                    let cause = "its monitor ended without being asked to".to_owned();
                    self.settle(Some(cause)).await.unwrap_or_else(|error| self.warn(&error));
                    Life::Goes
                }
            };
            if life == Life::Over {
                return;
            }
            if self.record.state.boot().is_none() {
                self.told_stall = None;
            }
        }
    }

    async fn handle(&mut self, command: Command) -> Life {
        match command {
            Command::Make { begin, start } => {
                let span = begin.operation.span();
                return self.make(begin, start).instrument(span).await;
            }
            Command::Launch { begin, how } => {
                let span = begin.operation.span();
                self.launch(begin, how).instrument(span).await;
            }
            Command::Stop { answer } => reply(answer, self.stop(None, None).await),
            Command::Set { wanted, answer } => reply(answer, self.set(&wanted).await),
            Command::Reach { change, answer } => reply(answer, self.reach(change).await),
            Command::Kill { answer, signal, interrupt: _interrupt } => {
                reply(answer, self.kill(signal).await);
            }
            Command::Delete { answer, doom, interrupt: _interrupt } => {
                let deleted = match self.check_doomed(doom).await {
                    Ok(()) => self.delete().await,
                    Err(error) => Err(error),
                };
                let life = if deleted.is_ok() { Life::Over } else { Life::Goes };
                reply(answer, deleted);
                return life;
            }
            Command::Prepared { workspace, answer } => {
                reply(answer, self.prepared(workspace).await);
            }
            Command::Touch { answer } => {
                self.record.last_touched_at = super::now();
                let touched = self.publish().await;
                match answer {
                    Some(answer) => reply(answer, touched.map(|()| self.shown())),
                    None => touched.unwrap_or_else(|error| self.warn(&error)),
                }
            }
        }
        Life::Goes
    }

    async fn launch(&mut self, begin: Begin, how: Launch) {
        match how {
            Launch::Start if self.shared.stall(&self.record).is_some() => self.go_on(begin).await,
            Launch::Start => self.start(begin).await,
            Launch::Restart => self.restart(begin).await,
        }
    }

    pub(super) async fn start(&mut self, begin: Begin) {
        let operation = begin.operation.clone();
        let (error, vm_kept) = match self.try_start(&begin, Whose::Anybodys).await {
            Ok(()) => return,
            Err(StartFailure::Undo(error)) => (error, true),
            Err(StartFailure::Guest(error)) => (self.with_logs_hint(error), true),
        };
        let error = error.in_operation(operation.id.clone());
        operation.end(OperationEnd::Failed { error, vm_kept, console_saved: None });
    }

    /// Starts and ends the operation when that succeeds. A failure has been released, and the state
    /// says what the VM is now.
    pub(super) async fn try_start(
        &mut self,
        begin: &Begin,
        whose: Whose,
    ) -> Result<(), StartFailure> {
        let operation = &begin.operation;
        let id = operation.id.clone();
        {
            // From then on its state says that it is not at rest.
            let _unread = self.disk.take(&self.record.name).await?;
            self.change(match whose {
                Whose::Makers => Event::FirstStart { operation: id },
                Whose::Anybodys => Event::Start { operation: id },
            })
            .await?;
        }
        match self.run_start(begin, whose).await {
            Ok(boot) => match self.started(begin, boot).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.start_failed(error.into()).await),
            },
            Err(failure) => Err(self.start_failed(failure).await),
        }
    }

    /// Runs the start until its end, a cancel, or a kill or delete of the VM.
    async fn run_start(&self, begin: &Begin, whose: Whose) -> Result<Boot, StartFailure> {
        let operation = &begin.operation;
        // What an earlier boot could not release would otherwise be written over by this one's rows.
        release(&self.shared.ports, &self.record.id, &self.folder, Extent::Boot).await?;
        let start = Start {
            ports: &self.shared.ports,
            record: &self.record,
            whose,
            folder: self.folder.clone(),
            deadlines: self.shared.start,
            operation,
            client: &begin.client,
            checkout: begin.checkout.clone(),
        };
        let mut interrupts = self.interrupts.clone();
        // Dropping the start leaves what the ledger names, which its caller releases.
        tokio::select! {
            started = start.run() => started,
            () = operation.cancelled() => Err(StartFailure::Undo(cancelled("it was cancelled"))),
            _ = interrupts.wait_for(|count| *count > 0) => {
                Err(StartFailure::Undo(cancelled("the VM is being killed or deleted")))
            }
        }
    }

    /// Writes down what has started. Until that is done nothing has: a row that does not name the boot
    /// would have it torn down by the next daemon.
    async fn started(&mut self, begin: &Begin, boot: Boot) -> PortResult<()> {
        let before = self.record.clone();
        self.record.started_at = Some(super::now());
        self.record.last_touched_at = super::now();
        if let Some(checkout) = &begin.checkout {
            self.record.workspace = Some(checkout.record());
        }
        if let Err(error) = self.change(Event::Started { boot: Box::new(boot) }).await {
            self.record = before;
            return Err(error);
        }
        self.serve_ports();
        begin.operation.end(OperationEnd::Done { vm: Box::new(self.shown()) });
        Ok(())
    }

    async fn start_failed(&mut self, mut failure: StartFailure) -> StartFailure {
        self.close_ports();
        let ports = &self.shared.ports;
        let released = release(ports, &self.record.id, &self.folder, Extent::Boot).await;
        let kept = match &failure {
            StartFailure::Guest(error) => Some(error.one_line()),
            StartFailure::Undo(_) => None,
        };
        let changed = self.happened(Event::StartFailed { kept }).await;
        let (StartFailure::Undo(report) | StartFailure::Guest(report)) = &mut failure;
        for error in [released, changed].into_iter().filter_map(Result::err) {
            self.warn(&error);
            report.cause.push(error.one_line());
        }
        failure
    }

    pub(super) fn with_logs_hint(&self, error: Report) -> Report {
        let name = &self.record.name;
        error.with_hint(format!(
            "the VM is kept: `cove logs {name}` shows its console, `cove delete {name}` removes it"
        ))
    }

    async fn check_doomed(&self, doom: Doom) -> Result<(), Report> {
        match (doom.which, self.record.state.check_start()) {
            (Doomed::Any, _) | (Doomed::AtRest, Ok(())) => {}
            (Doomed::AtRest, Err(wrong)) => {
                let (name, is) = (&self.record.name, wrong.is);
                let message = format!("`{name}` is {is}, and only VMs at rest were to be deleted");
                return Err(Report::new(Kind::Conflict, message));
            }
        }
        match doom.work {
            Unexported::Discard => Ok(()),
            Unexported::Keep => self.check_work().await,
        }
    }

    /// Deletes the VM. That it is to go is written down before anything of it goes, so that a daemon
    /// that comes back finishes it instead of showing half a VM. One whose disk is read stays: the reader
    /// and the disk would outlive their row.
    pub(super) async fn delete(&mut self) -> Result<Deleted, Report> {
        let _unread = self.disk.take(&self.record.name).await?;
        self.happened(Event::Delete).await.unwrap_or_else(|error| self.warn(&error));
        self.close_ports();
        let ports = &self.shared.ports;
        release(ports, &self.record.id, &self.folder, Extent::All).await?;
        cleanup(ports, &self.record, self.view.events()).await;
        ports.rows.remove(&self.record.id).await?;
        // Before anybody hears of it: the name is free as soon as they do.
        (self.forget)();
        let (id, name) = (self.record.id.clone(), self.record.name.clone());
        Ok(Deleted { id, name, console_saved: None })
    }

    /// Applies an event that is still to be acted on: when its row cannot be written it does not happen.
    pub(super) async fn change(&mut self, event: Event) -> PortResult<()> {
        let mut next = self.record.clone();
        next.state = after(next.state, event)?;
        self.replace(next).await
    }

    /// Makes this the VM's record. When its row cannot be written nothing has changed.
    pub(super) async fn replace(&mut self, next: VmRecord) -> PortResult<()> {
        self.shared.ports.rows.update(&next).await?;
        self.record = next;
        self.view.send_replace(self.record.clone());
        Ok(())
    }

    /// Applies an event that has happened already, whether its row can be written or not: recovery
    /// comes to the same from the old row and the host.
    pub(super) async fn happened(&mut self, event: Event) -> PortResult<()> {
        self.record.state = after(self.record.state.clone(), event)?;
        self.publish().await
    }

    pub(super) async fn publish(&mut self) -> PortResult<()> {
        self.view.send_replace(self.record.clone());
        self.shared.ports.rows.update(&self.record).await
    }

    pub(super) fn warn(&self, error: &Report) {
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

fn after(state: State, event: Event) -> PortResult<State> {
    state.after(event).map_err(|error| Report::new(Kind::Conflict, error.to_string()))
}

pub(super) fn cancelled(why: &str) -> Report {
    Report::new(Kind::Cancelled, format!("the start was given up: {why}"))
}

/// Somebody who has gone away does not need the answer.
fn reply<T>(answer: Answer<T>, value: Result<T, Report>) {
    answer.send(value).ok();
}
