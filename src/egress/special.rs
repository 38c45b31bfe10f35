//! Ranges of addresses that are not the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range that no VM reaches unless told so, and what it is.
pub type SpecialRange = (IpNet, &'static str);

/// Where clouds serve credentials to whatever runs on their machines.
pub const METADATA_ADDRESSES: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba, Oracle, and the containers of Amazon (ECS, EKS).
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length))
}

/// The IANA special-purpose address registries (RFC 6890 and its successors) where they are not globally
/// reachable, multicast, and the one cloud metadata service that sits on a public address. Disjoint.
///
/// Ranges that carry IPv4 addresses inside IPv6 ones (mapped, NAT64, 6to4, Teredo) are here too: through
/// them a private IPv4 address would be reached by another name.
pub const SPECIAL_PURPOSE_RANGES: [SpecialRange; 30] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared between a provider and its customers"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(168, 63, 129, 16, 32), "the platform service of Azure"),
    (v4(169, 254, 0, 0, 16), "link-local, metadata services"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation; the guest's own links"),
    (v4(192, 88, 99, 0, 24), "withdrawn 6to4 relays"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarks"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved, broadcast"),
    (v6(0, 0, 0, 32), "unspecified, loopback, IPv4 inside IPv6"),
    (v6(0x64, 0xff9b, 0, 96), "IPv4 behind NAT64"),
    (v6(0x64, 0xff9b, 1, 48), "IPv4 behind a local NAT64"),
    (v6(0x100, 0, 0, 64), "discarded"),
    (v6(0x2001, 0, 0, 23), "protocol assignments, Teredo"),
    (v6(0x2001, 0xdb8, 0, 32), "documentation"),
    (v6(0x2002, 0, 0, 16), "IPv4 behind 6to4"),
    (v6(0x2620, 0x4f, 0x8000, 48), "AS112"),
    (v6(0x3fff, 0, 0, 20), "documentation"),
    (v6(0x5f00, 0, 0, 16), "segment routing"),
    (v6(0xfc00, 0, 0, 7), "private (unique local)"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "site-local, withdrawn"),
    (v6(0xff00, 0, 0, 8), "multicast"),
];

/// The special range that an address lies in; none for a public address.
#[must_use]
pub fn special_range(address: IpAddr) -> Option<SpecialRange> {
    SPECIAL_PURPOSE_RANGES.into_iter().find(|(range, _)| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_disjoint_and_have_no_bits_beyond_their_length() {
        for (i, (one, _)) in SPECIAL_PURPOSE_RANGES.iter().enumerate() {
            assert_eq!(*one, one.trunc(), "{one}");
            for (other, _) in &SPECIAL_PURPOSE_RANGES[i + 1..] {
                assert!(!one.contains(other) && !other.contains(one), "{one} {other}");
            }
        }
    }

    #[test]
    fn special_addresses_are_known_and_public_ones_are_not() {
        for special in [
            "0.1.2.3",
            "10.0.0.1",
            "100.127.255.255",
            "127.0.0.53",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.255.255",
            "224.0.0.251",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001::1",
        ] {
            assert!(special_range(special.parse().expect("an address")).is_some(), "{special}");
        }
        for public in [
            "1.1.1.1",
            "168.63.129.17",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(special_range(public.parse().expect("an address")).is_none(), "{public}");
        }
        for metadata in METADATA_ADDRESSES {
            assert!(special_range(metadata).is_some(), "{metadata}");
        }
    }
}
