//! The firewall's log: refused packets come from the kernel, and become denials.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::StreamExt;
use nlink::netlink::nflog::NflogPacket;
use nlink::netlink::{Connection, Nflog};

use super::denials::Record;
use super::known::Known;
use crate::egress::Because;
use crate::net::{link, rules};
use crate::task::Tasks;
use crate::wire::rpc::Tried;

/// What is said of a packet of another protocol.
const NOT_CARRIED: &str = "the VM's network carries TCP, UDP and ICMP only";

/// What is said of a packet to the namespace itself.
const GATEWAY: &str = "it is the VM's own gateway, which answers to `ping` and serves names";

/// What is said of QUIC to what only a name allows.
const NAME_HIDDEN: &str = "a name allows the address, and over UDP the server's name is hidden; by TCP it is \
     looked at";

/// What is said of a packet that would pass now.
const PASSES_NOW: &str = "the policy that was in force then";

/// Reads the log of this process's namespace from now on. `tasks` drive it.
pub(super) async fn read(
    known: Arc<Known>,
    record: Arc<Record>,
    tasks: &Tasks,
) -> Result<(), nlink::Error> {
    let netlink = Connection::<Nflog>::new()?;
    netlink.bind_group(rules::LOG_GROUP, rules::LOGGED_BYTES).await?;
    let mut packets = netlink.into_events().await;
    drop(tasks.spawn("firewall-log", async move {
        while let Some(packet) = packets.next().await {
            match packet {
                Ok(packet) => tell(&packet, &known, &record),
                // The kernel's queue was full. Other errors end the stream.
                Err(_) => record.lose(1),
            }
        }
    }));
    Ok(())
}

/// What a logged packet of IPv4 was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    port: Option<u16>,
}

impl Packet {
    /// Reads the header (RFC 791, section 3.1) and the port behind it, where there is one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<20>()?;
        let length = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || length < header.len() {
            return None;
        }
        let address =
            |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        let protocol = header[9];
        let has_port = matches!(protocol, 6 | 17);
        let port = bytes.get(length + 2..length + 4).filter(|_| has_port);
        let port = port.map(|port| u16::from_be_bytes([port[0], port[1]]));
        Some(Self { source: address(12), destination: address(16), protocol, port })
    }

    fn protocol_name(self) -> String {
        match self.protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => other.to_string(),
        }
    }
}

fn tell(packet: &NflogPacket, known: &Known, record: &Record) {
    let Some(packet) = Packet::read(&packet.payload) else { return };
    let Some(guest) = known.guest() else { return };
    if packet.source != guest {
        let because = format!("it is not the VM's address, which is {guest}");
        return record.write(Tried::Spoof { address: packet.source.into() }, because, None);
    }
    let address = IpAddr::V4(packet.destination);
    let Some(verdict) = known.decide(address, packet.port, None) else { return };
    let name = known.last_name(address);
    let what = Tried::Reach {
        protocol: packet.protocol_name(),
        address,
        port: packet.port,
        name: name.as_ref().map(ToString::to_string),
    };
    if packet.destination == link::GATEWAY {
        return record.write(what, GATEWAY.to_owned(), None);
    }
    if !matches!(packet.protocol, 1 | 6 | 17) {
        return record.write(what, NOT_CARRIED.to_owned(), None);
    }
    if packet.protocol == 17 && packet.port == Some(rules::TLS_PORT) && verdict.allowed {
        let would_allow = Because::NoRule.would_allow(None, Some(address), packet.port);
        return record.write(what, NAME_HIDDEN.to_owned(), would_allow);
    }
    if verdict.allowed {
        return record.write(what, PASSES_NOW.to_owned(), None);
    }
    let would_allow = verdict.because.would_allow(name.as_ref(), Some(address), packet.port);
    record.write(what, verdict.because.to_string(), would_allow);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_is_read_with_its_port_behind_options() {
        let mut bytes = vec![0; 28];
        bytes[0] = 0x46;
        bytes[9] = 6;
        bytes[12..16].copy_from_slice(&link::GUEST.octets());
        bytes[16..20].copy_from_slice(&[11, 2, 0, 80]);
        bytes[26..28].copy_from_slice(&443_u16.to_be_bytes());
        let read = Packet {
            source: link::GUEST,
            destination: Ipv4Addr::new(11, 2, 0, 80),
            protocol: 6,
            port: Some(443),
        };
        assert_eq!(Packet::read(&bytes), Some(read));
        bytes[9] = 47;
        assert_eq!(Packet::read(&bytes).map(Packet::protocol_name).as_deref(), Some("47"));
        assert_eq!(Packet::read(&bytes[..19]), None);
        assert_eq!(Packet::read(&bytes[..26]).and_then(|packet| packet.port), None);
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(Packet::read(&bytes).map(Packet::protocol_name));
        }
    }
}
