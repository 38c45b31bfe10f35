//! The keeper as the daemon sees it: connections, and an answer to each question.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nlink::netlink::{Connection, Nftables};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::denials::Record;
use super::firewall::{Change, Firewall, FirewallError};
use super::known::Known;
use super::links::Links;
use super::naming::{self, Naming};
use super::{KeeperError, explain, log};
use crate::egress::{DnsName, Policy};
use crate::net::control::{Channel, Host, Reply, Request};
use crate::net::names;
use crate::net::ranges::Prefix;
use crate::net::rules::{self, ResolverTransport};
use crate::report::causes;
use crate::task::Tasks;
use crate::wire::rpc::Denials;

/// How many connections are served at a time. The daemon has one for as long as it runs, and one for
/// each question besides.
const MAX_CONNECTIONS: usize = 8;

/// After a failure of the listening socket itself, how long to leave it alone.
const PAUSE: Duration = Duration::from_millis(100);

/// The parts of a keeper, shared by its connections.
pub(super) struct Keeper {
    firewall: Firewall,
    known: Arc<Known>,
    record: Arc<Record>,
    /// For the counters alone; what changes the firewall has a socket of its own.
    counters: Connection<Nftables>,
    tap: OnceLock<OwnedFd>,
    tasks: Tasks,
}

impl Keeper {
    /// Starts what a keeper runs, in the namespace that this process is in.
    pub(super) async fn start(uplink: String) -> Result<Self, KeeperError> {
        let (tasks, known) = (Tasks::default(), Arc::new(Known::default()));
        let record = Arc::new(Record::default());
        let firewall = Firewall::start(uplink, known.clone(), &tasks)?;
        let counters = Connection::<Nftables>::new().map_err(FirewallError::Open)?;
        log::read(known.clone(), record.clone(), &tasks).await.map_err(KeeperError::Log)?;
        Ok(Self { firewall, known, record, counters, tap: OnceLock::new(), tasks })
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
                Ok(reply) => (reply, self.tap.get().filter(|_| gives_tap)),
                Err(error) => {
                    let mut why = vec![error.to_string()];
                    why.extend(causes(&error));
                    (Reply::Failed { why }, None)
                }
            };
            if channel.send(&reply, tap.map(AsFd::as_fd)).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: Request) -> Result<Reply, KeeperError> {
        match request {
            Request::SetUp { resolver, host, policy } => {
                self.set_up(resolver, host, policy).await?;
            }
            Request::AwaitUplink => Links::open(&self.tasks)?.await_uplink().await?,
            Request::HostAddresses { host } => self.firewall.change(Change::Host(host)).await?,
            Request::Policy { policy } => self.firewall.change(Change::Policy(policy)).await?,
            Request::Explain { host, port } => {
                let explained = match host {
                    Host::Address(address) => explain::address(&self.known, address, port),
                    Host::Name(name) => {
                        let addresses = self.resolve(&name).await;
                        explain::name(&self.known, &name, port, addresses.as_deref())
                    }
                };
                return Ok(Reply::Explained(explained.ok_or(FirewallError::NotSetUp)?));
            }
            Request::Denials { after, wait_ms } => {
                let wait = Duration::from_millis(wait_ms);
                return Ok(Reply::Denied(self.denials(after, wait).await?));
            }
        }
        Ok(Reply::Done)
    }

    /// What `name` resolves to now; none where the VM would not be told, or nobody answers.
    async fn resolve(&self, name: &DnsName) -> Option<Vec<IpAddr>> {
        let allowed = self.known.decide_name(name, None)?.allowed;
        if !allowed {
            return None;
        }
        names::ipv4_addresses(&naming::upstream(), name).await
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
        resolver: ResolverTransport,
        host: Vec<Prefix>,
        policy: Policy,
    ) -> Result<(), KeeperError> {
        self.firewall.change(Change::SetUp { resolver, host, policy }).await?;
        let tap = Links::open(&self.tasks)?.set_up().await?;
        let (known, record) = (self.known.clone(), self.record.clone());
        let naming = Naming { known, record, firewall: self.firewall.clone() };
        naming.serve(&self.tasks).await?;
        // A second setting up fails before it comes here.
        self.tap.get_or_init(|| tap);
        Ok(())
    }
}
