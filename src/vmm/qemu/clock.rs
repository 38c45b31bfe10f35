//! The rate of the guest's time stamp counter under emulation.
//!
//! An emulated processor's counter is the host's. A guest that is not told its rate measures it against
//! an emulated timer chip, and a machine of this kind has no other source of ticks at that moment
//! (hardware-reduced ACPI: no PIT interrupt, no HPET, no PM timer). On a busy host that measurement
//! fails, and the kernel then waits for a first tick that never comes, before its first message; or it
//! succeeds with a wrong rate, and the guest's clock is wrong. So the host measures, over the time since
//! the daemon's start, and says it on the kernel's command line.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The shortest time to measure over. The two readings of a sample are less than a microsecond apart,
/// so that the error is below 50 parts in a million; usually far more time has passed.
const SHORTEST: Duration = Duration::from_millis(20);

/// How often a sample is taken, to keep the one that was interrupted least.
const TRIES: usize = 16;

/// Where the host's kernel says what it tells the time by.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The host's counter, from a first sample on.
#[derive(Debug)]
pub(super) struct HostCounter {
    first: Option<Sample>,
    arguments: OnceLock<String>,
}

/// The counter and the clock at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    counter: u64,
    at: Instant,
}

impl HostCounter {
    /// Takes the first sample.
    pub(super) fn new() -> Self {
        Self { first: sample(), arguments: OnceLock::new() }
    }

    /// What an emulated guest's kernel must be told, each word after a space. Empty on hosts without such
    /// a counter.
    pub(super) async fn kernel_arguments(&self) -> &str {
        if let Some(arguments) = self.arguments.get() {
            return arguments;
        }
        if let Some(first) = self.first {
            tokio::time::sleep(SHORTEST.saturating_sub(first.at.elapsed())).await;
        }
        self.arguments.get_or_init(|| {
            let rate = self.first.zip(sample()).and_then(|(first, last)| kilohertz(first, last));
            // The host tells the time by the counter, so it is the same on all its processors, and the
            // guest may do so too: otherwise it falls back to counting ticks, loses some on a busy host
            // and never sleeps.
            let source = std::fs::read_to_string(CLOCK_SOURCE).unwrap_or_default();
            words(rate, source.trim() == "tsc")
        })
    }
}

fn words(kilohertz: Option<u64>, reliable: bool) -> String {
    match kilohertz {
        Some(rate) if reliable => format!(" tsc_early_khz={rate} tsc=reliable"),
        Some(rate) => format!(" tsc_early_khz={rate}"),
        None => String::new(),
    }
}

/// The rate between two samples; none when the counter did not run.
fn kilohertz(first: Sample, last: Sample) -> Option<u64> {
    let ticks = u128::from(last.counter.checked_sub(first.counter)?);
    let nanoseconds = last.at.duration_since(first.at).as_nanos();
    let rate = (ticks * 1_000_000).checked_div(nanoseconds)?;
    u64::try_from(rate).ok().filter(|rate| *rate > 0)
}

/// The sample whose readings were closest together.
fn sample() -> Option<Sample> {
    let tries = std::iter::repeat_with(|| {
        let at = Instant::now();
        counter().map(|counter| (at.elapsed(), Sample { counter, at }))
    });
    let best = tries.take(TRIES).flatten().min_by_key(|(width, _)| *width);
    best.map(|(_, sample)| sample)
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "there is no other way to read the counter")]
fn counter() -> Option<u64> {
    // SAFETY: the instruction is part of the architecture, reads no memory, and Linux allows it to
    // every program.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_ticks_per_millisecond() {
        let at = Instant::now();
        let first = Sample { counter: 1_000, at };
        let later = |counter| Sample { counter, at: at + Duration::from_millis(500) };
        assert_eq!(kilohertz(first, later(1_000 + 1_300_000_000)), Some(2_600_000));
        assert_eq!(kilohertz(first, later(1_000)), None, "it stands still");
        assert_eq!(kilohertz(first, later(0)), None, "it went backwards");
        assert_eq!(kilohertz(first, first), None, "no time has passed");
    }

    #[test]
    fn the_kernel_is_told_what_is_known() {
        assert_eq!(words(Some(2_600_000), true), " tsc_early_khz=2600000 tsc=reliable");
        assert_eq!(words(Some(2_600_000), false), " tsc_early_khz=2600000");
        assert_eq!(words(None, true), "");
    }

    #[cfg(target_arch = "x86_64")]
    #[tokio::test]
    async fn this_host_has_a_rate_and_keeps_it() {
        let counter = HostCounter::new();
        let first = counter.kernel_arguments().await.to_owned();
        assert!(first.starts_with(" tsc_early_khz="), "{first}");
        assert_eq!(counter.kernel_arguments().await, first);
    }
}
