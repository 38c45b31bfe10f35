//! Operations: long pieces of work with an id, stages, notes and an end.
//!
//! A client that goes away does not end an operation; only its own end or a cancel does. Ended
//! operations are kept for a while, so that a client that comes back can ask what became of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use crate::id::{OperationId, VmId, VmName};
use crate::report::{Kind, Report};
use crate::wire::rpc::{Happening, Operation, OperationEnd, Stage};

/// How long an operation is kept after its end.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// How many ended operations are kept at most; the oldest go first.
const KEPT_AT_MOST: usize = 1000;

/// The registry.
#[derive(Debug, Default)]
pub struct Operations {
    entries: Mutex<HashMap<OperationId, Entry>>,
    events: Events,
}

#[derive(Debug)]
struct Entry {
    state: watch::Sender<Operation>,
    cancel: CancellationToken,
    ended: Arc<Mutex<Option<Instant>>>,
    began: Instant,
}

/// The side of an operation that does the work. Clones are the same operation.
#[derive(Debug, Clone)]
pub struct Running {
    /// The operation's id.
    pub id: OperationId,
    state: watch::Sender<Operation>,
    cancel: CancellationToken,
    ended: Arc<Mutex<Option<Instant>>>,
    began: Instant,
    events: Events,
}

impl Operations {
    /// A registry that tells of its operations' beginnings and ends.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { entries: Mutex::default(), events }
    }

    /// Begins an operation on a VM.
    pub fn begin(&self, action: &str, vm: &VmId, vm_name: &VmName, now: String) -> Running {
        let operation = Operation {
            id: OperationId::random(),
            action: action.to_owned(),
            vm: vm.clone(),
            vm_name: vm_name.clone(),
            stages: Vec::new(),
            notes: Vec::new(),
            started_at: now,
            end: None,
        };
        let began = Happening::OperationBegan {
            operation: operation.id.clone(),
            action: action.to_owned(),
            vm: vm.clone(),
            vm_name: vm_name.clone(),
        };
        let running = Running {
            id: operation.id.clone(),
            state: watch::Sender::new(operation),
            cancel: CancellationToken::new(),
            ended: Arc::default(),
            began: Instant::now(),
            events: self.events.clone(),
        };
        let entry = Entry {
            state: running.state.clone(),
            cancel: running.cancel.clone(),
            ended: running.ended.clone(),
            began: running.began,
        };
        let mut entries = self.entries.lock().expect("no panic under the lock");
        prune(&mut entries);
        entries.insert(running.id.clone(), entry);
        drop(entries);
        self.events.publish(began);
        running
    }

    /// The operation's state, and its changes.
    ///
    /// # Errors
    /// When there is no such operation (any more).
    pub fn watch(&self, id: &OperationId) -> Result<watch::Receiver<Operation>, Report> {
        let entries = self.entries.lock().expect("no panic under the lock");
        entries.get(id).map(|entry| entry.state.subscribe()).ok_or_else(|| unknown(id))
    }

    /// Cancels an operation. One that has ended stays as it ended.
    ///
    /// # Errors
    /// When there is no such operation (any more).
    pub fn cancel(&self, id: &OperationId) -> Result<watch::Receiver<Operation>, Report> {
        let entries = self.entries.lock().expect("no panic under the lock");
        let entry = entries.get(id).ok_or_else(|| unknown(id))?;
        entry.cancel.cancel();
        Ok(entry.state.subscribe())
    }

    /// All operations that are kept, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Operation> {
        let mut entries = self.entries.lock().expect("no panic under the lock");
        prune(&mut entries);
        let mut list: Vec<_> =
            entries.values().map(|entry| (entry.began, entry.state.borrow().clone())).collect();
        list.sort_by_key(|(began, _)| *began);
        list.into_iter().map(|(_, operation)| operation).collect()
    }
}

fn unknown(id: &OperationId) -> Report {
    Report::new(Kind::NotFound, format!("there is no operation `{id}`"))
        .with_hint("operations are kept for an hour after their end; `cove op list` shows them")
}

fn prune(entries: &mut HashMap<OperationId, Entry>) {
    let ended = |entry: &Entry| *entry.ended.lock().expect("no panic under the lock");
    entries.retain(|_, entry| ended(entry).is_none_or(|at| at.elapsed() < KEPT_FOR));
    let mut old: Vec<_> =
        entries.iter().filter_map(|(id, entry)| Some((ended(entry)?, id.clone()))).collect();
    if old.len() > KEPT_AT_MOST {
        old.sort_by_key(|(at, _)| *at);
        for (_, id) in &old[..old.len() - KEPT_AT_MOST] {
            entries.remove(id);
        }
    }
}

/// Waits for the end of an operation. Cancel-safe.
///
/// # Errors
/// When whoever did the work is gone without an end, which is a defect.
pub async fn ended(mut state: watch::Receiver<Operation>) -> Result<Operation, Report> {
    match state.wait_for(|operation| operation.end.is_some()).await {
        Ok(operation) => Ok(operation.clone()),
        Err(_) => Err(Report::new(Kind::Failed, "the operation was given up")),
    }
}

impl Running {
    /// Begins a stage, which lasts until the returned value is dropped.
    #[must_use]
    pub fn stage(&self, name: &'static str) -> StageGuard {
        let began = self.elapsed_us();
        self.state.send_modify(|operation| {
            operation.stages.push(Stage { name: name.to_owned(), began_us: began, took_us: None });
        });
        StageGuard { running: self.clone(), name }
    }

    /// Writes down a stage that has just ended and took so long.
    pub fn past_stage(&self, name: String, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let began_us = self.elapsed_us().saturating_sub(took_us);
        self.state.send_modify(|operation| {
            operation.stages.push(Stage { name, began_us, took_us: Some(took_us) });
        });
    }

    /// Where what happens in it is told.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// The span of everything that is done for it: its id is on every line of the log in between.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!("operation", id = %self.id)
    }

    /// Tells the user something.
    pub fn note(&self, note: impl Into<String>) {
        let note = note.into();
        tracing::info!(operation = %self.id, note);
        self.state.send_modify(|operation| operation.notes.push(note));
    }

    /// Done when somebody cancels the operation. Cancel-safe.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether somebody has cancelled it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.borrow().end.is_some()
    }

    /// Ends it.
    pub fn end(&self, end: OperationEnd) {
        match &end {
            OperationEnd::Done { vm } => tracing::info!(operation = %self.id, vm = %vm.id, "done"),
            OperationEnd::Failed { error, .. } => {
                tracing::warn!(operation = %self.id, error = error.one_line(), "failed");
            }
        }
        *self.ended.lock().expect("no panic under the lock") = Some(Instant::now());
        let failure = match &end {
            OperationEnd::Done { .. } => None,
            OperationEnd::Failed { error, .. } => Some(error.clone()),
        };
        self.state.send_modify(|operation| operation.end = Some(end));
        let Operation { id, action, vm, vm_name, .. } = self.state.borrow().clone();
        self.events.publish(Happening::OperationEnded {
            operation: id,
            action,
            vm,
            vm_name,
            failure,
        });
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A stage that is under way.
#[derive(Debug)]
pub struct StageGuard {
    running: Running,
    name: &'static str,
}

impl Drop for StageGuard {
    fn drop(&mut self) {
        let now = self.running.elapsed_us();
        self.running.state.send_modify(|operation| {
            let open = operation.stages.iter_mut().rev();
            let mut open = open.filter(|stage| stage.name == self.name && stage.took_us.is_none());
            if let Some(stage) = open.next() {
                stage.took_us = Some(now.saturating_sub(stage.began_us));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(operations: &Operations) -> Running {
        let name = "web".parse().expect("valid");
        operations.begin("create", &VmId::random(), &name, "2026-01-01T00:00:00Z".to_owned())
    }

    fn failed() -> OperationEnd {
        let error = Report::new(Kind::Failed, "no luck");
        OperationEnd::Failed { error, vm_kept: false, console_saved: None }
    }

    #[tokio::test]
    async fn stages_overlap_and_each_has_its_time() {
        let operations = Operations::default();
        let running = begin(&operations);
        let boot = running.stage("boot");
        drop(running.stage("hooks"));
        let seen = operations.watch(&running.id).expect("there").borrow().clone();
        assert_eq!(
            seen.stages.iter().map(|s| s.took_us.is_some()).collect::<Vec<_>>(),
            [false, true]
        );
        drop(boot);
        running.end(failed());
        let ended = ended(operations.watch(&running.id).expect("there")).await.expect("ended");
        assert!(ended.stages.iter().all(|stage| stage.took_us.is_some()));
        assert_eq!(ended.end.and_then(|end| end.failure()), Some(Kind::Failed));
    }

    #[test]
    fn ended_operations_are_kept_up_to_a_bound() {
        let operations = Operations::default();
        let alive = begin(&operations);
        for _ in 0..KEPT_AT_MOST + 5 {
            begin(&operations).end(failed());
        }
        let list = operations.list();
        assert_eq!(list.len(), KEPT_AT_MOST + 1);
        assert_eq!(list[0].id, alive.id, "one that runs is never pruned");
    }

    #[test]
    fn an_unknown_operation_is_not_found() {
        let error = Operations::default().watch(&OperationId::random()).expect_err("unknown");
        assert_eq!(error.kind, Kind::NotFound);
    }
}
