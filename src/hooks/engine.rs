//! The WebAssembly engine: what components may use of the language, the pool they live in, and the
//! clock that interrupts them.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime::{
    Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, RegallocAlgorithm,
};

use super::contract::Contract;
use super::error::{BoxError, HookError};
use super::limits::{self, Class};
use super::state::State;
use crate::id::hex;

/// Everything that components run in. One per daemon.
pub(super) struct Machine {
    pub(super) contracts: &'static [&'static dyn Contract],
    small: Engine,
    large: OnceLock<Engine>,
}

/// Engine, linker and interrupt clock of one class of components.
pub(super) struct Engine {
    pub(super) engine: wasmtime::Engine,
    pub(super) linker: Linker<State>,
    pub(super) clock: Arc<Clock>,
    /// Which compiled code this engine can run, as part of a file's name.
    pub(super) compatibility: String,
}

impl Machine {
    pub(super) fn new(contracts: &'static [&'static dyn Contract]) -> Result<Self, HookError> {
        let small = Engine::new(Class::Small, contracts)?;
        Ok(Self { contracts, small, large: OnceLock::new() })
    }

    /// The engine of a class. That of large components is made when it is wanted first: most daemons have
    /// none.
    pub(super) fn engine(&self, class: Class) -> Result<&Engine, HookError> {
        match class {
            Class::Small => Ok(&self.small),
            Class::Large => match self.large.get() {
                Some(engine) => Ok(engine),
                None => {
                    let engine = Engine::new(class, self.contracts)?;
                    Ok(self.large.get_or_init(|| engine))
                }
            },
        }
    }
}

impl Engine {
    fn new(class: Class, contracts: &[&dyn Contract]) -> Result<Self, HookError> {
        let failed = |error: wasmtime::Error| HookError::Engine(boxed(error));
        let mut config = config(class);
        if class == Class::Small {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        let engine = wasmtime::Engine::new(&config).map_err(failed)?;
        let linker = linker(&engine, contracts).map_err(failed)?;
        let clock = Clock::start(&engine).map_err(|error| HookError::Engine(Box::new(error)))?;
        let compatibility = compatibility(&engine);
        Ok(Self { engine, linker, clock, compatibility })
    }
}

/// An engine that only compiles. It has no pool: the process that compiles has little address space.
pub(super) fn compiling_engine(class: Class) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config(class))
}

fn boxed(error: wasmtime::Error) -> BoxError {
    error.into_boxed_dyn_error()
}

/// What the engines of a class share: everything that compiled code depends on.
fn config(class: Class) -> Config {
    let mut config = Config::new();
    config
        // The language: no 64-bit memories (their bounds checks are explicit and rarely used), nothing
        // whose result depends on the processor.
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .cranelift_nan_canonicalization(true)
        // Hooks run for microseconds, so time is lost in compiling. The other allocator needs 80 s for
        // a hostile component that this one compiles in under a second.
        .cranelift_opt_level(OptLevel::None)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass)
        .parallel_compilation(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits::STACK)
        .async_stack_size(limits::FIBER_STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        .memory_reservation(class.ceilings().memory as u64)
        .memory_guard_size(32 << 20)
        .memory_may_move(false);
    config
}

/// Slots for the hooks that run at once. They are address space; memory is used when a slot is, and
/// nearly all of it is given back afterwards.
fn pool() -> PoolingAllocationConfig {
    const SLOTS: u32 = limits::CONCURRENT + limits::CONCURRENT_IN_GUESTS;
    let mut pool = PoolingAllocationConfig::new();
    let ceilings = Class::Small.ceilings();
    let each = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let total = |count: usize| each(count).saturating_mul(SLOTS);
    pool.total_component_instances(SLOTS)
        .total_core_instances(total(limits::INSTANCES))
        .total_memories(total(limits::MEMORIES))
        .total_tables(total(limits::TABLES))
        .total_stacks(SLOTS)
        .max_core_instances_per_component(each(limits::INSTANCES))
        .max_memories_per_component(each(limits::MEMORIES))
        .max_tables_per_component(each(limits::TABLES))
        .max_memory_size(ceilings.memory)
        .table_elements(ceilings.table_elements)
        .max_unused_warm_slots(2)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(4 << 10)
        .async_stack_keep_resident(0);
    pool
}

fn linker(
    engine: &wasmtime::Engine,
    contracts: &[&dyn Contract],
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // Whole, so that components from every language load; the context behind it is empty.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    contracts.iter().try_for_each(|contract| contract.add_to_linker(&mut linker))?;
    Ok(linker)
}

/// A name for what compiled code depends on: settings, processor features and the engine's version.
pub(super) fn compatibility(engine: &wasmtime::Engine) -> String {
    struct Collect(Sha256);
    impl Hasher for Collect {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut collect = Collect(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut collect);
    hex(&collect.0.finalize()[..8])
}

/// Advances the engine's epoch while hooks run, and rests while none does: the daemon then sleeps. Dropping
/// it ends its thread.
#[derive(Debug)]
pub(super) struct Clock(Arc<Work>);

/// Whether there is something to tick for.
#[derive(Debug)]
struct Work {
    /// How many hooks run; none when the clock is not wanted any more.
    running: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Clock {
    fn start(engine: &wasmtime::Engine) -> std::io::Result<Arc<Self>> {
        let work = Arc::new(Work { running: Mutex::new(Some(0)), changed: Condvar::new() });
        let (theirs, engine) = (work.clone(), engine.weak());
        let tick = move || {
            while theirs.wait() {
                std::thread::sleep(limits::EPOCH);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        };
        std::thread::Builder::new().name("hook clock".into()).stack_size(128 << 10).spawn(tick)?;
        Ok(Arc::new(Self(work)))
    }

    /// The clock ticks as long as the value lives.
    pub(super) fn run(&self) -> Ticking {
        self.0.change(|running| running.map(|running| running + 1));
        Ticking(self.0.clone())
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.change(|_| None);
    }
}

impl Work {
    fn change(&self, change: impl FnOnce(Option<usize>) -> Option<usize>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = change(*running);
        drop(running);
        self.changed.notify_one();
    }

    /// Waits until a hook runs. Says whether the clock is still wanted.
    fn wait(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |running: &mut Option<usize>| *running == Some(0);
        let running = self.changed.wait_while(running, rests);
        running.unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// See [`Clock::run`].
#[derive(Debug)]
pub(super) struct Ticking(Arc<Work>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.change(|running| running.map(|running| running.saturating_sub(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::contract::KNOWN;

    #[test]
    fn the_compiling_engines_make_code_for_the_running_ones() {
        let machine = Machine::new(KNOWN).expect("the engine starts");
        for class in [Class::Small, Class::Large] {
            let compiling = compiling_engine(class).expect("it starts");
            let running = machine.engine(class).expect("it starts");
            assert_eq!(running.compatibility, compatibility(&compiling));
            let code = compiling.precompile_component(b"\0asm\x0d\0\x01\0");
            assert!(!code.expect("an empty component").is_empty());
        }
    }
}
