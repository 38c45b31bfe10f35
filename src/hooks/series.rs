//! Hooks of one phase, one after the other on one thread: handing each to a thread of its own would take
//! longer than running it.
//!
//! ```text
//!   this task ──runs──▶ thread: first, second, third …
//!       ▲                  │ each as it ends
//!       └──────────────────┘ one that does not end in time is left behind with its thread,
//!                            and what comes after it goes to another
//! ```
//!
//! Each thread has one of the places for hooks that run at once, and one that is left behind keeps it: the
//! hook that hangs there keeps its slot in the engine's pool, too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::failure::Failure;
use super::limits;
use super::outcome::Weight;
use super::run::{CancelOnDrop, Ended, Run};
use crate::wire::rpc::HookPoint;

/// What is still to run. The thread takes from it, so that nothing is lost with a thread that hangs.
type Waiting = Arc<Mutex<VecDeque<Run>>>;

/// Hooks that run one after the other.
pub(super) struct Series {
    pub(super) point: HookPoint,
    /// When all of them together must have ended.
    pub(super) deadline: Instant,
    /// The places for hooks that run at once.
    pub(super) turns: Arc<Semaphore>,
}

impl Series {
    /// Runs them, up to the first that fails and must not. Returns as many as have run.
    pub(super) async fn run(&self, runs: Vec<(Weight, Run)>) -> Vec<Ended> {
        let weights: Vec<_> = runs.iter().map(|(weight, run)| (*weight, run.wall)).collect();
        let waiting = Waiting::new(Mutex::new(runs.into_iter().map(|(_, run)| run).collect()));
        let mut ended: Vec<Ended> = Vec::new();
        while ended.len() < weights.len() && !is_over(&weights, &ended) {
            let place = Arc::clone(&self.turns).acquire_owned();
            match tokio::time::timeout_at(self.deadline, place).await {
                Ok(Ok(place)) => {
                    self.on_one_thread(place, &waiting, &weights, &mut ended).await;
                }
                Ok(Err(_)) | Err(_) => {
                    drop(next(&waiting));
                    ended.push(Ended::without_a_word(Failure::Phase(limits::phase(self.point))));
                }
            }
        }
        ended
    }

    /// Runs what waits on one thread, for as long as that goes well.
    async fn on_one_thread(
        &self,
        place: OwnedSemaphorePermit,
        waiting: &Waiting,
        weights: &[(Weight, Duration)],
        ended: &mut Vec<Ended>,
    ) {
        let (sender, mut receiver) = mpsc::channel(weights.len());
        let cancelled = CancelOnDrop::default();
        let (cancel, waiting) = (cancelled.cancel(), Arc::clone(waiting));
        let (point, deadline) = (self.point, self.deadline);
        let runtime = tokio::runtime::Handle::current();
        let required = weights[ended.len()..].iter();
        let required: Vec<_> = required.map(|(weight, _)| *weight == Weight::Required).collect();
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            for required in required {
                let Some(mut run) = next(&waiting) else {
                    return;
                };
                let began = Instant::now();
                let left = deadline.saturating_duration_since(began);
                let mut one = if left.is_zero() {
                    Ended::without_a_word(Failure::Phase(limits::phase(point)))
                } else {
                    run.wall = run.wall.min(left);
                    runtime.block_on(run.call(cancel.clone()))
                };
                one.used.wall = began.elapsed();
                let stop = required && one.result.is_err();
                // There is room for all; and when nobody listens any more, this is over.
                if sender.try_send(one).is_err() || stop {
                    return;
                }
            }
        });
        for (_, wall) in &weights[ended.len()..] {
            match tokio::time::timeout(*wall + limits::WALL_GRACE, receiver.recv()).await {
                Ok(Some(one)) => ended.push(one),
                Ok(None) => break,
                // It hangs in a host function, on a file system that does not answer.
                Err(_) => return ended.push(Ended::without_a_word(Failure::Wall(*wall))),
            }
            if is_over(weights, ended) {
                return;
            }
        }
        if let Err(panic) = work.await {
            let failure = Failure::Trapped(format!("in cove itself: {panic}"));
            ended.push(Ended::without_a_word(failure));
        }
    }
}

/// The next one that waits.
fn next(waiting: &Waiting) -> Option<Run> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// Whether the last one failed and must not.
fn is_over(weights: &[(Weight, Duration)], ended: &[Ended]) -> bool {
    let last = ended.last().zip(weights.get(ended.len().wrapping_sub(1)));
    last.is_some_and(|(one, (weight, _))| one.result.is_err() && *weight == Weight::Required)
}
