//! Interfaces of the host: the bridge and its ports.
//!
//! What is ours is known by marks: a bridge by its alias, or (before it has one) by its station address,
//! which it has from the moment it exists; a port by its name together with the bridge that it is on, or
//! its alias. Neighbour and forwarding entries are written for both ends, so that nothing is learned.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use futures_util::TryStreamExt;
use nix::libc;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::error::{BridgeError, Refusal};
use super::setup::{Owner, Setup};
use super::{ipv6, port_name, station, vm_of_port};
use crate::id::VmId;
use crate::vm::address::Lease;

/// The largest packet on an uplink: what the path beyond usually carries.
pub(super) const MTU: u32 = 1500;

/// An interface as it was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its number.
    pub(super) index: u32,
    name: String,
    alias: Option<String>,
    station: Vec<u8>,
    controller: Option<u32>,
    kind: Option<InfoKind>,
}

impl Found {
    fn new(message: &LinkMessage) -> Self {
        let mut found = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            station: Vec::new(),
            controller: None,
            kind: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => found.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => found.alias = Some(alias.clone()),
                LinkAttribute::Address(address) => found.station.clone_from(address),
                LinkAttribute::Controller(index) => found.controller = Some(*index),
                LinkAttribute::LinkInfo(infos) => {
                    let kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.clone()),
                        _ => None,
                    });
                    found.kind = kind;
                }
                _ => {}
            }
        }
        found
    }

    /// Whether it is the bridge that says so.
    pub(super) fn forwarding_was_off(&self, owner: Owner) -> bool {
        self.alias.as_deref() == Some(&owner.mark_forwarding())
    }
}

/// The host's interfaces.
#[derive(Debug, Clone)]
pub(super) struct Links {
    netlink: Handle,
    owner: Owner,
}

fn failed(doing: &'static str, device: &str) -> impl Fn(rtnetlink::Error) -> BridgeError {
    move |source| BridgeError::Link { doing, device: device.to_owned(), source }
}

fn errno(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => -message.raw_code(),
        _ => 0,
    }
}

impl Links {
    pub(super) fn new(netlink: Handle, owner: Owner) -> Self {
        Self { netlink, owner }
    }

    async fn find(&self, name: &str) -> Result<Option<Found>, BridgeError> {
        let mut links = self.netlink.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(found) => Ok(found.as_ref().map(Found::new)),
            Err(error) if errno(&error) == libc::ENODEV => Ok(None),
            Err(source) => Err(BridgeError::Read { what: "interfaces", source }),
        }
    }

    /// The bridge, when it is there.
    ///
    /// # Errors
    /// When something else has its name.
    pub(super) async fn bridge(&self, name: &str) -> Result<Option<Found>, BridgeError> {
        let Some(found) = self.find(name).await? else {
            return Ok(None);
        };
        let marks = [self.owner.mark(), self.owner.mark_forwarding()];
        let ours = match &found.alias {
            Some(alias) => marks.contains(alias),
            None => found.station == self.owner.bridge_station(),
        };
        if ours && found.kind == Some(InfoKind::Bridge) {
            Ok(Some(found))
        } else {
            Err(Refusal::ForeignLink { name: name.to_owned() }.into())
        }
    }

    /// Makes the bridge, or completes one that was half made.
    pub(super) async fn make_bridge(&self, setup: &Setup) -> Result<Found, BridgeError> {
        let name = setup.name();
        if self.bridge(name).await?.is_none() {
            let bridge = LinkBridge::new(name)
                .down()
                .address(self.owner.bridge_station().to_vec())
                .mcast_snooping(false)
                .build();
            let added = self.netlink.link().add(bridge).execute().await;
            added.map_err(failed("make the bridge", name))?;
        }
        let found = self.bridge(name).await?;
        let found = found.ok_or_else(|| gone("make the bridge", name))?;
        if found.alias.is_none() {
            self.mark_bridge(&found, &self.owner.mark()).await?;
        }
        let up = LinkUnspec::new_with_index(found.index).up().build();
        let set = self.netlink.link().set(up).execute().await;
        set.map_err(failed("bring up the bridge", name))?;
        let (gateway, ranges) = (setup.ranges().gateway(), setup.ranges());
        let add = |address: IpAddr, length| {
            let mut add = self.netlink.address().add(found.index, address, length).replace();
            // Nobody else on the bridge can have it, and nobody there would answer.
            let at_once = AddressAttribute::Flags(AddressFlags::Nodad);
            add.message_mut().attributes.push(at_once);
            add.execute()
        };
        let added = add(gateway.ipv4.into(), ranges.range4().prefix_len()).await;
        added.map_err(failed("give an address to the bridge", name))?;
        if ipv6::is_on(name) {
            ipv6::forward_from(name)?;
            let added = add(gateway.ipv6.into(), ranges.range6().prefix_len()).await;
            added.map_err(failed("give an IPv6 address to the bridge", name))?;
        }
        Ok(found)
    }

    /// Writes a mark on the bridge.
    pub(super) async fn mark_bridge(&self, bridge: &Found, mark: &str) -> Result<(), BridgeError> {
        let marked = LinkUnspec::new_with_index(bridge.index).alias(mark).build();
        let set = self.netlink.link().set(marked).execute().await;
        set.map_err(failed("mark the bridge", &bridge.name))
    }

    /// The VMs that have a port, ours only.
    pub(super) async fn ports(
        &self,
        bridge: Option<&Found>,
    ) -> Result<Vec<(VmId, Found)>, BridgeError> {
        let mut links = Box::pin(self.netlink.link().get().execute());
        let mut ports = Vec::new();
        let read = |source| BridgeError::Read { what: "interfaces", source };
        while let Some(link) = links.try_next().await.map_err(read)? {
            let found = Found::new(&link);
            if let Some(vm) = vm_of_port(&found.name)
                && self.is_ours(&found, bridge)
            {
                ports.push((vm, found));
            }
        }
        Ok(ports)
    }

    /// Whether a port is ours: it is on our bridge, or has our mark.
    fn is_ours(&self, port: &Found, bridge: Option<&Found>) -> bool {
        let on_bridge = bridge.is_some_and(|bridge| port.controller == Some(bridge.index));
        let marked = port.alias.as_deref() == Some(&self.owner.mark());
        port.kind == Some(InfoKind::Veth) && (on_bridge || marked)
    }

    /// A VM's port, when it has one.
    ///
    /// # Errors
    /// When something else has its name.
    pub(super) async fn port(
        &self,
        vm: &VmId,
        bridge: Option<&Found>,
    ) -> Result<Option<Found>, BridgeError> {
        let name = port_name(vm);
        match self.find(&name).await? {
            Some(found) if self.is_ours(&found, bridge) => Ok(Some(found)),
            Some(_) => Err(Refusal::ForeignLink { name }.into()),
            None => Ok(None),
        }
    }

    /// Makes the pair of a VM: one end on the bridge, the other one in `namespace`, both down.
    pub(super) async fn make_port(
        &self,
        vm: &VmId,
        bridge: &Found,
        namespace: &OwnedFd,
    ) -> Result<(), BridgeError> {
        let name = port_name(vm);
        let inner = LinkMessageBuilder::<LinkUnspec>::new()
            .name(super::super::link::uplink_name(vm))
            .address(station(vm).to_vec())
            .mtu(MTU)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkVeth::new(&name, "")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inner)))
            .controller(bridge.index)
            .link_group(self.owner.group())
            .mtu(MTU)
            .build();
        let added = self.netlink.link().add(pair).execute().await;
        added.map_err(failed("make the uplink", &name))
    }

    /// Puts a port on the bridge as it has to be, and writes down at which port and station its VM is.
    pub(super) async fn set_up_port(
        &self,
        vm: &VmId,
        port: &Found,
        bridge: &Found,
        lease: Lease,
    ) -> Result<(), BridgeError> {
        let name = &port.name;
        let set = LinkUnspec::new_with_index(port.index)
            .alias(self.owner.mark())
            .link_group(self.owner.group())
            .controller(bridge.index)
            .build();
        let done = self.netlink.link().set(set).execute().await;
        done.map_err(failed("put on the bridge", name))?;
        let options = LinkBridgePort::new(port.index)
            .isolated(true)
            .learning(false)
            .flood(false)
            .mcast_flood(false)
            .bcast_flood(false)
            .guard(true)
            .build();
        let done = self.netlink.link().set_port(options).execute().await;
        done.map_err(failed("isolate the port", name))?;
        let at = station(vm);
        let forwarding = self.netlink.neighbours().add_bridge(port.index, &at);
        let forwarding =
            forwarding.state(NeighbourState::Noarp).flags(NeighbourFlags::Controller).replace();
        let done = forwarding.execute().await;
        done.map_err(failed("write down the station of", name))?;
        let mut addresses = vec![IpAddr::from(lease.ipv4)];
        if ipv6::is_on(&bridge.name) {
            addresses.push(lease.ipv6.into());
        }
        for address in addresses {
            let neighbour = self.netlink.neighbours().add(bridge.index, address);
            let done = neighbour.link_layer_address(&at).replace().execute().await;
            done.map_err(failed("write down the address of", name))?;
        }
        let up = LinkUnspec::new_with_index(port.index).up().build();
        let done = self.netlink.link().set(up).execute().await;
        done.map_err(failed("bring up", name))
    }

    /// Forgets of every address but these at which station it is.
    pub(super) async fn forget_others(
        &self,
        bridge: &Found,
        kept: &BTreeSet<IpAddr>,
    ) -> Result<(), BridgeError> {
        let mut entries = Box::pin(self.netlink.neighbours().get().execute());
        let read = |source| BridgeError::Read { what: "neighbours", source };
        let mut others = Vec::new();
        while let Some(entry) = entries.try_next().await.map_err(read)? {
            let ours = entry.header.ifindex == bridge.index
                && entry.header.state == NeighbourState::Permanent;
            if ours && address_of(&entry).is_some_and(|address| !kept.contains(&address)) {
                others.push(entry);
            }
        }
        for entry in others {
            match self.netlink.neighbours().del(entry).execute().await {
                Err(error) if errno(&error) != libc::ENOENT => {
                    return Err(failed("forget an address of", &bridge.name)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes an interface. That it is gone already is no error.
    pub(super) async fn remove(&self, found: &Found) -> Result<(), BridgeError> {
        match self.netlink.link().del(found.index).execute().await {
            Err(error) if errno(&error) != libc::ENODEV => {
                Err(failed("remove", &found.name)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn address_of(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((*address).into())
        }
        _ => None,
    })
}

fn gone(doing: &'static str, device: &str) -> BridgeError {
    failed(doing, device)(rtnetlink::Error::RequestFailed)
}
