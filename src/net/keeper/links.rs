//! The links of the namespace: the TAP device, its address, and the uplink that comes later.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};

use super::KeeperError;
use super::known::Known;
use crate::id::VmId;
use crate::net::bridge::{self, Inside};
use crate::net::link;
use crate::net::namespace::{self, Ipv6};
use crate::task::Tasks;

/// Whether the namespace has an interface of this name.
///
/// # Errors
/// When the kernel does not say.
pub(super) fn is_there(device: &str) -> io::Result<bool> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let is_its =
        |line: &str| line.trim_start().split_once(':').is_some_and(|(name, _)| name == device);
    Ok(text.lines().any(is_its))
}

/// A netlink socket for links, addresses and routes.
pub(super) struct Links {
    netlink: Handle,
    /// Something about addresses or routes has changed.
    changes: BoxStream<'static, ()>,
}

impl Links {
    /// Opens one. `tasks` drive it.
    pub(super) fn open(tasks: &Tasks) -> Result<Self, KeeperError> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
        let (connection, netlink, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(KeeperError::Netlink)?;
        drop(tasks.spawn("netlink", connection));
        Ok(Self { netlink, changes: messages.map(drop).boxed() })
    }

    /// Has `known` told whether there is an uplink, now and whenever that changes. `tasks` do it. Not knowing
    /// counts as having none.
    pub(super) fn watch_uplink(mut self, uplink: String, known: Arc<Known>, tasks: &Tasks) {
        drop(tasks.spawn_until_shutdown("uplink", async move {
            loop {
                known.set_uplink(is_there(&uplink).unwrap_or(false));
                if self.changes.next().await.is_none() {
                    known.set_uplink(false);
                    return;
                }
            }
        }));
    }

    /// Sets the switches, makes the TAP device and brings up what there is.
    pub(super) async fn set_up(&mut self, ipv6: Ipv6) -> Result<OwnedFd, KeeperError> {
        namespace::set_switches(ipv6).map_err(KeeperError::Switch)?;
        let tap = namespace::make_tap(link::TAP).map_err(KeeperError::Tap)?;
        self.bring_up("lo").await?;
        let index = self.bring_up(link::TAP).await?;
        let address = self.netlink.address().add(index, link::GATEWAY.into(), link::PREFIX);
        let device = link::TAP;
        let failed = |source| KeeperError::Device { device, source };
        address.execute().await.map_err(failed)?;
        if ipv6 == Ipv6::On {
            let length = link::LINK_LOCAL_PREFIX;
            let mut address = self.netlink.address().add(index, link::GATEWAY6.into(), length);
            // There is nobody but the guest, who is not asked whether it has it too.
            let at_once = AddressAttribute::Flags(AddressFlags::Nodad);
            address.message_mut().attributes.push(at_once);
            address.execute().await.map_err(failed)?;
        }
        Ok(tap)
    }

    async fn bring_up(&mut self, device: &'static str) -> Result<u32, KeeperError> {
        let failed = |source| KeeperError::Device { device, source };
        let mut links = self.netlink.link().get().match_name(device.to_owned()).execute();
        let found = links.try_next().await.map_err(failed)?;
        let index = found.ok_or(failed(rtnetlink::Error::RequestFailed))?.header.index;
        let mut message = LinkUnspec::new_with_index(index).up();
        if device == link::TAP {
            message = message.mtu(link::MTU);
        }
        let set = self.netlink.link().set(message.build()).execute().await;
        set.map_err(failed)?;
        Ok(index)
    }

    /// Sets up this end of the bridge's uplink, which is there.
    pub(super) async fn join(&mut self, vm: &VmId, inside: &Inside) -> Result<(), KeeperError> {
        bridge::join(&self.netlink, vm, link::TAP, inside).await.map_err(KeeperError::Join)
    }

    /// The default route is the last thing that the uplink configures, and nobody else makes one.
    pub(super) async fn await_uplink(&mut self) -> Result<(), KeeperError> {
        loop {
            let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
            let mut routes = Box::pin(self.netlink.route().get(every).execute());
            while let Some(route) = routes.try_next().await.map_err(KeeperError::Routes)? {
                if route.header.kind == RouteType::Unicast
                    && route.header.destination_prefix_length == 0
                {
                    return Ok(());
                }
            }
            if self.changes.next().await.is_none() {
                let gone = io::Error::from(io::ErrorKind::BrokenPipe);
                return Err(KeeperError::Netlink(gone));
            }
        }
    }
}
