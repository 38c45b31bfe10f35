//! Ten thousand damaged components, from seeds that are the same in every run: all are given to the
//! compiler as the host calls it, and of those that it still compiles two hundred are run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cove::hooks::HookError;
use cove::process::{Tool, ToolError};

use crate::corpus::{self, Hostile};
use crate::world::{World, target};

/// How many are made, and how many of the good ones among them are run.
const MADE: usize = 10_000;
const RUN: usize = 200;
/// How many compilers run at once.
const COMPILERS: usize = 2;

/// A small generator of numbers (xorshift64*): the same numbers for the same seed, everywhere.
struct Numbers(u64);

impl Numbers {
    fn of(seed: usize) -> Self {
        Self(seed as u64 * 2 + 0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % bound
    }
}

/// The component of a seed: one in eight cut off, the others with one to four bits turned over.
fn damaged(good: &[u8], seed: usize) -> Vec<u8> {
    let mut numbers = Numbers::of(seed);
    let mut bytes = good.to_vec();
    if seed.is_multiple_of(8) {
        bytes.truncate(numbers.below(good.len()));
        return bytes;
    }
    for _ in 0..=numbers.below(4) {
        let place = numbers.below(bytes.len());
        bytes[place] ^= 1 << numbers.below(8);
    }
    bytes
}

/// Whether the compiler takes a component. That it refuses it in another way than by saying so is a
/// complaint.
async fn compiles(component: Vec<u8>) -> Result<bool, String> {
    let compiler = Tool::new(env!("CARGO_BIN_EXE_coved")).arg(cove::hooks::compiler::ARGUMENT);
    let compiler = compiler.keep_only_env(&[]).input(component).max_output(64 << 20);
    match compiler.run().await {
        Ok(_) => Ok(true),
        Err(ToolError::Failed { status, stderr, .. })
            if status.code() == Some(1) && !stderr.is_empty() =>
        {
            Ok(false)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Compiles the components of all seeds. Returns the seeds of those that compile.
async fn compile_all(good: Arc<Vec<u8>>) -> BTreeSet<usize> {
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..COMPILERS).map(|_| {
        let (next, good) = (Arc::clone(&next), Arc::clone(&good));
        async move {
            let mut compiled = BTreeSet::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= MADE {
                    return compiled;
                }
                match compiles(damaged(&good, seed)).await {
                    Ok(true) => drop(compiled.insert(seed)),
                    Ok(false) => {}
                    Err(complaint) => panic!("seed {seed}: {complaint}"),
                }
            }
        }
    });
    futures_util::future::join_all(workers).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "how many there were is for reading")]
async fn damaged_components_are_refused_or_end() {
    let honest = corpus::honest();
    let good = Arc::new(honest.bytes(&target()));
    let compiled = compile_all(Arc::clone(&good)).await;
    eprintln!("{} of {MADE} damaged components compile", compiled.len());
    assert!(compiled.len() >= RUN && compiled.len() < MADE, "{}", compiled.len());

    let mut world = World::new().await;
    // With a cache of its own: two hundred components would push those of other tests out of theirs.
    world.reopen_with_compiler(env!("CARGO_BIN_EXE_coved").into()).await;
    let (mut well, mut refused, mut failed) = (0, 0, 0);
    for seed in compiled.into_iter().take(RUN) {
        world.put(&corpus::harmless("damaged", damaged(&good, seed)));
        match world.run().await {
            Ok(run) => {
                well += 1;
                assert!(run.plan.steps.iter().all(|step| step.step.path().starts_with("allowed")));
            }
            Err(HookError::Broken { plugin, .. }) if plugin == "hostile" => refused += 1,
            Err(HookError::Failed { plugin, .. }) if plugin.as_str() == "hostile" => failed += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    eprintln!("of {RUN} of these, {well} ran well, {refused} did not fit, {failed} failed");
    works(&mut world, &honest).await;
}

async fn works(world: &mut World, honest: &Hostile) {
    world.put(honest);
    assert_eq!(world.run().await.expect("the host goes on").plan.steps.len(), 1);
}
