//! What of a nameserver's message is an answer to the question: the chain of aliases that begins at the
//! name, and the records of the type at its end. All else (addresses of other names, hints) is left out:
//! nobody has judged it.

use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::TTL_BOUNDS;

/// The longest chain of aliases that is followed.
const MAX_CHAIN: usize = 16;

/// An answer, without anything else.
pub(super) struct Answer {
    /// The aliases, in order, each of the name that the one before leads to.
    pub(super) chain: Vec<Record>,
    /// The records of the type that was asked for.
    pub(super) records: Vec<Record>,
    /// The zone's own record, which says for how long there is nothing. Only without records.
    pub(super) nothing: Option<Record>,
}

impl Answer {
    /// Takes it out of a message.
    pub(super) fn of(message: &mut Message, name: &Name, kind: RecordType) -> Self {
        let mut owner = name.clone();
        let mut chain = Vec::new();
        while kind != RecordType::CNAME && chain.len() < MAX_CHAIN {
            let alias = message.answers.iter().find(|record| is(record, &owner, RecordType::CNAME));
            let Some((alias, target)) = alias.and_then(|alias| Some((alias, target(alias)?)))
            else {
                break;
            };
            chain.push(good_for(alias.clone()));
            owner = target;
        }
        let records = message.answers.drain(..).filter(|record| is(record, &owner, kind));
        let records: Vec<_> = records.map(good_for).collect();
        let mut starts = message.authorities.drain(..);
        let start = starts.find(|record| record.record_type() == RecordType::SOA);
        let nothing = start.filter(|_| records.is_empty()).map(good_for);
        Self { chain, records, nothing }
    }

    /// The addresses among the records, in order.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.records.iter().filter_map(address).collect()
    }

    /// Leaves those addresses out that are not in `allowed`.
    pub(super) fn keep(&mut self, allowed: &[IpAddr]) {
        self.records.retain(|record| address(record).is_none_or(|found| allowed.contains(&found)));
    }

    /// How many seconds the whole is good for. What is said of each record afterwards.
    pub(super) fn settle_ttl(&mut self) -> u32 {
        let all = || self.chain.iter().chain(&self.records);
        let ttl = all().map(|record| record.ttl).min().unwrap_or(TTL_BOUNDS.0);
        for record in self.chain.iter_mut().chain(&mut self.records) {
            record.ttl = ttl;
        }
        ttl
    }
}

fn is(record: &Record, owner: &Name, kind: RecordType) -> bool {
    record.record_type() == kind && record.dns_class == DNSClass::IN && record.name == *owner
}

fn good_for(mut record: Record) -> Record {
    record.ttl = record.ttl.clamp(TTL_BOUNDS.0, TTL_BOUNDS.1);
    record
}

fn target(alias: &Record) -> Option<Name> {
    match &alias.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}
