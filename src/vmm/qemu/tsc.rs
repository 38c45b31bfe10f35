//! The rate of the time stamp counter, which emulated guests see as it is on the host.
//!
//! A guest's kernel measures it against the emulated timer of 1981, whose ticks come late on a busy
//! host. A measurement that failed leaves the kernel without a clock, and it then waits for ever for a
//! first tick, before its first message: with four times more work than processors, three boots of
//! three stood still. So the rate is measured here and told to the kernel.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long is measured at least: two readings are a microsecond apart from their times at worst, which
/// is then less than what the kernel allows itself.
const WINDOW: Duration = Duration::from_millis(50);

/// How often a reading is tried; the one that was least disturbed counts.
const TRIES: usize = 16;

/// Rates that can be, in kHz. A counter with another one is not told of.
const POSSIBLE: std::ops::RangeInclusive<u64> = 100_000..=20_000_000;

/// The measurement, which begins with the value.
#[derive(Debug)]
pub(super) struct Counter {
    began: Reading,
    /// Measured once: a host that slept in between would spoil a later measurement.
    khz: OnceLock<Option<u64>>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    ticks: u64,
    at: Instant,
}

impl Counter {
    pub(super) fn new() -> Self {
        Self { began: Reading::take(), khz: OnceLock::new() }
    }

    /// The rate in kHz; none where it makes no sense. Waits until enough has been measured, which at
    /// the second start of a daemon is long ago.
    pub(super) async fn khz(&self) -> Option<u64> {
        if self.khz.get().is_none() {
            tokio::time::sleep(WINDOW.saturating_sub(self.began.at.elapsed())).await;
        }
        *self.khz.get_or_init(|| rate(self.began, Reading::take()))
    }
}

impl Reading {
    fn take() -> Self {
        let tries = (0..TRIES).map(|_| {
            let before = Instant::now();
            let ticks = ticks();
            (before.elapsed(), Self { ticks, at: before })
        });
        let best = tries.min_by_key(|(disturbed, _)| *disturbed);
        best.map_or_else(|| Self { ticks: 0, at: Instant::now() }, |(_, reading)| reading)
    }
}

fn rate(from: Reading, to: Reading) -> Option<u64> {
    let nanoseconds = to.at.checked_duration_since(from.at)?.as_nanos();
    let ticks = u128::from(to.ticks.checked_sub(from.ticks)?);
    let khz = u64::try_from((ticks * 1_000_000).checked_div(nanoseconds)?).ok()?;
    Some(khz).filter(|khz| POSSIBLE.contains(khz))
}

#[expect(unsafe_code, reason = "there is no other way to the processor's counter")]
fn ticks() -> u64 {
    // SAFETY: the instruction reads a register and is there on every x86-64.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_counter_has_the_same_rate() {
        let (one, other) = (Counter::new(), Counter::new());
        let one = one.khz().await.expect("a rate");
        let other = other.khz().await.expect("a rate");
        assert!(one.abs_diff(other) * 1000 < one, "{one} and {other} kHz");
    }

    #[test]
    fn an_impossible_rate_is_none() {
        let from = Reading { ticks: 1_000_000, at: Instant::now() };
        let later = |ticks, millis| Reading { ticks, at: from.at + Duration::from_millis(millis) };
        assert_eq!(rate(from, later(1_000_000 + 26_000_000, 10)), Some(2_600_000));
        assert_eq!(rate(from, later(5, 10)), None, "it was set back");
        assert_eq!(rate(from, later(1_000_001, 10)), None, "it stands still");
        assert_eq!(rate(from, later(2_000_000, 0)), None, "no time has passed");
    }
}
