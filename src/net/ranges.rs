//! Ranges of IPv4 addresses, as the kernel's routes have them, and their arithmetic.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Prefix {
    /// The first address.
    pub(crate) address: Ipv4Addr,
    /// How many leading bits all addresses share, 0 to 32.
    pub(crate) length: u8,
}

impl Prefix {
    /// The range of `length` leading bits around `address`; a length over 32 counts as 32.
    pub(crate) fn around(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length }
    }

    /// The last address of the range.
    pub(crate) fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.length))
    }

    /// Whether all of `other` lies in it.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.length <= other.length
            && other.address.to_bits() & mask(self.length) == self.address.to_bits()
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

/// The same addresses in as few ranges, none inside another: nftables takes no overlapping intervals.
pub(crate) fn disjoint(prefixes: impl IntoIterator<Item = Prefix>) -> Vec<Prefix> {
    let mut all: Vec<Prefix> =
        prefixes.into_iter().map(|prefix| Prefix::around(prefix.address, prefix.length)).collect();
    // A range sorts right before those inside it.
    all.sort_unstable();
    let mut kept: Vec<Prefix> = Vec::with_capacity(all.len());
    for prefix in all {
        if !kept.last().is_some_and(|last| last.contains(prefix)) {
            kept.push(prefix);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn disjoint_ranges_cover_the_same_addresses(
            ranges in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..12),
            probe in any::<u32>(),
        ) {
            let ranges: Vec<Prefix> =
                ranges.into_iter().map(|(a, l)| Prefix::around(Ipv4Addr::from_bits(a), l)).collect();
            let kept = disjoint(ranges.clone());
            for (i, one) in kept.iter().enumerate() {
                for other in &kept[i + 1..] {
                    prop_assert!(!one.contains(*other) && !other.contains(*one));
                }
            }
            let edges = ranges.iter().map(|range| range.address.to_bits());
            for probe in edges.chain([probe]) {
                let probe = Prefix::around(Ipv4Addr::from_bits(probe), 32);
                prop_assert_eq!(
                    ranges.iter().any(|range| range.contains(probe)),
                    kept.iter().any(|range| range.contains(probe)),
                );
            }
        }
    }
}
