//! Addresses of bridged VMs: which range they come from, and which one a VM gets.
//!
//! ```text
//!  range4 10.203.0.0/16:  .0.0 │ .0.1 gateway │ .0.2 slot 0 │ .0.3 slot 1 │ … │ .255.255 broadcast
//!  range6 fdxx:…::/64:    ::   │ ::1  gateway │ ::2  slot 0 │ ::3  slot 1 │ …
//! ```
//!
//! A lease is a *slot*: a number that stands for one address of each range. A VM's first choice of a slot
//! follows from its id, so that the same VM is likely to get the same address on another host; where that
//! is taken it gets the next free one. Pure: who has which slot is the database's to know.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::VmId;

/// The range of IPv4 addresses, unless the operator says otherwise. Of the private ranges this one is
/// rarely used: Docker takes 172.17.0.0 to 172.31.0.0 and 192.168.0.0/16; podman 10.88.0.0 and upwards
/// from 10.89.0.0 by /24; Kubernetes 10.96.0.0/12, 10.244.0.0/16 and 10.42.0.0/15; `OpenShift`
/// 10.128.0.0/14; and Google's networks only even second numbers from 10.128.0.0 on.
pub const DEFAULT_RANGE4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 203, 0, 0), 16);

/// Addresses of a range that no VM gets: the range itself, the gateway, and broadcast.
const RESERVED: u32 = 3;

/// How far slot 0 is from the range's first address: the gateway is in between.
const FIRST: u32 = 2;

/// The private ranges (RFC 1918), one of which has to hold `range4`.
const PRIVATE: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Why a range cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is no private range: part of the internet would not be reached any more.
    #[error("`{range}` is not a private range (10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16)")]
    NotPrivate {
        /// The range.
        range: Ipv4Net,
    },
    /// It has too few or too many addresses.
    #[error("`{range}` is too large or too small: a prefix of 12 to 29 bits is wanted")]
    Size {
        /// The range.
        range: Ipv4Net,
    },
    /// It is no unique local /64.
    #[error("`{range}` is not a /64 of the unique local addresses (fd00::/8)")]
    NotUniqueLocal {
        /// The range.
        range: Ipv6Net,
    },
    /// The address is not the range's first one.
    #[error("`{range}` has bits beyond its prefix: `{meant}` is meant")]
    Bits {
        /// The range as it was written.
        range: String,
        /// The same without those bits.
        meant: String,
    },
}

/// The ranges that bridged VMs have their addresses from. Valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RangesText", into = "RangesText")]
pub struct Ranges {
    range4: Ipv4Net,
    range6: Ipv6Net,
}

/// The same as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangesText {
    range4: String,
    range6: String,
}

/// The addresses of one VM, or of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address.
    pub ipv6: Ipv6Addr,
}

impl Ranges {
    /// Ranges for VMs.
    ///
    /// # Errors
    /// When one of them is not private, has bits beyond its prefix, or holds too few or too many.
    pub fn new(range4: Ipv4Net, range6: Ipv6Net) -> Result<Self, RangeError> {
        if range4 != range4.trunc() {
            let meant = range4.trunc().to_string();
            return Err(RangeError::Bits { range: range4.to_string(), meant });
        }
        if range6 != range6.trunc() {
            let meant = range6.trunc().to_string();
            return Err(RangeError::Bits { range: range6.to_string(), meant });
        }
        if !PRIVATE.iter().any(|private| private.contains(&range4)) {
            return Err(RangeError::NotPrivate { range: range4 });
        }
        if !(12..=29).contains(&range4.prefix_len()) {
            return Err(RangeError::Size { range: range4 });
        }
        if range6.prefix_len() != 64 || range6.addr().octets()[0] != 0xfd {
            return Err(RangeError::NotUniqueLocal { range: range6 });
        }
        Ok(Self { range4, range6 })
    }

    /// The range of IPv4 addresses.
    #[must_use]
    pub fn range4(&self) -> Ipv4Net {
        self.range4
    }

    /// The range of IPv6 addresses.
    #[must_use]
    pub fn range6(&self) -> Ipv6Net {
        self.range6
    }

    /// How many VMs can have an address at a time.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        (1 << (32 - u32::from(self.range4.prefix_len()))) - RESERVED
    }

    /// The bridge's own addresses.
    #[must_use]
    pub fn gateway(&self) -> Lease {
        self.nth(1)
    }

    /// The addresses that a slot stands for; none when the range ends before it.
    #[must_use]
    pub fn lease(&self, slot: u32) -> Option<Lease> {
        (slot < self.capacity()).then(|| self.nth(slot + FIRST))
    }

    /// The slot that a VM gets when nobody has it.
    #[must_use]
    pub fn first_choice(&self, vm: &VmId) -> u32 {
        let digest = Sha256::digest(vm.as_str());
        let bytes = digest.first_chunk().expect("a digest is 32 bytes");
        u32::from_be_bytes(*bytes) % self.capacity()
    }

    fn nth(&self, number: u32) -> Lease {
        Lease {
            ipv4: Ipv4Addr::from_bits(self.range4.network().to_bits() + number),
            ipv6: Ipv6Addr::from_bits(self.range6.network().to_bits() + u128::from(number)),
        }
    }
}

/// The range of IPv6 addresses, unless the operator says otherwise: a unique local /64 (RFC 4193) whose
/// random part follows from what is unique to the host (`/etc/machine-id`) and the user, so that daemon
/// and helper come to the same one.
#[must_use]
pub fn default_range6(machine: &str, user: u32) -> Ipv6Net {
    let digest = Sha256::digest(format!("cove bridge {} {user}", machine.trim()));
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&digest[..7]);
    Ipv6Net::new_assert(octets.into(), 64)
}

impl TryFrom<RangesText> for Ranges {
    type Error = String;

    fn try_from(text: RangesText) -> Result<Self, String> {
        let wrong = |range: &str| format!("`{range}` is no range of addresses");
        let range4 = text.range4.parse().map_err(|_| wrong(&text.range4))?;
        let range6 = text.range6.parse().map_err(|_| wrong(&text.range6))?;
        Self::new(range4, range6).map_err(|error| error.to_string())
    }
}

impl From<Ranges> for RangesText {
    fn from(ranges: Ranges) -> Self {
        Self { range4: ranges.range4.to_string(), range6: ranges.range6.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(range4: &str) -> Result<Ranges, RangeError> {
        Ranges::new(range4.parse().expect("a range"), default_range6("m", 0))
    }

    #[test]
    fn slots_stand_for_addresses_between_gateway_and_broadcast() {
        let small = ranges("10.9.8.0/29").expect("valid");
        assert_eq!(small.capacity(), 5);
        assert_eq!(small.gateway().ipv4, Ipv4Addr::new(10, 9, 8, 1));
        let all: Vec<_> =
            (0..).map_while(|slot| small.lease(slot)).map(|l| l.ipv4.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        let large = ranges("10.203.0.0/16").expect("valid");
        assert_eq!(large.capacity(), 65_533);
        assert_eq!(large.lease(65_532).map(|l| l.ipv4), Some(Ipv4Addr::new(10, 203, 255, 254)));
        assert_eq!(large.lease(65_533), None);
        let ipv6 = large.lease(0xff).expect("a lease").ipv6;
        assert_eq!(ipv6.segments()[4..], [0, 0, 0, 0x101]);
    }

    #[test]
    fn a_vm_has_one_first_choice() {
        let ranges = ranges("10.203.0.0/16").expect("valid");
        let vm = VmId::random();
        assert_eq!(ranges.first_choice(&vm), ranges.first_choice(&vm));
        assert!(ranges.first_choice(&vm) < ranges.capacity());
    }

    #[test]
    fn ranges_that_would_do_harm_are_refused() {
        for (range, part) in [
            ("11.0.0.0/16", "not a private range"),
            ("10.0.0.0/8", "too large or too small"),
            ("10.0.0.0/30", "too large or too small"),
            ("172.0.0.0/8", "not a private range"),
            ("10.1.2.3/16", "`10.1.0.0/16` is meant"),
        ] {
            let error = ranges(range).expect_err(range).to_string();
            assert!(error.contains(part), "{error}");
        }
        for range6 in ["2001:db8::/64", "fd00::/48", "fc00::/64", "fd00::1/64"] {
            assert!(Ranges::new(DEFAULT_RANGE4, range6.parse().expect("a range")).is_err());
        }
    }

    #[test]
    fn the_default_range_of_ipv6_follows_from_machine_and_user() {
        let one = default_range6("abc\n", 1000);
        assert_eq!(one, default_range6("abc", 1000));
        assert_ne!(one, default_range6("abc", 1001));
        assert_ne!(one, default_range6("abd", 1000));
        assert!(Ranges::new(DEFAULT_RANGE4, one).is_ok());
    }
}
