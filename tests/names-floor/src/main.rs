//! A bare hickory server, the floor of the benchmark of names (`src/net/names/tests/measure.rs`).
//!
//! It knows one zone in memory: the name of the zone is the first line on stdin, and lines `NAME ADDRESS`
//! follow up to an empty one. It says on stdout where it listens (UDP on loopback), and answers until stdin
//! is closed.

use std::error::Error;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{NS, SOA};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::UdpSocket;

/// As in cove's zone, in seconds.
const TTL: u32 = 5;

type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut lines = std::io::stdin().lines();
    let mut next = || lines.next().transpose().map(Option::unwrap_or_default);
    let apex = Name::from_str(&next()?)?;
    let mut zone = Zone::empty(apex.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let start = SOA::new(apex.clone(), Name::from_str("nobody.invalid.")?, 1, 60, 60, 600, TTL);
    let mut add = |name, data| zone.upsert_mut(Record::from_rdata(name, TTL, data), 1);
    add(apex.clone(), RData::SOA(start));
    add(apex.clone(), RData::NS(NS(apex.clone())));
    loop {
        let line = next()?;
        let Some((name, address)) = line.split_once(' ') else { break };
        add(Name::from_str(name)?, RData::from(address.parse::<IpAddr>()?));
    }
    let mut catalog = Catalog::new();
    catalog.upsert(apex.into(), vec![Arc::new(zone)]);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        writeln!(std::io::stdout(), "{}", socket.local_addr()?)?;
        let mut server = Server::new(catalog);
        server.register_socket(socket);
        Ok::<_, std::io::Error>(server)
    };
    let server = runtime.block_on(server)?;
    lines.for_each(drop);
    drop(server);
    Ok(())
}
