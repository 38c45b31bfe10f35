//! How a VM's namespace is connected: what differs between the uplinks, and nothing else does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use super::bridge::Inside;
use super::link;
use super::names::{Upstream, host};
use super::rules::ResolverTransport;
use crate::id::VmId;
use crate::wire::guest::{Ipv6, Network};

/// DNS.
const DNS: u16 = 53;

/// Where packets go that leave the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Way {
    /// To pasta.
    User {
        /// What it does with DNS.
        resolver: ResolverTransport,
    },
    /// To the bridge.
    Bridge {
        /// The VM's place on it.
        inside: Inside,
        /// The VMs there that it reaches, and that reach it.
        peers: Vec<IpAddr>,
    },
}

impl Way {
    /// The guest's address.
    pub(crate) fn guest(&self) -> Ipv4Addr {
        match self {
            Self::User { .. } => link::GUEST,
            Self::Bridge { inside, .. } => inside.lease.ipv4,
        }
    }

    /// The guest's place in IPv6; none where it has none.
    pub(crate) fn ipv6(&self) -> Option<Ipv6> {
        let (address, range) = match self {
            Self::User { .. } => None,
            Self::Bridge { inside, .. } => Some((inside.lease.ipv6, inside.range6?)),
        }?;
        Some(Ipv6 { address, prefix: range.prefix_len(), gateway: link::GATEWAY6 })
    }

    /// The bridge's own address, from which the host asks; none where the guest has no IPv6.
    pub(crate) fn host6(&self) -> Option<Ipv6Addr> {
        match self {
            Self::User { .. } => None,
            Self::Bridge { inside, .. } => inside.range6.map(|_| inside.gateway.ipv6),
        }
    }

    /// Whom the keeper asks for names.
    pub(crate) fn resolver(&self) -> SocketAddrV4 {
        match self {
            Self::User { .. } => SocketAddrV4::new(link::RESOLVER, DNS),
            Self::Bridge { inside, .. } => SocketAddrV4::new(inside.gateway.ipv4, host::PORT),
        }
    }

    /// The same, to ask.
    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::on_a_link(vec![self.resolver().into()])
    }

    /// How it can be asked.
    pub(crate) fn transport(&self) -> ResolverTransport {
        match self {
            Self::User { resolver } => *resolver,
            Self::Bridge { .. } => ResolverTransport::UdpAndTcp,
        }
    }

    /// Whether the host opens connections to the guest by its address.
    pub(crate) fn leads_in(&self) -> bool {
        match self {
            Self::User { .. } => false,
            Self::Bridge { .. } => true,
        }
    }

    /// The VMs that it reaches, and that reach it.
    pub(crate) fn peers(&self) -> &[IpAddr] {
        match self {
            Self::User { .. } => &[],
            Self::Bridge { peers, .. } => peers,
        }
    }

    /// What the guest's agent has to set up.
    pub(crate) fn guest_network(&self, vm: &VmId) -> Network {
        let (address, prefix, gateway, mtu) = match self {
            Self::User { .. } => (link::GUEST, link::PREFIX, link::GATEWAY, link::MTU),
            Self::Bridge { inside, .. } => {
                (inside.lease.ipv4, inside.prefix4, inside.gateway.ipv4, inside.mtu)
            }
        };
        let (mac, resolver) = (link::mac_address(vm), link::GATEWAY);
        Network { mac, address, prefix, gateway, resolver, mtu, ipv6: self.ipv6() }
    }
}
