//! Names, for the VM: the resolver at the gateway, the proxy that looks at TLS server names, and what both
//! of them ask before they do anything.

use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::KeeperError;
use super::denials::Record;
use super::firewall::{Change, Firewall};
use super::known::Known;
use super::outside::Exit;
use crate::egress::{Because, DnsName, Ports, Rule, Target, Verdict};
use crate::net::names::guest::{Families, GuestResolver, VmNames};
use crate::net::names::{self, Judge, NotOpened, Refused, Zone};
use crate::net::way::Way;
use crate::net::{link, sni};
use crate::task::Tasks;
use crate::wire::rpc::Tried;

/// DNS.
const PORT: u16 = 53;

/// How long an answer stays good after the guest may have forgotten it: connecting takes time too.
const AFTER_ANSWER: Duration = Duration::from_secs(5);

/// For how long after an answer was good a connection to its address may name its server: it may have begun
/// when the answer was good, and takes its time to greet.
const AFTER_CONNECTING: Duration = Duration::from_secs(60);

/// Who judges names.
#[derive(Clone)]
pub(super) struct Naming {
    pub(super) known: Arc<Known>,
    pub(super) record: Arc<Record>,
    pub(super) firewall: Firewall,
}

impl Naming {
    /// Serves the guest from now on. The gateway's address has to be there. By `exit` the proxy's connections
    /// leave. `tasks` do it.
    pub(super) async fn serve(
        self,
        way: &Way,
        (zone, exit): (DnsName, Exit),
        tasks: &Tasks,
    ) -> Result<(), KeeperError> {
        let gateway = link::GATEWAY;
        let udp = UdpSocket::bind((gateway, PORT)).await.map_err(KeeperError::Names)?;
        let tcp = TcpListener::bind((gateway, PORT)).await.map_err(KeeperError::Names)?;
        let proxy = TcpListener::bind((gateway, link::PROXY_PORT)).await;
        let proxy = proxy.map_err(KeeperError::Names)?;
        let zone = match way {
            // It is empty: VMs of mode `user` cannot reach each other.
            Way::User { .. } => VmNames::Here(watch::channel(Arc::new(Zone::new(zone, 1))).1),
            Way::Bridge { inside, .. } => {
                let ranges = [Some(inside.range4().into()), inside.range6.map(IpNet::from)];
                VmNames::Upstream { zone, ranges: ranges.into_iter().flatten().collect() }
            }
        };
        let families = if way.ipv6().is_some() { Families::BothOfVms } else { Families::Ipv4 };
        let judge = Arc::new(self);
        let resolver =
            GuestResolver { zone, upstream: way.upstream(), judge: judge.clone(), families };
        names::guest::serve(udp, tcp, resolver, tasks);
        let exit = Arc::new(exit);
        let connect = move |address| {
            let exit = exit.clone();
            async move { exit.connect(address).await }
        };
        sni::serve(proxy, judge, connect, tasks);
        Ok(())
    }

    fn refuse(&self, what: Tried, because: &Because, would_allow: Option<Rule>) -> Refused {
        self.record.write(what, because.to_string(), would_allow);
        Refused
    }

    /// Whether the policy lets a TLS connection to `address` ask for the server `name`.
    fn policy_lets(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused> {
        let (to, port) = (IpAddr::V4(*address.ip()), Some(address.port()));
        let verdict = match name {
            Some(name) => self.known.decide_name(name, port),
            None => self.known.decide(to, port, None),
        };
        let Some(Verdict { allowed, because }) = verdict else { return Err(Refused) };
        let because = match because {
            // A name allows the address, and this greeting does not say which.
            Because::Answer(..) if name.is_none() => Because::NoRule,
            _ if allowed => return Ok(()),
            because => because,
        };
        let would_allow = because.would_allow(name, Some(to), port);
        let what = Tried::Greet { address: to, name: name.map(ToString::to_string) };
        Err(self.refuse(what, &because, would_allow))
    }

    /// A name whose addresses are all none that the guest may reach, as the first of them says.
    fn leads_nowhere(&self, name: &DnsName, addresses: &[IpAddr]) {
        let Some(address) = addresses.first() else { return };
        let Some(verdict) = self.known.decide(*address, None, Some(name)) else { return };
        let because = format!("it resolved to {address}: {}", verdict.because);
        let would_allow = verdict.because.would_allow(None, Some(*address), None);
        self.record.write(Tried::Resolve { name: name.to_string() }, because, would_allow);
    }
}

#[async_trait]
impl Judge for Naming {
    fn may_resolve(&self, name: &DnsName) -> Result<(), Refused> {
        let Some(Verdict { allowed, because }) = self.known.decide_name(name, None) else {
            return Err(Refused);
        };
        if allowed {
            return Ok(());
        }
        let would_allow = because.would_allow(Some(name), None, None);
        Err(self.refuse(Tried::Resolve { name: name.to_string() }, &because, would_allow))
    }

    async fn answered(
        &self,
        name: &DnsName,
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<Vec<IpAddr>, NotOpened> {
        let visible: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|address| self.known.may_be_seen(*address, name))
            .collect();
        if visible.is_empty() {
            self.leads_nowhere(name, addresses);
            return Ok(visible);
        }
        let (addresses, time) = (visible.clone(), ttl + AFTER_ANSWER);
        let answer = Change::Answer { name: name.clone(), addresses, time };
        self.firewall.change(answer).await.map_err(|error| {
            tracing::warn!(%error, "an answer is not in the firewall");
            self.record.write(Tried::Resolve { name: name.to_string() }, error.to_string(), None);
            NotOpened
        })?;
        Ok(visible)
    }
}

impl sni::GreetingJudge for Naming {
    fn may_greet(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused> {
        self.policy_lets(address, name)?;
        let Some(name) = name else { return Ok(()) };
        let (to, ports) = (*address.ip(), Ports { first: address.port(), last: address.port() });
        if self.known.has_resolved(name, to, AFTER_CONNECTING) {
            return Ok(());
        }
        // Some other name leads here. Who is behind the address could be anybody.
        let what = Tried::Greet { address: to.into(), name: Some(name.to_string()) };
        let because = format!("`{name}` did not resolve to it when the VM asked last");
        let target = Target::Range(IpNet::from(IpAddr::V4(to)));
        self.record.write(what, because, Some(Rule { target, ports: Some(ports) }));
        Err(Refused)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.known.changes()
    }

    fn may_go_on(&self, address: SocketAddrV4, name: Option<&DnsName>) -> Result<(), Refused> {
        if !self.known.leads_out(*address.ip()) {
            return Err(Refused);
        }
        self.policy_lets(address, name)
    }
}
