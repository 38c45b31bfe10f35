//! One run of one hook: a fresh store, the handles, the call, and what came of it.
//!
//! It happens on a thread for blocking work: host functions list folders and open files, and the
//! processor time of the thread is the plugin's. Nothing it does is seen by anybody before it has
//! returned, so a run that is given up leaves nothing behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::Trap;
use wasmtime::component::Resource;
use wasmtime_wasi::I32Exit;

use super::bindings::WorkDiskPluginPre;
use super::engine::Clock;
use super::error::Failure;
use super::handles::{GitConfig, HostFiles, Settings, WorkDisk};
use super::limits;
use super::log::{LogLevel, LogLine, shortened};
use super::manifest::Limits;
use super::needs::Rights;
use super::source::HostFilesSource;
use super::staging::Stage;
use super::state::{State, store};
use crate::vm::plan::PlannedStep;

/// Everything that one run needs.
pub(super) struct Run {
    pub(super) pre: WorkDiskPluginPre<State>,
    pub(super) clock: Arc<Clock>,
    pub(super) limits: Limits,
    pub(super) rights: Arc<Rights>,
    pub(super) home: PathBuf,
    pub(super) sources: BTreeMap<String, HostFilesSource>,
    pub(super) git: BTreeMap<String, Option<String>>,
    pub(super) settings: Settings,
    /// What the plugin's random numbers are made of.
    pub(super) seed: Vec<u8>,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) result: Result<Vec<PlannedStep>, Failure>,
    pub(super) log: Vec<LogLine>,
    pub(super) dropped: u64,
    pub(super) host_calls: u64,
    pub(super) wall: Duration,
}

/// Ends the run when its caller goes away.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Run {
    /// Runs the hook, within its wall time, whatever it does.
    pub(super) async fn go(self) -> Ended {
        let began = Instant::now();
        let wall = self.limits.wall;
        let cancelled = CancelOnDrop(Arc::default());
        let flag = Arc::clone(&cancelled.0);
        let runtime = tokio::runtime::Handle::current();
        let work = tokio::task::spawn_blocking(move || runtime.block_on(self.call(flag)));
        let ended = tokio::time::timeout(wall + limits::WALL_GRACE, work).await;
        let failed = |failure| Ended {
            result: Err(failure),
            log: Vec::new(),
            dropped: 0,
            host_calls: 0,
            wall: Duration::ZERO,
        };
        let mut ended = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => failed(Failure::Trapped(format!("in cove itself: {panic}"))),
            // It hangs in a host function, on a file system that does not answer.
            Err(_) => failed(Failure::Wall(wall)),
        };
        ended.wall = began.elapsed();
        ended
    }

    async fn call(self, cancelled: Arc<AtomicBool>) -> Ended {
        let _ticking = self.clock.run();
        let mut store = store(self.pre.engine(), &self.limits, &self.seed, cancelled);
        let stage = Stage::new(Arc::clone(&self.rights), self.limits);
        let stage = Arc::new(Mutex::new(stage));
        let files = HostFiles {
            rights: self.rights,
            home: self.home,
            sources: self.sources,
            budget: Arc::new(AtomicU64::new(limits::READ_BYTES)),
        };
        let call = async {
            let table = &mut store.data_mut().table;
            let disk = borrowed(&table.push(WorkDisk(Arc::clone(&stage)))?);
            let files = borrowed(&table.push(files)?);
            let git = borrowed(&table.push(GitConfig(self.git))?);
            let settings = borrowed(&table.push(self.settings)?);
            let plugin = self.pre.instantiate_async(&mut store).await?;
            let hook = plugin.cove_hooks_prepare_work_disk();
            hook.call_run(&mut store, disk, files, git, settings).await
        };
        let outcome = tokio::time::timeout(self.limits.wall, call).await;
        let result = match outcome {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(Failure::Returned {
                code: shortened(&error.code, 64),
                message: shortened(&error.message, limits::MESSAGE_BYTES),
            }),
            Ok(Err(error)) => Err(explain(&error, store.data_mut())),
            Err(_) => Err(Failure::Wall(self.limits.wall)),
        };
        finish(store.into_data(), &stage, result)
    }
}

fn borrowed<T: 'static>(owned: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(owned.rep())
}

/// The plan and the log of a run that is over.
fn finish(mut state: State, stage: &Mutex<Stage>, result: Result<(), Failure>) -> Ended {
    // What a crash says is in the failure already.
    if result.is_ok() {
        for line in state.stderr.text().lines() {
            state.log.push(LogLevel::Info, line);
        }
    }
    let host_calls = state.host_calls();
    let (log, dropped) = std::mem::take(&mut state.log).finish();
    let result = result.map(|()| {
        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        stage.take_steps()
    });
    Ended { result, log, dropped, host_calls, wall: Duration::ZERO }
}

/// Why a call ended without returning.
fn explain(error: &wasmtime::Error, state: &mut State) -> Failure {
    if let Some(exceeded) = state.exceeded() {
        return exceeded;
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Failure::Exited(*status);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => return Failure::Limit("512 KiB of stack"),
        Some(Trap::UnreachableCodeReached) => {
            if let Some(text) = state.stderr.panic_text() {
                return Failure::Panicked(text);
            }
        }
        _ => {}
    }
    let cause = error.root_cause().to_string();
    Failure::Trapped(shortened(&cause, limits::MESSAGE_BYTES))
}
