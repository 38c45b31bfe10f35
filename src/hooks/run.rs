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

use tokio_util::sync::CancellationToken;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

use super::contract::{Answer, Call, PluginError, Sources};
use super::failure::Failure;
use super::guest::GuestPrograms;
use super::handles::{
    GitConfig, GuestHandle, HostFiles, Machine, MachineRequest, PluginState, Remembered, Settings,
    WorkDisk,
};
use super::inputs::MachineView;
use super::journal::Journal;
use super::limits;
use super::log::{LogLevel, LogLine, shortened};
use super::manifest::Limits;
use super::merge::Digests;
use super::needs::Rights;
use super::plugin::Loaded;
use super::source::{HostFilesSource, OpenFiles};
use super::staging::Stage;
use super::state::{Chance, State, Used, store};
use super::wishes::{Asked, Wishes};
use crate::vm::plan::PlannedStep;
use crate::wire::rpc::HookPoint;

/// Everything that one run needs.
pub(super) struct Run {
    pub(super) loaded: Arc<Loaded>,
    pub(super) point: HookPoint,
    pub(super) limits: Limits,
    pub(super) wall: Duration,
    pub(super) rights: Arc<Rights>,
    pub(super) view: View,
    pub(super) guest: Option<Arc<dyn GuestPrograms>>,
    pub(super) chance: Chance,
}

/// What a hook gets to see.
pub(super) struct View {
    /// None where a hook is not about a machine.
    pub(super) machine: Option<MachineView>,
    /// The user's home on the host.
    pub(super) home: PathBuf,
    pub(super) sources: BTreeMap<String, HostFilesSource>,
    pub(super) git: BTreeMap<String, Option<String>>,
    pub(super) settings: Settings,
    pub(super) remembered: Remembered,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) result: Result<Effects, Failure>,
    pub(super) log: Vec<LogLine>,
    pub(super) dropped: u64,
    pub(super) used: Used,
    pub(super) journal: Journal,
}

/// What a hook that returned well wants to happen. Nothing of it has.
#[derive(Debug)]
pub(super) struct Effects {
    pub(super) steps: Vec<PlannedStep>,
    pub(super) asked: Asked,
    pub(super) answer: Answer,
    pub(super) remembered: Remembered,
    pub(super) digests: Digests,
}

impl Ended {
    /// A run that did not get to say anything.
    pub(super) fn without_a_word(failure: Failure) -> Self {
        Self::of(Err(failure))
    }

    /// A run that wanted nothing.
    pub(super) fn well() -> Self {
        Self::of(Ok(Effects {
            steps: Vec::new(),
            asked: Asked::default(),
            answer: Answer::Nothing,
            remembered: Remembered::new(),
            digests: Digests::of_nothing(),
        }))
    }

    fn of(result: Result<Effects, Failure>) -> Self {
        Self {
            result,
            log: Vec::new(),
            dropped: 0,
            used: Used::default(),
            journal: Journal::default(),
        }
    }
}

/// Ends the run when its caller goes away: the flag while its own code runs, the token while it waits in a host
/// function.
#[derive(Clone, Default)]
pub(super) struct Cancel(Arc<AtomicBool>, CancellationToken);

/// Cancels when it is dropped.
#[derive(Default)]
pub(super) struct CancelOnDrop(Cancel);

impl CancelOnDrop {
    /// What it cancels.
    pub(super) fn cancel(&self) -> Cancel {
        self.0.clone()
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Cancel(flag, token) = &self.0;
        flag.store(true, Ordering::Relaxed);
        token.cancel();
    }
}

/// Where handles stage things, to be taken when the hook has returned.
struct Staged {
    stage: Arc<Mutex<Stage>>,
    wishes: Arc<Mutex<Wishes>>,
    state: PluginState,
}

impl Run {
    /// Runs the hook, within its wall time, whatever it does.
    pub(super) async fn go(self) -> Ended {
        self.go_holding(()).await
    }

    /// The same for a run that has a place among those that run at once. It keeps the place until it is really
    /// over, also when it is left behind: its slot in the engine's pool is taken for as long.
    pub(super) async fn go_holding(self, place: impl Send + 'static) -> Ended {
        let began = Instant::now();
        let wall = self.wall;
        let cancelled = CancelOnDrop::default();
        let cancel = cancelled.cancel();
        let runtime = tokio::runtime::Handle::current();
        let work = tokio::task::spawn_blocking(move || {
            let ended = runtime.block_on(self.call(cancel));
            drop(place);
            ended
        });
        let ended = tokio::time::timeout(wall + limits::WALL_GRACE, work).await;
        let mut ended = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => {
                Ended::without_a_word(Failure::Trapped(format!("in cove itself: {panic}")))
            }
            // It hangs in a host function, on a file system that does not answer.
            Err(_) => Ended::without_a_word(Failure::Wall(wall)),
        };
        ended.used.wall = began.elapsed();
        ended
    }

    /// Runs the hook on this very thread, which must be one that may block, until it is cancelled.
    pub(super) async fn call(self, Cancel(flag, token): Cancel) -> Ended {
        let Self { loaded, point, limits, wall, rights, view, guest, chance } = self;
        let _ticking = loaded.clock.run();
        let mut store = store(loaded.pre.engine(), &limits, &chance, flag);
        let machine = view.machine.as_ref().map(|machine| &machine.plan);
        let staged = Staged {
            stage: Arc::new(Mutex::new(Stage::new(Arc::clone(&rights), limits))),
            wishes: Arc::new(Mutex::new(Wishes::new(Arc::clone(&rights), machine))),
            state: PluginState {
                granted: rights.may_remember(),
                copy: Arc::new(Mutex::new(view.remembered.clone())),
            },
        };
        let call = async {
            let handed = Handed { table: &mut store.data_mut().table, staged: &staged, rights };
            let call = handed.over(point, view, guest)?;
            let instance = loaded.pre.instantiate_async(&mut store).await?;
            loaded.exports.call(&mut store, &instance, call).await
        };
        // Whatever is dropped here has changed nothing, and a program in a guest ends with it.
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(wall, call) => Some(outcome),
            () = token.cancelled() => None,
        };
        let Some(outcome) = outcome else {
            return finish(store, &staged, Err(Failure::Cancelled));
        };
        let result = match outcome {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(PluginError { code, message }))) => Err(Failure::Returned {
                code: shortened(&code, 64),
                message: shortened(&message, limits::MESSAGE_BYTES),
            }),
            Ok(Err(error)) => Err(explain(&error, store.data_mut())),
            Err(_) => Err(Failure::Wall(wall)),
        };
        finish(store, &staged, result)
    }
}

/// Puts values into the table of a run and hands out handles to them.
struct Handed<'a> {
    table: &'a mut ResourceTable,
    staged: &'a Staged,
    rights: Arc<Rights>,
}

impl Handed<'_> {
    /// The handles of a hook point. No other values are in the table.
    fn over(
        mut self,
        point: HookPoint,
        view: View,
        guest: Option<Arc<dyn GuestPrograms>>,
    ) -> wasmtime::Result<Call> {
        let View { machine, home, sources, git, settings, remembered: _ } = view;
        let machine = machine.map(Machine).map(|machine| self.lend(machine)).transpose()?;
        let machine = machine.ok_or_else(|| wasmtime::Error::msg("there is no machine"));
        let read = limits::READ_BYTES;
        let files = HostFiles {
            rights: Arc::clone(&self.rights),
            home,
            sources,
            budget: Arc::new(AtomicU64::new(read)),
            open: OpenFiles::default(),
        };
        match point {
            HookPoint::Preflight => {
                Ok(Call::Preflight(machine?, self.sources(files, git, settings)?))
            }
            HookPoint::ConfigureMachine => {
                let request = self.lend(MachineRequest(Arc::clone(&self.staged.wishes)))?;
                let sources = self.sources(files, git, settings)?;
                Ok(Call::ConfigureMachine(machine?, request, sources, self.state()?))
            }
            HookPoint::PrepareWorkDisk => {
                let disk = self.lend(WorkDisk(Arc::clone(&self.staged.stage)))?;
                let sources = self.sources(files, git, settings)?;
                Ok(Call::PrepareWorkDisk(machine?, disk, sources, self.state()?))
            }
            HookPoint::PostStart => {
                let programs = guest.ok_or_else(|| wasmtime::Error::msg("there is no guest"))?;
                let rights = Arc::clone(&self.rights);
                let guest = self.lend(GuestHandle { rights, programs, ran: 0 })?;
                Ok(Call::PostStart(machine?, guest, self.lend(settings)?, self.state()?))
            }
            HookPoint::PreStop => Ok(Call::PreStop(machine?, self.lend(settings)?, self.state()?)),
            HookPoint::Cleanup => Ok(Call::Cleanup(machine?, self.lend(settings)?, self.state()?)),
            HookPoint::Doctor => Ok(Call::Doctor(self.sources(files, git, settings)?)),
        }
    }

    fn lend<T: Send + 'static>(&mut self, value: T) -> wasmtime::Result<Resource<T>> {
        Ok(Resource::new_borrow(self.table.push(value)?.rep()))
    }

    fn state(&mut self) -> wasmtime::Result<Resource<PluginState>> {
        let state = self.staged.state.clone();
        self.lend(state)
    }

    fn sources(
        &mut self,
        files: HostFiles,
        git: BTreeMap<String, Option<String>>,
        settings: Settings,
    ) -> wasmtime::Result<Sources> {
        Ok(Sources {
            files: self.lend(files)?,
            git: self.lend(GitConfig(git))?,
            settings: self.lend(settings)?,
        })
    }
}

/// The effects and the log of a run that is over.
fn finish(store: Store<State>, staged: &Staged, result: Result<Answer, Failure>) -> Ended {
    let mut state = store.into_data();
    let used = state.used();
    // What a crash says is in the failure already.
    if result.is_ok() {
        for line in state.stderr.text().lines() {
            state.log.push(LogLevel::Info, line);
        }
    }
    let (log, dropped) = std::mem::take(&mut state.log).finish();
    let journal = std::mem::take(&mut state.journal);
    let result = result.map(|answer| {
        let steps = staged.stage.lock().unwrap_or_else(PoisonError::into_inner).take_steps();
        let asked = staged.wishes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let digests = Digests::of(&steps, &asked);
        Effects { steps, asked, answer, remembered: staged.state.take(), digests }
    });
    Ended { result, log, dropped, used, journal }
}

/// Why a call ended without returning.
pub(super) fn explain(error: &wasmtime::Error, state: &mut State) -> Failure {
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
