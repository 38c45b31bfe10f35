//! The uplink's other end, in the VM's namespace: what its keeper does there when the uplink has come.
//!
//! ```text
//!  guest 10.203.4.7/16, gateway 10.203.0.1
//!    │ asks for the gateway's station: tap0 answers (proxy ARP), with no delay
//!  tap0   10.203.4.7/32 is here
//!  up<id> 10.203.0.1/32 is here, at the bridge's station (written down, not asked for); so is the default
//! ```
//!
//! By IPv6 tap0 is the guest's gateway itself, with an address of the link, and to the uplink go only the
//! range of the bridge's VMs: nothing else is anywhere. Works with the power that a keeper has over its own
//! namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fs, io};

use futures_util::TryStreamExt;
use ipnet::{Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use serde::{Deserialize, Serialize};

use super::setup::{Owner, Setup};
use super::{links, station};
use crate::id::VmId;
use crate::vm::address::Lease;

/// Why the uplink could not be set up in the namespace.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// An interface is missing, or the kernel refuses something about it.
    #[error("cannot set up `{device}` in the namespace")]
    Device {
        /// The interface.
        device: String,
        /// Why.
        #[source]
        source: rtnetlink::Error,
    },
    /// A switch cannot be set.
    #[error("cannot set the switch `{switch}` of the namespace")]
    Switch {
        /// Which one.
        switch: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a keeper has to know of its VM's place on the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// The guest's addresses.
    pub lease: Lease,
    /// The bridge's.
    pub gateway: Lease,
    /// The bridge's station address.
    pub station: [u8; 6],
    /// How many leading bits of its IPv4 address a guest shares with all others.
    pub prefix4: u8,
    /// Where all VMs of the bridge have their IPv6 addresses; none where they have none.
    pub range6: Option<Ipv6Net>,
    /// The largest packet.
    pub mtu: u32,
}

impl Inside {
    /// Where all VMs of the bridge have their IPv4 addresses.
    #[must_use]
    pub fn range4(&self) -> Ipv4Net {
        Ipv4Net::new(self.gateway.ipv4, self.prefix4).map(|range| range.trunc()).unwrap_or_default()
    }

    /// For the VM with `slot` on the bridge `setup` of the daemon of `user`; none when there is no such
    /// slot.
    #[must_use]
    pub fn new(setup: &Setup, slot: u32, user: u32) -> Option<Self> {
        let ranges = setup.ranges();
        Some(Self {
            lease: ranges.lease(slot)?,
            gateway: ranges.gateway(),
            station: Owner::new(user).bridge_station(),
            prefix4: ranges.range4().prefix_len(),
            range6: Some(ranges.range6()),
            mtu: links::MTU,
        })
    }

    /// The same on a host that has no IPv6.
    #[must_use]
    pub fn without_ipv6(self) -> Self {
        Self { range6: None, ..self }
    }
}

/// Sets up both sides of this namespace for routing between the guest at `tap` and the uplink of `vm`,
/// which is there already. The default route is the last thing.
///
/// # Errors
/// When an interface is missing, or the kernel refuses.
pub async fn join(
    netlink: &Handle,
    vm: &VmId,
    tap: &str,
    inside: &Inside,
) -> Result<(), InsideError> {
    let uplink = super::super::link::uplink_name(vm);
    let (tap, uplink) = (find(netlink, tap).await?, find(netlink, &uplink).await?);
    // In place of what the guest is told by the bridge in other designs.
    set(&format!("ipv4/conf/{}/proxy_arp", tap.name), "1")?;
    set(&format!("ipv4/neigh/{}/proxy_delay", tap.name), "0")?;
    let address = LinkUnspec::new_with_index(uplink.index).address(station(vm).to_vec()).up();
    let up = netlink.link().set(address.build()).execute().await;
    up.map_err(uplink.failed())?;
    let (lease, gateway) = (inside.lease, inside.gateway);
    neighbour(netlink, &uplink, gateway.ipv4.into(), &inside.station).await?;
    route4(netlink, &tap, lease.ipv4).await?;
    route4(netlink, &uplink, gateway.ipv4).await?;
    if let Some(range) = inside.range6 {
        neighbour(netlink, &uplink, gateway.ipv6.into(), &inside.station).await?;
        route6(netlink, &tap, lease.ipv6).await?;
        route6(netlink, &uplink, gateway.ipv6).await?;
        let route = RouteMessageBuilder::<Ipv6Addr>::new();
        let route = route.destination_prefix(range.network(), range.prefix_len());
        let route = route.gateway(gateway.ipv6).output_interface(uplink.index).build();
        netlink.route().add(route).replace().execute().await.map_err(uplink.failed())?;
    }
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway.ipv4);
    let route = route.output_interface(uplink.index).build();
    netlink.route().add(route).replace().execute().await.map_err(uplink.failed())
}

struct Device {
    name: String,
    index: u32,
}

impl Device {
    fn failed(&self) -> impl Fn(rtnetlink::Error) -> InsideError {
        let device = self.name.clone();
        move |source| InsideError::Device { device: device.clone(), source }
    }
}

async fn find(netlink: &Handle, name: &str) -> Result<Device, InsideError> {
    let failed = |source| InsideError::Device { device: name.to_owned(), source };
    let mut links = netlink.link().get().match_name(name).execute();
    let found = links.try_next().await.map_err(failed)?;
    let found = found.ok_or_else(|| failed(rtnetlink::Error::RequestFailed))?;
    Ok(Device { name: name.to_owned(), index: found.header.index })
}

async fn neighbour(
    netlink: &Handle,
    device: &Device,
    address: IpAddr,
    station: &[u8; 6],
) -> Result<(), InsideError> {
    let neighbour = netlink.neighbours().add(device.index, address);
    let added = neighbour.link_layer_address(station).replace().execute().await;
    added.map_err(device.failed())
}

async fn route4(netlink: &Handle, device: &Device, address: Ipv4Addr) -> Result<(), InsideError> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32);
    let route = route.scope(RouteScope::Link).output_interface(device.index).build();
    netlink.route().add(route).replace().execute().await.map_err(device.failed())
}

async fn route6(netlink: &Handle, device: &Device, address: Ipv6Addr) -> Result<(), InsideError> {
    let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128);
    let route = route.output_interface(device.index).build();
    netlink.route().add(route).replace().execute().await.map_err(device.failed())
}

fn set(switch: &str, value: &str) -> Result<(), InsideError> {
    let written = fs::write(format!("/proc/sys/net/{switch}"), value);
    written.map_err(|source| InsideError::Switch { switch: switch.to_owned(), source })
}
