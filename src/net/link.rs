//! The addresses on a guest's link. The same in every VM, because each has a namespace of its own; only on
//! the bridge the guest has another one, that of its lease.
//!
//! ```text
//!  guest 192.0.2.2/30 ── tap0 192.0.2.1 │ namespace │ uplink 192.0.2.6/30 ── pasta (192.0.2.5) ── host
//!                     the guest's resolver ────────── 192.0.2.53: where pasta answers for the host's
//! ```
//!
//! All of them lie in TEST-NET-1 (RFC 5737), which is never assigned to a host. Where a network uses it
//! all the same, nothing of it is reachable from a guest: policies refuse it, unless a rule is about it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::id::VmId;

/// The TAP device in the namespace.
pub(crate) const TAP: &str = "tap0";

/// The namespace's end of the guest's link.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The same by IPv6, where there is that: on the bridge only.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Length of the prefix of addresses of a link.
pub(crate) const LINK_LOCAL_PREFIX: u8 = 64;

/// The guest's end.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// pasta's end of the uplink.
pub(crate) const UPLINK_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);

/// The namespace's end of the uplink.
pub(crate) const UPLINK_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 6);

/// Where the keeper's proxy listens at [`GATEWAY`] for TLS connections that are redirected to it.
pub(crate) const PROXY_PORT: u16 = 443;

/// What the keeper asks for names. pasta sends what arrives there to the host's own resolver.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// Length of the prefix of both links.
pub(crate) const PREFIX: u8 = 30;

/// The largest packet on both links: pasta's own maximum (the largest IPv4 packet less an Ethernet
/// header, rounded down to words). pasta ends every TCP connection itself, so no path beyond it has to
/// carry packets of this size, and a guest spends its time per packet, not per byte, under emulation
/// most of all.
pub(crate) const MTU: u32 = 65520;

/// The guest's MAC address: the VM's id, marked as a unicast address that nobody registered.
pub(crate) fn mac_address(vm: &VmId) -> String {
    station(vm).map(|octet| format!("{octet:02x}")).join(":")
}

/// The same as bytes.
pub(crate) fn station(vm: &VmId) -> [u8; 6] {
    let bytes = crate::id::from_hex(vm.as_str()).and_then(|bytes| bytes.try_into().ok());
    let mut station: [u8; 6] = bytes.expect("a VM id is 12 hexadecimal digits");
    station[0] = (station[0] & 0b1111_1100) | 0b10;
    station
}

/// The address that the guest's kernel makes of it for the link alone (RFC 4291, appendix A).
pub(crate) fn link_local(vm: &VmId) -> Ipv6Addr {
    let [a, b, c, d, e, f] = station(vm);
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0b10, b, c, 0xff, 0xfe, d, e, f].into()
}

/// The uplink's interface in the namespace. It carries the VM's id so that the process with this name
/// among its arguments is known to be the VM's; 14 characters is what pasta of 2023 takes at most.
pub(crate) fn uplink_name(vm: &VmId) -> String {
    format!("up{vm}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_local_unicast_and_follow_the_id() {
        for (id, mac) in [
            ("000000000000", "02:00:00:00:00:00"),
            ("ffffffffffff", "fe:ff:ff:ff:ff:ff"),
            ("0123456789ab", "02:23:45:67:89:ab"),
        ] {
            assert_eq!(mac_address(&id.parse().expect("an id")), mac);
        }
    }

    #[test]
    fn the_link_local_address_is_the_stations() {
        let vm = "0123456789ab".parse().expect("an id");
        assert_eq!(link_local(&vm).to_string(), "fe80::23:45ff:fe67:89ab");
    }

    #[test]
    fn interface_names_fit() {
        assert_eq!(uplink_name(&VmId::random()).len(), 14);
    }
}
