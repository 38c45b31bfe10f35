//! Numbers that look random and come again for the same seed (splitmix64, <https://prng.di.unimi.it/>).

use std::time::Duration;

/// The seed of a test that is to be repeated.
const SEED: &str = "COVE_CUTS_SEED";

/// Where they come from.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Those of the seed that the environment says, or of a new one. Prints it.
    #[expect(clippy::print_stderr, reason = "whoever repeats the test needs it")]
    #[expect(clippy::disallowed_methods, reason = "a failure is repeated by its seed")]
    pub(super) fn seeded() -> Self {
        let given = std::env::var(SEED).ok().map(|text| text.parse().expect("a number"));
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).expect("random bytes");
            u64::from(u32::from_ne_bytes(bytes))
        });
        eprintln!("to repeat these moments: {SEED}={seed}");
        Self(seed)
    }

    /// The next one.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below a bound.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A moment within a time.
    pub(super) fn moment(&mut self, within: Duration) -> Duration {
        let micros = u64::try_from(within.as_micros()).expect("short");
        Duration::from_micros(self.below(micros.max(1)))
    }
}
