//! Whether the ranges of VMs are free on this host: neither an address of its own, nor a route, overlaps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::error::{BridgeError, Refusal};
use crate::vm::address::Ranges;

/// A range that the host has or knows a way to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Occupied {
    range: IpNet,
    device: Option<String>,
}

/// Looks for a conflict of `ranges` with what the host has. Default routes are none.
///
/// # Errors
/// When there is one, or the routes cannot be read.
pub(super) async fn check(netlink: &Handle, ranges: Ranges) -> Result<(), BridgeError> {
    let occupied = read(netlink).await?;
    find(ranges, &occupied).map_or(Ok(()), |conflict| Err(conflict.into()))
}

fn find(ranges: Ranges, occupied: &[Occupied]) -> Option<Refusal> {
    let ours = [(IpNet::V4(ranges.range4()), "range4"), (IpNet::V6(ranges.range6()), "range6")];
    ours.into_iter().find_map(|(range, key)| {
        let overlaps = |other: &&Occupied| {
            other.range.prefix_len() > 0
                && (range.contains(&other.range) || other.range.contains(&range))
        };
        let other = occupied.iter().find(overlaps)?;
        let mut with = format!("the route or address `{}`", other.range);
        if let Some(device) = &other.device {
            with.push_str(&format!(" on `{device}`"));
        }
        Some(Refusal::Conflict { range: range.to_string(), with, key })
    })
}

/// Every route of the host. Its own addresses are among them, as routes of the type *local*.
async fn read(netlink: &Handle) -> Result<Vec<Occupied>, BridgeError> {
    let mut names = BTreeMap::new();
    let mut links = Box::pin(netlink.link().get().execute());
    let failed = |source| BridgeError::Read { what: "interfaces", source };
    while let Some(link) = links.try_next().await.map_err(failed)? {
        let name = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        names.extend(name.map(|name| (link.header.index, name)));
    }
    let every4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let every6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut occupied = Vec::new();
    for every in [every4, every6] {
        let mut routes = Box::pin(netlink.route().get(every).execute());
        let failed = |source| BridgeError::Read { what: "routes", source };
        while let Some(route) = routes.try_next().await.map_err(failed)? {
            occupied.extend(range_of(&route).map(|range| Occupied {
                range,
                device: device_of(&route).and_then(|index| names.get(&index).cloned()),
            }));
        }
    }
    Ok(occupied)
}

fn range_of(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let range = IpNet::new(address?, route.header.destination_prefix_length).ok()?;
    Some(range.trunc())
}

fn device_of(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::address::{DEFAULT_RANGE4, default_range6};

    fn found(range: &str) -> Option<Refusal> {
        let ranges = Ranges::new(DEFAULT_RANGE4, default_range6("m", 0)).expect("valid");
        let range = range.parse().expect("a range");
        find(ranges, &[Occupied { range, device: Some("tun0".to_owned()) }])
    }

    #[test]
    fn what_overlaps_is_named_with_the_key_to_change() {
        for range in ["10.203.0.0/16", "10.203.7.0/24", "10.203.7.9/32", "10.0.0.0/8"] {
            let error = found(range).expect(range);
            assert_eq!(
                error.to_string(),
                format!(
                    "the range `10.203.0.0/16` for VMs overlaps the route or address `{range}` on `tun0` \
                     of this host"
                ),
            );
            assert!(matches!(error, Refusal::Conflict { key: "range4", .. }));
        }
        assert!(matches!(found("fd00::/8"), Some(Refusal::Conflict { key: "range6", .. })));
        for free in ["0.0.0.0/0", "::/0", "10.204.0.0/16", "192.168.0.0/16", "fe80::/64"] {
            assert_eq!(found(free), None, "{free}");
        }
    }
}
