//! The firewall of the namespace: one task that changes it, one change after the other.
//!
//! Everybody else asks it by [`Firewall`]. What it has loaded it writes into [`Known`], so that
//! decisions that are explained are those of the rules.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nlink::netlink::{Connection, Nftables};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answers::SPARE;
use super::known::Known;
use crate::egress::{DnsName, MAX_RULES, Mode, Policy, Ports};
use crate::id::VmId;
use crate::net::ranges::Prefix;
use crate::net::rules::{self, Ends, NamedElement};
use crate::net::way::Way;
use crate::net::{link, nftables};
use crate::task::Tasks;

/// The kernel takes milliseconds; a machine under load takes longer.
const KERNEL_DEADLINE: Duration = Duration::from_secs(20);

/// How far apart the kernel's clock and ours may be.
const A_LITTLE: Duration = Duration::from_secs(1);

/// How many elements of names go into one transaction, which the kernel takes only as long as it fits the
/// socket's buffer (208 KiB, or twice that). One is 28 bytes, and up to 76 more where it is replaced. As
/// many as the VM likes would keep the policy from being changed.
const ELEMENTS_PER_TRANSACTION: usize = 1024;

/// The buffer that is wished for; the kernel gives as much of it as it gives anybody.
const SEND_BUFFER: usize = 1 << 20;

/// How many changes may wait for the one that is being made.
const WAITING_CHANGES: usize = 16;

/// Why the firewall is not as it was wished.
#[derive(Debug, thiserror::Error)]
pub(super) enum FirewallError {
    #[error("cannot open a netlink socket for the firewall")]
    Open(#[source] nlink::Error),
    #[error("{}", nftables::MISSING)]
    NoNftables(#[source] nlink::Error),
    #[error("cannot load the firewall rules")]
    Rules(#[source] nlink::Error),
    #[error("the namespace is not set up yet")]
    NotSetUp,
    #[error("a policy has at most {MAX_RULES} rules")]
    TooManyRules,
    #[error("the VM's names resolve to too many addresses at once")]
    TooManyAnswers,
    #[error("the firewall is not kept any more")]
    Gone,
}

/// What can be changed.
#[derive(Debug)]
pub(super) enum Change {
    /// Everything, in an empty namespace.
    SetUp {
        /// How the namespace is connected.
        way: Way,
        /// The host's addresses.
        host: Vec<Prefix>,
        /// The first policy.
        policy: Policy,
    },
    /// The policy.
    Policy(Policy),
    /// The host's addresses.
    Host(Vec<Prefix>),
    /// The VMs of the bridge that this one reaches.
    Peers(Vec<IpAddr>),
    /// The VM is about to be told what a name resolved to.
    Answer {
        /// The name.
        name: DnsName,
        /// What it resolved to, as far as the VM may see it.
        addresses: Vec<IpAddr>,
        /// How long that is good.
        time: Duration,
    },
}

struct Order {
    change: Change,
    done: oneshot::Sender<Result<(), FirewallError>>,
}

/// How the others ask.
#[derive(Debug, Clone)]
pub(super) struct Firewall(mpsc::Sender<Order>);

impl Firewall {
    /// Starts the task, for the namespace that this process is in.
    pub(super) async fn start(
        vm: &VmId,
        known: Arc<Known>,
        tasks: &Tasks,
    ) -> Result<Self, FirewallError> {
        let netlink = open().await?.timeout(KERNEL_DEADLINE);
        // 256 rules that each redirect TLS take more than the buffer that there is.
        if let Err(error) = setsockopt(netlink.socket(), sockopt::SndBuf, &SEND_BUFFER) {
            tracing::debug!(%error, "the netlink socket keeps its buffer");
        }
        let (uplink, link_local) = (link::uplink_name(vm), link::link_local(vm));
        let mut changer = Changer { netlink, uplink, link_local, known, loaded: None };
        let (sender, mut orders) = mpsc::channel::<Order>(WAITING_CHANGES);
        drop(tasks.spawn("firewall", async move {
            while let Some(Order { change, done }) = orders.recv().await {
                // Who asked may be gone; the change is made all the same.
                drop(done.send(changer.change(change).await));
            }
        }));
        Ok(Self(sender))
    }

    /// Makes a change, and returns when it is in force.
    pub(super) async fn change(&self, change: Change) -> Result<(), FirewallError> {
        let (done, answer) = oneshot::channel();
        let order = Order { change, done };
        self.0.send(order).await.map_err(|_| FirewallError::Gone)?;
        answer.await.map_err(|_| FirewallError::Gone)?
    }
}

/// The namespace's nftables, once the kernel has shown that there are any.
async fn open() -> Result<Connection<Nftables>, FirewallError> {
    let failed = |error: nlink::Error| match nftables::are_missing(&error) {
        true => FirewallError::NoNftables(error),
        false => FirewallError::Open(error),
    };
    let netlink = Connection::<Nftables>::new().map_err(failed)?;
    netlink.list_tables().await.map_err(failed)?;
    Ok(netlink)
}

/// What the rules in force were made of.
struct Loaded {
    way: Way,
    policy: Policy,
    /// The mark of the flows that this policy, or a narrower one before it, has allowed.
    generation: u32,
    /// The ports whose sets of names there are.
    sets: BTreeSet<Option<Ports>>,
    /// Until when which elements are in them, about.
    placed: HashMap<(Option<Ports>, Ipv4Addr), Instant>,
}

fn placed(element: &NamedElement) -> ((Option<Ports>, Ipv4Addr), Instant) {
    ((element.ports, element.address), Instant::now() + element.time)
}

impl Loaded {
    /// Puts elements into the sets of names, but for those that are there and last for as long as their answers.
    async fn place(
        &mut self,
        netlink: &Connection<Nftables>,
        elements: &[NamedElement],
    ) -> Result<(), nlink::Error> {
        let now = Instant::now();
        let lasts = |element: &&NamedElement| {
            let until = self.placed.get(&(element.ports, element.address));
            until.is_some_and(|until| *until + (SPARE - A_LITTLE) >= now + element.time)
        };
        let elements: Vec<_> = elements.iter().filter(|element| !lasts(element)).copied().collect();
        for part in elements.chunks(ELEMENTS_PER_TRANSACTION) {
            self.place_part(netlink, part).await?;
        }
        Ok(())
    }

    /// An element that is there is replaced: kernels before 6.12 would keep its old end.
    async fn place_part(
        &mut self,
        netlink: &Connection<Nftables>,
        elements: &[NamedElement],
    ) -> Result<(), nlink::Error> {
        let now = Instant::now();
        // The kernel's clock may be a little behind.
        self.placed.retain(|_, until| *until + A_LITTLE > now);
        let is_there =
            |element: &NamedElement| self.placed.contains_key(&(element.ports, element.address));
        let replace = |batch, elements: &[NamedElement]| {
            let there = elements.iter().filter(|element| is_there(element));
            let batch = there.fold(batch, |batch, element| {
                rules::remove_named(batch, element.ports, element.address)
            });
            rules::add_named(batch, elements)
        };
        let done = replace(netlink.transaction(), elements).commit(netlink).await;
        match done {
            Err(error) if error.is_not_found() => {
                // One has just expired. Which one, only the kernel knows.
                for element in elements {
                    let element = std::slice::from_ref(element);
                    let replaced = replace(netlink.transaction(), element).commit(netlink).await;
                    match replaced {
                        Err(error) if error.is_not_found() => {
                            let added = rules::add_named(netlink.transaction(), element);
                            added.commit(netlink).await?;
                        }
                        replaced => replaced?,
                    }
                }
            }
            done => done?,
        }
        self.placed.extend(elements.iter().map(placed));
        Ok(())
    }
}

struct Changer {
    netlink: Connection<Nftables>,
    uplink: String,
    /// The guest's address on its link.
    link_local: Ipv6Addr,
    known: Arc<Known>,
    loaded: Option<Loaded>,
}

impl Changer {
    async fn change(&mut self, change: Change) -> Result<(), FirewallError> {
        match change {
            Change::SetUp { way, host, policy } => {
                self.known.set_guest(way.guest());
                let link_local = self.link_local;
                let ends = Ends { uplink: &self.uplink, link_local, way: &way };
                let table = rules::table(self.netlink.transaction(), ends, &host);
                table.commit(&self.netlink).await.map_err(FirewallError::Rules)?;
                self.known.set_host(host);
                self.known.set_peers(way.peers().to_vec());
                let policy_before = Policy { mode: Mode::Closed, rules: Vec::new() };
                let (sets, placed) = (BTreeSet::new(), HashMap::new());
                let loaded = Loaded { way, policy: policy_before, generation: 1, sets, placed };
                self.loaded = Some(loaded);
                self.set_policy(policy).await
            }
            Change::Policy(policy) => self.set_policy(policy).await,
            Change::Host(host) => {
                if self.loaded.is_none() {
                    return Err(FirewallError::NotSetUp);
                }
                self.known.add_host(&host);
                let changed = rules::host_addresses(self.netlink.transaction(), &host);
                changed.commit(&self.netlink).await.map_err(FirewallError::Rules)?;
                self.known.set_host(host);
                Ok(())
            }
            Change::Peers(peers) => {
                let way = &self.loaded.as_ref().ok_or(FirewallError::NotSetUp)?.way;
                let changed = rules::peers(self.netlink.transaction(), way, &peers);
                changed.commit(&self.netlink).await.map_err(FirewallError::Rules)?;
                self.known.set_peers(peers);
                Ok(())
            }
            Change::Answer { name, addresses, time } => self.answer(&name, &addresses, time).await,
        }
    }

    async fn answer(
        &mut self,
        name: &DnsName,
        addresses: &[IpAddr],
        time: Duration,
    ) -> Result<(), FirewallError> {
        let loaded = self.loaded.as_mut().ok_or(FirewallError::NotSetUp)?;
        let addresses: Vec<Ipv4Addr> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            })
            .collect();
        for address in &addresses {
            if !self.known.note_answer(name, *address, time) {
                return Err(FirewallError::TooManyAnswers);
            }
        }
        let wanted = |address| addresses.contains(&address);
        let elements = self.known.named_where(&loaded.policy, wanted);
        loaded.place(&self.netlink, &elements).await.map_err(FirewallError::Rules)
    }

    async fn set_policy(&mut self, policy: Policy) -> Result<(), FirewallError> {
        let loaded = self.loaded.as_mut().ok_or(FirewallError::NotSetUp)?;
        if policy.rules.len() > MAX_RULES {
            return Err(FirewallError::TooManyRules);
        }
        let narrower = rules::narrows(&loaded.policy, &policy);
        let generation =
            if narrower { rules::next_generation(loaded.generation) } else { loaded.generation };
        let named = self.known.named(&policy);
        let (first, rest) = named.split_at(named.len().min(ELEMENTS_PER_TRANSACTION));
        let batch = rules::judge(
            self.netlink.transaction(),
            Ends { uplink: &self.uplink, link_local: self.link_local, way: &loaded.way },
            (&policy, generation),
            &loaded.sets,
            first,
        );
        batch.commit(&self.netlink).await.map_err(FirewallError::Rules)?;
        loaded.sets = rules::name_ports(&policy);
        loaded.placed = first.iter().map(placed).collect();
        loaded.generation = generation;
        loaded.policy = policy.clone();
        self.known.set_policy(policy);
        // The policy is in force. What is not opened here is opened when the VM asks again.
        if let Err(error) = loaded.place(&self.netlink, rest).await {
            tracing::warn!(%error, "some answers are not in the firewall");
        }
        Ok(())
    }
}
