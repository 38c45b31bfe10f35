//! The guest's network devices, by netlink.

use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::failure::{During, Failure};
use crate::task::Tasks;
use crate::wire::guest::Network;

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
        .during(format!("route through {}", network.gateway))
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The network is IPv4 only; addresses that lead nowhere make programs wait. The loopback device keeps
/// its `::1`, which servers bind. A kernel without IPv6 has nothing to switch off.
fn ipv6_off() -> io::Result<()> {
    for (device, off) in [("all", "1"), ("default", "1"), ("lo", "0")] {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        match std::fs::write(path, off) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
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
    fn mac_addresses() {
        assert_eq!(parse_mac("02:00:5e:00:53:aF").expect("parses"), [2, 0, 0x5e, 0, 0x53, 0xaf]);
        for bad in
            ["", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "2:0:5e:0:53:1", "0x:00:5e:00:53:01"]
        {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
