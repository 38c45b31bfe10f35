//! The names of VMs: one zone, forward and reverse.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{NS, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::{host_name, wire_name};
use crate::egress::{BadName, DnsName};
use crate::id::VmName;

/// How long an answer is good for, in seconds: VMs come and go, and their addresses with them.
const TTL: u32 = 5;

/// Where questions about the zone's keeper would go (RFC 6761: nowhere).
const NOBODY: [&str; 2] = ["nobody", "invalid"];

/// A state of the zone. A change is a new one, in the place of the old one.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    apex: Name,
    suffix: DnsName,
    serial: u32,
    addresses: HashMap<DnsName, Vec<IpAddr>>,
    names: HashMap<IpAddr, Name>,
}

/// What the zone has for a question about it.
pub(super) struct Found {
    /// `NoError`, or `NXDomain` where there is no such name.
    pub(super) code: ResponseCode,
    /// The records. None with `NoError`: there are others of this name.
    pub(super) answers: Vec<Record>,
    /// The zone's own record, where there are no others.
    pub(super) authorities: Vec<Record>,
}

impl Zone {
    /// An empty zone. `serial` has to grow with each state.
    #[must_use]
    pub(crate) fn new(apex: DnsName, serial: u32) -> Self {
        let (addresses, names) = (HashMap::new(), HashMap::new());
        Self { apex: wire_name(&apex), suffix: apex, serial, addresses, names }
    }

    /// Adds a VM. An address that two VMs have belongs to the one added last.
    ///
    /// # Errors
    /// When the VM's name in this zone is none of DNS; the zone is as before.
    pub(crate) fn add(&mut self, vm: &VmName, addresses: Vec<IpAddr>) -> Result<(), BadName> {
        let name: DnsName = format!("{}.{}", vm.as_str(), self.suffix).parse()?;
        let wire = wire_name(&name);
        self.names.extend(addresses.iter().map(|address| (*address, wire.clone())));
        self.addresses.insert(name, addresses);
        Ok(())
    }

    /// Answers what is about the zone or an address in it. `None`: it is about something else.
    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Option<Found> {
        if let Some(owner) = reverse(name).and_then(|address| self.names.get(&address)) {
            let data = RData::PTR(PTR(owner.clone()));
            let answers = (kind == RecordType::PTR).then(|| record(name, data));
            return Some(self.found(answers.into_iter().collect()));
        }
        if !self.apex.zone_of(name) {
            return None;
        }
        if self.apex == *name {
            return Some(self.found(self.own(kind).into_iter().collect()));
        }
        let addresses = host_name(name).ok().and_then(|name| self.addresses.get(&name));
        let Some(addresses) = addresses else {
            let authorities = vec![self.start()];
            return Some(Found { code: ResponseCode::NXDomain, answers: vec![], authorities });
        };
        let records = addresses.iter().map(|address| record(name, RData::from(*address)));
        Some(self.found(records.filter(|record| record.record_type() == kind).collect()))
    }

    fn found(&self, answers: Vec<Record>) -> Found {
        let authorities = if answers.is_empty() { vec![self.start()] } else { vec![] };
        Found { code: ResponseCode::NoError, answers, authorities }
    }

    /// The records of the zone itself.
    fn own(&self, kind: RecordType) -> Option<Record> {
        if kind == RecordType::SOA {
            return Some(self.start());
        }
        let server = RData::NS(NS(self.apex.clone()));
        (kind == RecordType::NS).then(|| record(&self.apex, server))
    }

    fn start(&self) -> Record {
        let nobody = Name::from_labels(NOBODY).expect("a plain name");
        let (refresh, retry, expire) = (60, 60, 600);
        let apex = self.apex.clone();
        let start = SOA::new(apex, nobody, self.serial, refresh, retry, expire, TTL);
        record(&self.apex, RData::SOA(start))
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` is about, when it is about one.
fn reverse(name: &Name) -> Option<IpAddr> {
    let range = name.parse_arpa_name().ok()?;
    (range.prefix_len() == range.max_prefix_len()).then(|| range.addr())
}

/// The range that a name of `in-addr.arpa` or `ip6.arpa` is about, or lies below: services are looked for
/// at names below that of a network. Of a name with labels that are no numbers, what stands behind them.
pub(super) fn reverse_range(name: &Name) -> Option<IpNet> {
    // The shortest that can be one has two labels.
    let mut suffixes = (2..=name.iter().count()).rev().map(|count| name.trim_to(count));
    suffixes.find_map(|suffix| suffix.parse_arpa_name().ok())
}
