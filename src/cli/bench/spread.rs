//! Percentiles of what was measured.

use std::time::Duration;

use serde::Serialize;

/// How durations spread, in milliseconds. Percentiles by nearest rank: the smallest measured value that
/// is not below so many percent of all of them, so every one was really measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) min_ms: f64,
    pub(super) max_ms: f64,
}

impl Spread {
    /// Of at least one duration.
    pub(super) fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let at = |percent| milliseconds(nearest_rank(&sorted, percent));
        Self { p50_ms: at(50), p95_ms: at(95), min_ms: at(0), max_ms: at(100) }
    }

    /// The same to the nearest 10 ns, for what takes microseconds.
    pub(super) fn fine(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let at = |percent| fine(&sorted, percent);
        Self { p50_ms: at(50), p95_ms: at(95), min_ms: at(0), max_ms: at(100) }
    }

    /// The cells of a table, in microseconds.
    pub(super) fn fine_cells(&self) -> [String; 4] {
        [self.p50_ms, self.p95_ms, self.min_ms, self.max_ms].map(|ms| format!("{:.2} µs", ms * 1e3))
    }

    /// The cells of a table.
    pub(super) fn cells(&self) -> [String; 4] {
        [self.p50_ms, self.p95_ms, self.min_ms, self.max_ms].map(|ms| match ms < 1.0 {
            true => format!("{:.0} us", ms * 1000.0),
            false => format!("{ms:.1} ms"),
        })
    }
}

/// How long the slowest take, in milliseconds, to the nearest 10 ns. Percentiles by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Tail {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Tail {
    /// Of at least one duration.
    pub(super) fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let [p50_ms, p99_ms, max_ms] = [50, 99, 100].map(|percent| fine(&sorted, percent));
        Self { p50_ms, p99_ms, max_ms }
    }

    /// How many times longer the 99th percentile of another is, in hundredths.
    pub(super) fn ratio_p99(&self, other: &Self) -> f64 {
        (other.p99_ms / self.p99_ms * 100.0).round() / 100.0
    }
}

/// How many times longer one median is than the other, in hundredths.
pub(super) fn ratio(ours: &Spread, floor: &Spread) -> f64 {
    (ours.p50_ms / floor.p50_ms * 100.0).round() / 100.0
}

fn nearest_rank(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// A percentile to the nearest 10 ns.
fn fine(sorted: &[Duration], percent: usize) -> f64 {
    (nearest_rank(sorted, percent).as_secs_f64() * 100_000_000.0).round() / 100_000.0
}

/// In whole microseconds: more is noise.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(ms: &[u64]) -> Spread {
        Spread::of(&ms.iter().copied().map(Duration::from_millis).collect::<Vec<_>>())
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let cases: [(&[u64], [f64; 4]); 4] = [
            (&[7], [7.0, 7.0, 7.0, 7.0]),
            (&[4, 1, 3, 2], [2.0, 4.0, 1.0, 4.0]),
            (&[1, 2, 3, 4, 5], [3.0, 5.0, 1.0, 5.0]),
            (&(1..=40).collect::<Vec<_>>(), [20.0, 38.0, 1.0, 40.0]),
        ];
        for (measured, [p50_ms, p95_ms, min_ms, max_ms]) in cases {
            let expected = Spread { p50_ms, p95_ms, min_ms, max_ms };
            assert_eq!(spread(measured), expected, "{measured:?}");
        }
    }

    #[test]
    fn the_tail_is_where_the_slowest_are() {
        let tail = |slow: u64| {
            let all = (0..200).map(|run| Duration::from_millis(if run < 197 { 2 } else { slow }));
            Tail::of(&all.collect::<Vec<_>>())
        };
        assert_eq!(tail(9), Tail { p50_ms: 2.0, p99_ms: 9.0, max_ms: 9.0 });
        assert_eq!(tail(4).ratio_p99(&tail(10)), 2.5);
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        assert_eq!(ratio(&spread(&[5, 6, 100]), &spread(&[4, 4, 4])), 1.5);
    }
}
