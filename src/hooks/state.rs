//! What belongs to one run of one hook: its handles, its empty WASI context, and what it has used up.
//! Made new for every run and thrown away after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::failure::Failure;
use super::journal::Journal;
use super::limits;
use super::log::{LogRing, StderrTail};
use super::manifest::Limits;
use crate::id::Digest;

/// The data of a store.
pub(super) struct State {
    pub(super) table: ResourceTable,
    pub(super) log: LogRing,
    pub(super) stderr: StderrTail,
    pub(super) journal: Journal,
    wasi: WasiCtx,
    usage: Usage,
    host_calls: u64,
    failable: u64,
    refused: Option<u64>,
    ticks: u64,
    cpu_start: Duration,
    cpu_limit: Duration,
    cancelled: Arc<AtomicBool>,
    exceeded: Option<Failure>,
}

/// What the component has grown to.
#[derive(Debug)]
struct Usage {
    memory: usize,
    memory_limit: usize,
    memory_refused: bool,
    elements: usize,
    element_limit: usize,
}

/// What makes one run differ from another of the same hook: a seed for its random numbers, and how long
/// after the still time it happens. A plan must not depend on either.
#[derive(Debug, Clone, Default)]
pub(super) struct Chance {
    pub(super) seed: Vec<u8>,
    pub(super) later: Duration,
    /// Which of its calls of the host is refused, from 1, among those that can be. None but in tests of
    /// plugins.
    pub(super) refused: Option<u64>,
}

impl Chance {
    /// The same for every run of a component for one machine.
    pub(super) fn of(vm: &str, component: &Digest) -> Self {
        let seed = Sha256::new().chain_update(vm).chain_update(component.as_str()).finalize();
        Self { seed: seed.to_vec(), later: Duration::ZERO, refused: None }
    }
}

/// What a run has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Calls of the host.
    pub host_calls: u64,
    /// How many of these can be refused.
    pub failable: u64,
    /// Processor time.
    pub cpu: Duration,
    /// How often the clock that interrupts hooks ticked meanwhile.
    pub ticks: u64,
    /// Wall time.
    pub wall: Duration,
    /// The most bytes of linear memory that it had.
    pub memory: usize,
}

/// A store for one run, with every limit armed. Processor time counts from now, on this thread.
pub(super) fn store(
    engine: &Engine,
    limits: &Limits,
    chance: &Chance,
    cancelled: Arc<AtomicBool>,
) -> Store<State> {
    let stderr = StderrTail::default();
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits::RESOURCES);
    let state = State {
        table,
        log: LogRing::default(),
        journal: Journal::default(),
        wasi: empty_world(chance, stderr.clone()),
        stderr,
        usage: Usage {
            memory: 0,
            memory_limit: limits.memory,
            memory_refused: false,
            elements: 0,
            element_limit: limits.class.ceilings().table_elements,
        },
        host_calls: 0,
        failable: 0,
        refused: chance.refused,
        ticks: 0,
        cpu_start: cpu_now(),
        cpu_limit: limits.cpu,
        cancelled,
        exceeded: None,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.usage);
    store.set_hostcall_fuel(limits::HOST_CALL_BYTES);
    store.set_max_component_handles(limits::HANDLES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
    store
}

/// WASI with nothing in it: no arguments, environment, files or sockets; time stands nearly still, and
/// randomness comes from the seed.
fn empty_world(chance: &Chance, stderr: StderrTail) -> WasiCtx {
    let bytes = random(&chance.seed);
    let mut number = [0; 16];
    number.copy_from_slice(&bytes[..16]);
    WasiCtx::builder()
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .wall_clock(StillClock::later(chance.later))
        .monotonic_clock(StillClock::later(chance.later))
        .max_random_size(limits::RANDOM_BYTES)
        .secure_random(Deterministic::new(bytes.clone()))
        .insecure_random(Deterministic::new(bytes))
        .insecure_random_seed(u128::from_le_bytes(number))
        .stderr(stderr)
        .build()
}

/// Half a KiB that looks random and depends on the seed only.
fn random(seed: &[u8]) -> Vec<u8> {
    let block = |count: u8| Sha256::new().chain_update([count]).chain_update(seed).finalize();
    (0..16).flat_map(block).collect()
}

/// A clock that shows the same time to every run. It advances when it is looked at, so that a loop that
/// waits for it ends.
#[derive(Debug)]
struct StillClock(AtomicU64);

/// The time that plugins see: the first second of the year 2000.
const STILL_TIME: Duration = Duration::from_secs(946_684_800);

impl StillClock {
    fn later(by: Duration) -> Self {
        Self(AtomicU64::new(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    fn look(&self) -> Duration {
        STILL_TIME + Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl HostWallClock for StillClock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }
    fn now(&self) -> Duration {
        self.look()
    }
}

impl HostMonotonicClock for StillClock {
    fn resolution(&self) -> u64 {
        1000
    }
    fn now(&self) -> u64 {
        u64::try_from(self.look().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The processor time of this thread.
fn cpu_now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

impl State {
    /// Counts a host call.
    pub(super) fn count_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > limits::HOST_CALLS {
            self.exceeded = Some(Failure::Limit("100,000 calls of the host"));
            wasmtime::bail!("too many host calls");
        }
        Ok(())
    }

    /// Counts a host call that can be refused, and says whether it may go on.
    pub(super) fn may_go_on(&mut self) -> bool {
        self.failable += 1;
        self.refused != Some(self.failable)
    }

    /// Which limit ended the run, if one did.
    pub(super) fn exceeded(&mut self) -> Option<Failure> {
        let memory = self.usage.memory_refused.then_some(Failure::Memory(self.usage.memory_limit));
        self.exceeded.take().or(memory)
    }

    /// What has been used so far, but for wall time, which the host measures.
    pub(super) fn used(&self) -> Used {
        Used {
            host_calls: self.host_calls,
            failable: self.failable,
            cpu: cpu_now().saturating_sub(self.cpu_start),
            ticks: self.ticks,
            wall: Duration::ZERO,
            memory: self.usage.memory,
        }
    }

    fn tick(&mut self) -> UpdateDeadline {
        self.ticks += 1;
        if self.cancelled.load(Ordering::Relaxed) {
            self.exceeded = Some(Failure::Cancelled);
            return UpdateDeadline::Interrupt;
        }
        if cpu_now().saturating_sub(self.cpu_start) > self.cpu_limit {
            self.exceeded = Some(Failure::Cpu(self.cpu_limit));
            return UpdateDeadline::Interrupt;
        }
        // So that the wall time is looked at too.
        UpdateDeadline::Yield(1)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for Usage {
    /// All memories of the component count together.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            self.memory_refused = true;
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.elements.saturating_add(desired.saturating_sub(current));
        if total > self.element_limit {
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        limits::INSTANCES
    }

    fn tables(&self) -> usize {
        limits::TABLES
    }

    fn memories(&self) -> usize {
        limits::MEMORIES
    }
}
