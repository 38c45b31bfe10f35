//! The guest's network, as its agent sets it up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The guest's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The MAC address of the device to configure, `xx:xx:xx:xx:xx:xx`.
    pub mac: String,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// The default gateway.
    pub gateway: Ipv4Addr,
    /// The resolver, for `/etc/resolv.conf`.
    pub resolver: Ipv4Addr,
    /// The maximum transmission unit in bytes.
    pub mtu: u32,
    /// Its place in IPv6; without one IPv6 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
}

impl Network {
    /// All addresses of the guest.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ipv6 = self.ipv6.map(|ipv6| ipv6.address.into());
        [self.address.into()].into_iter().chain(ipv6).collect()
    }
}

/// Where the guest is by IPv6. Nothing beyond its own network is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// The guest's address.
    pub address: Ipv6Addr,
    /// How many leading bits it shares with all others of its network, which are behind the gateway.
    pub prefix: u8,
    /// The gateway, an address of the link.
    pub gateway: Ipv6Addr,
}
