//! Ranges of addresses: those that no guest reaches, and the arithmetic of ranges.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The ranges that no guest reaches: the IANA IPv4 special-purpose address registry (RFC 6890 and its
/// successors) where it is not globally reachable, multicast, and the one cloud metadata service that
/// sits on a public address.
pub(crate) const SPECIAL_PURPOSE_RANGES: [(Prefix, &str); 16] = [
    (Prefix::new([0, 0, 0, 0], 8), "this network"),
    (Prefix::new([10, 0, 0, 0], 8), "private"),
    (Prefix::new([100, 64, 0, 0], 10), "shared between a provider and its customers"),
    (Prefix::new([127, 0, 0, 0], 8), "loopback"),
    (Prefix::new([168, 63, 129, 16], 32), "the platform service of Azure"),
    (Prefix::new([169, 254, 0, 0], 16), "link-local, metadata services"),
    (Prefix::new([172, 16, 0, 0], 12), "private"),
    (Prefix::new([192, 0, 0, 0], 24), "protocol assignments"),
    (Prefix::new([192, 0, 2, 0], 24), "documentation; the guest's own links"),
    (Prefix::new([192, 88, 99, 0], 24), "withdrawn 6to4 relays"),
    (Prefix::new([192, 168, 0, 0], 16), "private"),
    (Prefix::new([198, 18, 0, 0], 15), "benchmarks"),
    (Prefix::new([198, 51, 100, 0], 24), "documentation"),
    (Prefix::new([203, 0, 113, 0], 24), "documentation"),
    (Prefix::new([224, 0, 0, 0], 4), "multicast"),
    (Prefix::new([240, 0, 0, 0], 4), "reserved, broadcast"),
];

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Prefix {
    /// The first address.
    pub(crate) address: Ipv4Addr,
    /// How many leading bits all addresses share, 0 to 32.
    pub(crate) length: u8,
}

impl Prefix {
    const fn new(octets: [u8; 4], length: u8) -> Self {
        Self { address: Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), length }
    }

    /// The range of `length` leading bits around `address`; a length over 32 counts as 32.
    pub(crate) fn around(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length }
    }

    fn contains(self, other: Self) -> bool {
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

    fn refused(address: Ipv4Addr) -> bool {
        let address = Prefix::around(address, 32);
        SPECIAL_PURPOSE_RANGES.iter().any(|(range, _)| range.contains(address))
    }

    #[test]
    fn special_addresses_are_refused_and_public_ones_are_not() {
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.0.0.53",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.53",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(refused(special.parse().expect("an address")), "{special}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
        ] {
            assert!(!refused(public.parse().expect("an address")), "{public}");
        }
    }

    #[test]
    fn the_ranges_are_disjoint_as_nftables_wants_them() {
        let ranges = SPECIAL_PURPOSE_RANGES.map(|(range, _)| range);
        assert_eq!(disjoint(ranges), ranges);
    }

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
