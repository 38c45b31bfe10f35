//! The guest's network devices, by netlink.

use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::failure::{During, Failure};
use crate::task::Tasks;
use crate::wire::guest::{Ipv6, Network};

/// Brings up the loopback device and, where there is a network, its device.
///
/// # Errors
/// Names what could not be done.
pub async fn configure(tasks: &Tasks, network: Option<&Network>) -> Result<(), Failure> {
    let (connection, handle, _) = rtnetlink::new_connection().during("open netlink")?;
    let serving = tasks.spawn("netlink", connection);
    let done = configure_with(&handle, network).await;
    serving.abort();
    done
}

async fn configure_with(handle: &Handle, network: Option<&Network>) -> Result<(), Failure> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.during("list the network devices")?;
    if network.is_some() {
        ipv6_off().during("switch IPv6 off")?;
    }
    if let Some(loopback) = links.iter().find(|link| name(link) == Some("lo")) {
        let up = LinkUnspec::new_with_index(loopback.header.index).up().build();
        handle.link().set(up).execute().await.during("bring up `lo`")?;
    }
    match network {
        Some(network) => {
            let device = find(&links, network)
                .during(format!("find the network device `{}`", network.mac))?;
            connect(handle, device, network).await
        }
        None => Ok(()),
    }
}

fn find<'a>(links: &'a [LinkMessage], network: &Network) -> io::Result<&'a LinkMessage> {
    let address = LinkAttribute::Address(parse_mac(&network.mac)?.to_vec());
    links
        .iter()
        .find(|link| link.attributes.contains(&address))
        .ok_or_else(|| io::Error::other("no device has this address"))
}

/// Gives a device its address and routes everything through it. Done again, it changes nothing.
async fn connect(handle: &Handle, device: &LinkMessage, network: &Network) -> Result<(), Failure> {
    let index = device.header.index;
    let named = name(device).unwrap_or("?").to_owned();
    let (address, prefix) = (network.address, network.prefix);
    let add = handle.address().add(index, address.into(), prefix);
    add.replace()
        .execute()
        .await
        .during(format!("give `{named}` the address {address}/{prefix}"))?;
    let link = LinkUnspec::new_with_index(index);
    let up = link.mtu(network.mtu).up().build();
    handle.link().set(up).execute().await.during(format!("bring up `{named}`"))?;
    let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .gateway(network.gateway)
        .output_interface(index)
        .build();
    handle
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .during(format!("route through {}", network.gateway))?;
    match &network.ipv6 {
        Some(ipv6) => connect_ipv6(handle, (index, &named), ipv6).await,
        None => Ok(()),
    }
}

/// The same by IPv6, as far as the network goes: there is no way out, so programs are told at once. On a
/// kernel without IPv6 nothing is done.
async fn connect_ipv6(
    handle: &Handle,
    (index, named): (u32, &str),
    ipv6: &Ipv6,
) -> Result<(), Failure> {
    for (switch, value) in [("accept_ra", "0"), ("accept_redirects", "0"), ("disable_ipv6", "0")] {
        let set = set_ipv6(named, switch, value).during(format!("set `{switch}` of `{named}`"))?;
        if set == Switch::Missing {
            return Ok(());
        }
    }
    let Ipv6 { address, prefix, gateway } = *ipv6;
    // All others are behind the gateway: nobody is looked for on the link.
    let mut add = handle.address().add(index, address.into(), 128).replace();
    // Nobody else has it, and it is there at once.
    add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    add.execute().await.during(format!("give `{named}` the address {address}"))?;
    let route = RouteMessageBuilder::<std::net::Ipv6Addr>::new();
    let route = route.destination_prefix(network_of(address, prefix), prefix);
    let route = route.gateway(gateway).output_interface(index).build();
    let added = handle.route().add(route).replace().execute().await;
    added.during(format!("route through {gateway}"))
}

/// The first address of those that share so many leading bits with this one.
fn network_of(address: std::net::Ipv6Addr, prefix: u8) -> std::net::Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    std::net::Ipv6Addr::from_bits(address.to_bits() & mask)
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Addresses that lead nowhere make programs wait; a device whose network has IPv6 gets it back. The loopback
/// device keeps its `::1`, which servers bind. A kernel without IPv6 has nothing to switch off.
fn ipv6_off() -> io::Result<()> {
    for (device, off) in [("all", "1"), ("default", "1"), ("lo", "0")] {
        set_ipv6(device, "disable_ipv6", off)?;
    }
    Ok(())
}

/// Whether a kernel has a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    Set,
    Missing,
}

fn set_ipv6(device: &str, switch: &str, value: &str) -> io::Result<Switch> {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/{switch}"), value) {
        Ok(()) => Ok(Switch::Set),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Switch::Missing),
        Err(error) => Err(error),
    }
}

fn parse_mac(text: &str) -> io::Result<[u8; 6]> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a MAC address");
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() { Err(wrong()) } else { Ok(mac) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_addresses() {
        let address = "fd12:3456:789a:1:2::7".parse().expect("an address");
        for (prefix, network) in
            [(0, "::"), (64, "fd12:3456:789a:1::"), (128, "fd12:3456:789a:1:2::7")]
        {
            assert_eq!(network_of(address, prefix).to_string(), network);
        }
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(parse_mac("02:00:5e:00:53:aF").expect("parses"), [2, 0, 0x5e, 0, 0x53, 0xaf]);
        for bad in
            ["", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "2:0:5e:0:53:1", "0x:00:5e:00:53:01"]
        {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
