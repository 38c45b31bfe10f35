//! Named, tracked tasks, drained with a grace period.
//!
//! The only place that spawns: every task has a name in the log, counts until it ends, and hears of
//! shutdown through a token.

use std::future::{self, Future};
use std::panic::resume_unwind;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Does work that blocks, such as work on files, beside the async threads. It goes on to its end also when nobody waits
/// for it any more: a lock that it needs goes into it. When it panics, so does who waits.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The program ends, and everybody who waits with it.
            Err(_) => future::pending().await,
        },
    }
}

/// The tasks of one program. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// Starts a task under `name`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let task = task.instrument(tracing::info_span!("task", name));
        tokio::spawn(self.tracker.track_future(task))
    }

    /// Starts a task that may be dropped wherever it is when the program is to end: one that only moves
    /// bytes or waits, and leaves nothing half done.
    pub fn spawn_until_shutdown(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let shutdown = self.shutdown();
        self.spawn(name, async move {
            // Dropping the task is what its caller agreed to.
            tokio::select! {
                () = task => {}
                () = shutdown.cancelled() => {}
            }
        })
    }

    /// Cancelled when the program is to end.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Tells every task to end and waits for them, at most `grace`. Returns how many were left.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.shutdown.cancel();
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}
