//! The keeper as the daemon sees it: connections, and an answer to each question.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nlink::netlink::{Connection, Nftables};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::denials::Record;
use super::firewall::{Change, Firewall, FirewallError};
use super::known::Known;
use super::links::{self, Links};
use super::naming::Naming;
use super::outside::{Exit, Outside};
use super::{KeeperError, explain, log};
use crate::egress::{DnsName, Policy};
use crate::id::VmId;
use crate::net::control::{Channel, Host, Reply, Request};
use crate::net::names;
use crate::net::namespace::Ipv6;
use crate::net::ranges::Prefix;
use crate::net::way::Way;
use crate::net::{link, rules};
use crate::report::causes;
use crate::task::Tasks;
use crate::wire::rpc::{Denials, NetExplanation};

/// How many connections are served at a time. The daemon has one for as long as it runs, and one for
/// each question besides.
const MAX_CONNECTIONS: usize = 8;

/// After a failure of the listening socket itself, how long to leave it alone.
const PAUSE: Duration = Duration::from_millis(100);

/// The parts of a keeper, shared by its connections.
pub(super) struct Keeper {
    vm: VmId,
    firewall: Firewall,
    known: Arc<Known>,
    record: Arc<Record>,
    /// For the counters alone; what changes the firewall has a socket of its own.
    counters: Connection<Nftables>,
    /// Until the namespace is set up: whether it is needed depends on the way.
    outside: Mutex<Option<Outside>>,
    set_up: OnceLock<SetUp>,
    tasks: Tasks,
}

/// What there is once the namespace is set up.
struct SetUp {
    way: Way,
    zone: DnsName,
    tap: OwnedFd,
}

impl Keeper {
    /// Starts what a keeper runs, in the namespace that this process is in; `outside` is in the host's.
    pub(super) async fn start(vm: VmId, outside: Outside) -> Result<Self, KeeperError> {
        let (tasks, known) = (Tasks::default(), Arc::new(Known::default()));
        let record = Arc::new(Record::default());
        let firewall = Firewall::start(&vm, known.clone(), &tasks).await?;
        let counters = Connection::<Nftables>::new().map_err(FirewallError::Open)?;
        log::read(known.clone(), record.clone(), &tasks).await.map_err(KeeperError::Log)?;
        let (outside, set_up) = (Mutex::new(Some(outside)), OnceLock::new());
        Ok(Self { vm, firewall, known, record, counters, outside, set_up, tasks })
    }

    /// Serves connections for good.
    pub(super) async fn serve(self, listener: UnixListener) -> Result<(), KeeperError> {
        listener.set_nonblocking(true).map_err(KeeperError::Listen)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(KeeperError::Listen)?;
        let keeper = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // The others wait in the socket's queue.
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Descriptors may be scarce for a while. Without a keeper the VM has no network.
                    tracing::warn!(%error, "the keeper cannot accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let served = keeper.clone();
            drop(keeper.tasks.spawn("connection", async move {
                served.talk(stream).await;
                drop(place);
            }));
        }
    }

    /// Answers one connection until it ends or breaks.
    async fn talk(&self, stream: UnixStream) {
        // In this user namespace the one user there is has the id 0.
        let own = nix::unistd::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
            return;
        }
        let mut channel = Channel::new(stream);
        while let Ok(Some(request)) = channel.receive::<Request>().await {
            let gives_tap = matches!(request, Request::SetUp { .. });
            // Cancel-safe: `receive` is; a request that is cut off belongs to somebody who is gone.
            let answered = tokio::select! {
                answered = self.answer(request) => answered,
                _ = channel.receive::<Request>() => return,
            };
            let (reply, tap) = match answered {
                Ok(reply) => (reply, self.set_up.get().filter(|_| gives_tap)),
                Err(error) => {
                    let mut why = vec![error.to_string()];
                    why.extend(causes(&error));
                    (Reply::Failed { why }, None)
                }
            };
            let tap = tap.map(|set_up| set_up.tap.as_fd());
            if channel.send(&reply, tap).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: Request) -> Result<Reply, KeeperError> {
        match request {
            Request::SetUp { way, zone, host, policy } => {
                self.set_up(way, zone, host, policy).await?;
            }
            Request::AwaitUplink => self.await_uplink().await?,
            Request::Peers { peers } => self.firewall.change(Change::Peers(peers)).await?,
            Request::HostAddresses { host } => self.firewall.change(Change::Host(host)).await?,
            Request::Policy { policy } => self.firewall.change(Change::Policy(policy)).await?,
            Request::Explain { host, port } => {
                let explained = match host {
                    Host::Address(address) => explain::address(&self.known, address, port),
                    Host::Name(name) => self.explain_name(&name, port).await,
                };
                let explained = explained.ok_or(FirewallError::NotSetUp)?;
                return Ok(Reply::Explained(self.with_uplink(explained)));
            }
            Request::Denials { after, wait_ms } => {
                let wait = Duration::from_millis(wait_ms);
                return Ok(Reply::Denied(self.denials(after, wait).await?));
            }
        }
        Ok(Reply::Done)
    }

    /// Nothing is reached without an uplink, whatever the policy says.
    fn with_uplink(&self, explained: NetExplanation) -> NetExplanation {
        match links::is_there(&link::uplink_name(&self.vm)) {
            Ok(true) | Err(_) => explained,
            Ok(false) => NetExplanation {
                allowed: false,
                because: "the uplink of its network has ended: `cove restart` gives it another"
                    .to_owned(),
                addresses: Vec::new(),
                would_allow: None,
            },
        }
    }

    async fn explain_name(&self, name: &DnsName, port: Option<u16>) -> Option<NetExplanation> {
        let set_up = self.set_up.get()?;
        if set_up.way.leads_in() && name.is_below(&set_up.zone) {
            let addresses = names::ipv4_addresses(&set_up.way.upstream(), name).await;
            return explain::vm(&self.known, port, &addresses.unwrap_or_default());
        }
        let addresses = self.resolve(name).await;
        explain::name(&self.known, name, port, addresses.as_deref())
    }

    /// What `name` resolves to now; none where the VM would not be told, or nobody answers.
    async fn resolve(&self, name: &DnsName) -> Option<Vec<IpAddr>> {
        let allowed = self.known.decide_name(name, None)?.allowed;
        if !allowed {
            return None;
        }
        names::ipv4_addresses(&self.set_up.get()?.way.upstream(), name).await
    }

    async fn await_uplink(&self) -> Result<(), KeeperError> {
        let mut links = Links::open(&self.tasks)?;
        match self.set_up.get().map(|set_up| &set_up.way) {
            None => Err(FirewallError::NotSetUp.into()),
            Some(Way::User { .. }) => links.await_uplink().await,
            Some(Way::Bridge { inside, .. }) => links.join(&self.vm, inside).await,
        }
    }

    async fn denials(&self, after: u64, wait: Duration) -> Result<Denials, KeeperError> {
        if self.known.policy().is_none() {
            return Err(FirewallError::NotSetUp.into());
        }
        self.record.wait(after, wait).await;
        let untold = rules::untold(&self.counters).await.map_err(KeeperError::Log)?;
        self.record.untold(untold);
        Ok(self.record.after(after))
    }

    /// Sets up the namespace. Rules first: nothing is forwarded without them.
    pub(super) async fn set_up(
        &self,
        way: Way,
        zone: DnsName,
        host: Vec<Prefix>,
        policy: Policy,
    ) -> Result<(), KeeperError> {
        self.firewall.change(Change::SetUp { way: way.clone(), host, policy }).await?;
        let ipv6 = if way.ipv6().is_some() { Ipv6::On } else { Ipv6::Off };
        let tap = Links::open(&self.tasks)?.set_up(ipv6).await?;
        let (known, record) = (self.known.clone(), self.record.clone());
        let naming = Naming { known, record, firewall: self.firewall.clone() };
        Links::open(&self.tasks)?.watch_uplink(
            link::uplink_name(&self.vm),
            self.known.clone(),
            &self.tasks,
        );
        let outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner).take();
        let outside = outside.ok_or(KeeperError::SetUpAlready)?;
        let exit = match &way {
            Way::User { .. } => Exit::Outside { sockets: outside, known: self.known.clone() },
            Way::Bridge { .. } => Exit::Namespace,
        };
        naming.serve(&way, (zone.clone(), exit), &self.tasks).await?;
        // A second setting up fails before it comes here.
        self.set_up.get_or_init(|| SetUp { way, zone, tap });
        Ok(())
    }
}
