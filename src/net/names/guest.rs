//! The resolver that one guest asks. Runs where the guest's firewall is.
//!
//! ```text
//!  a name of our zone, an address in it ── the zone, here or upstream; never asked elsewhere
//!  an address that is not public ───────── no such name: the host's network is not asked what it calls it
//!  a range with such addresses ─────────── no such record; so for what is below its name
//!  no full host name ───────────────────── no such name, or refused
//!  a name that the judge refuses ───────── refused
//!  AAAA, HTTPS, SVCB ───────────────────── no such record
//!  A ───────────────────────────────────── upstream, then the judge, then what of it may be seen
//!  other types ─────────────────────────── upstream, as it is
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::message::{Extended, Question};
use super::reply::{ask, fill, from_zone, of_a_special_range};
use super::serve::{self, Answers, Bounds};
use super::{Judge, MAX_ADDRESSES, Upstream, Zone, host_name, wire_name, zone};
use crate::egress::{BadName, DnsName};
use crate::task::Tasks;

/// Which addresses a guest has a use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv4 only: a question for the others is answered at once, with nothing.
    Ipv4,
    /// The same of names outside, and both of VMs.
    BothOfVms,
}

/// Who knows the names of VMs.
pub(crate) enum VmNames {
    /// They are here, as they are now. The last state stays when the sender is gone.
    Here(watch::Receiver<Arc<Zone>>),
    /// The resolver upstream is ours, and knows them. Nobody judges them: what a name of a VM leads to is
    /// no place of the internet, and whether it may be reached is said of its address.
    Upstream {
        /// Their zone.
        zone: DnsName,
        /// Where VMs have their addresses.
        ranges: Vec<IpNet>,
    },
}

/// What a guest's resolver stands on.
pub(crate) struct GuestResolver {
    /// The names of VMs.
    pub(crate) zone: VmNames,
    /// Who is asked for other names.
    pub(crate) upstream: Upstream,
    /// Who decides.
    pub(crate) judge: Arc<dyn Judge>,
    /// What addresses the guest has a use for.
    pub(crate) families: Families,
}

/// Answers the guest on both sockets until shutdown, in tasks of `tasks`. Whoever reaches the sockets is
/// taken for the guest.
pub(crate) fn serve(udp: UdpSocket, tcp: TcpListener, resolver: GuestResolver, tasks: &Tasks) {
    serve::serve(udp, tcp, Arc::new(resolver), tasks);
}

#[async_trait]
impl Answers for GuestResolver {
    fn bounds(&self) -> Bounds {
        // There is one client.
        Bounds { questions: 64, connections: 16, parts: 1 }
    }

    fn hears(&self, _client: IpAddr) -> bool {
        true
    }

    async fn answer(&self, question: &Question, _client: IpAddr) -> Message {
        let (name, kind) = (question.query.name(), question.query.query_type());
        if let Some(message) = self.of_a_vm(question).await {
            return self.without_other_family(message);
        }
        if let Some(message) = of_a_special_range(question) {
            return message;
        }
        let host = match host_name(name) {
            Ok(host) => host,
            Err(BadName::NotFull { .. }) if kind.is_ip_addr() => {
                return question.reply(ResponseCode::NXDomain);
            }
            Err(_) => return question.fails(ResponseCode::Refused, Some(Extended::Blocked)),
        };
        if self.judge.may_resolve(&host).is_err() {
            return question.fails(ResponseCode::Refused, Some(Extended::Blocked));
        }
        let wanted = match kind {
            // IPv6 leads to no place outside.
            RecordType::AAAA => false,
            // They carry addresses that nobody has judged, and the keys with which a client hides the
            // server's name in its greeting, so that it could not be checked. Clients do without.
            RecordType::HTTPS | RecordType::SVCB => false,
            _ => true,
        };
        if !wanted {
            return question.reply(ResponseCode::NoError);
        }
        self.ask_upstream(question, &host).await
    }
}

impl GuestResolver {
    /// The answer to a question about the name of a VM, or its address.
    async fn of_a_vm(&self, question: &Question) -> Option<Message> {
        let name = question.query.name();
        match &self.zone {
            VmNames::Here(zone) => {
                let zone = Arc::clone(&zone.borrow());
                from_zone(&zone, question)
            }
            VmNames::Upstream { zone, ranges } => {
                let is_theirs = |asked| ranges.iter().any(|range| range.contains(&asked));
                let of_an_address = || zone::reverse_range(name).is_some_and(is_theirs);
                if !wire_name(zone).zone_of(name) && !of_an_address() {
                    return None;
                }
                Some(match ask(&self.upstream, question, name).await {
                    Ok((mut reply, answer)) => {
                        fill(&mut reply, answer);
                        reply
                    }
                    Err(failed) => *failed,
                })
            }
        }
    }

    fn without_other_family(&self, mut message: Message) -> Message {
        if self.families == Families::Ipv4 {
            message.answers.retain(|record| record.record_type() != RecordType::AAAA);
        }
        message
    }

    async fn ask_upstream(&self, question: &Question, host: &DnsName) -> Message {
        let (name, kind) = (wire_name(host), question.query.query_type());
        let (mut reply, mut answer) = match ask(&self.upstream, question, &name).await {
            Ok(asked) => asked,
            Err(failed) => return *failed,
        };
        if kind.is_ip_addr() && !answer.records.is_empty() {
            answer.records.truncate(MAX_ADDRESSES);
            let ttl = Duration::from_secs(answer.settle_ttl().into());
            match self.judge.answered(host, &answer.addresses(), ttl).await {
                Ok(allowed) => answer.keep(&allowed),
                Err(_) => return question.reply(ResponseCode::ServFail),
            }
            if answer.records.is_empty() {
                return question.fails(ResponseCode::Refused, Some(Extended::Blocked));
            }
        }
        fill(&mut reply, answer);
        reply
    }
}
