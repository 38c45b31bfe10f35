//! The tables of a bridge on the host: two, with the bridge's name, and nothing in any other.
//!
//! ```text
//!  bridge: prerouting ── from a VM's port ── checked: port, station and address are one VM's → on
//!                                                     anything else, ARP and IPv6's own too  → drop
//!  inet:   forward ── from the bridge ── from_vms: the source is no VM's                    → drop
//!                  │                               IPv6 out of another interface              → drop
//!                  └─ into the bridge ── to_vms:   established, related; a pair of peers    → accept
//!                                                  anything else                            → drop
//!          postrouting ── from a VM, out of another interface                               → masquerade
//!          output ── an answer about names, by another user than the daemon's               → drop
//! ```
//!
//! All base chains accept what no rule is about: it is somebody else's. They are loaded whole, in one
//! transaction, so there is no moment with half of them. What the host itself sends is not forwarded,
//! and so reaches every VM. What is dropped gets no answer here: the namespace of a VM refuses, with an
//! answer, whatever its policy does not allow; these rules are for what gets past that.

use std::fmt;

use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, CmpOp, CtState, Expr, Family, FilterHook, LookupExpr, MetaKey,
    NatHook, PacketField, PayloadBase, Priority, Register, Rule, Set, SetElement, SetKeyType,
    Table, Transaction, Verdict,
};
use nlink::netlink::{Connection, Nftables};

use super::super::names::host;
use super::error::{BridgeError, Refusal};
use super::plan::HostPlan;
use super::setup::Owner;
use super::{port_name, station};

/// nft's name for interface names as keys (`TYPE_IFNAME` of its `datatype.h`), and their length.
const INTERFACE_NAME: SetKeyType = SetKeyType::Other { type_id: 41, len: 16 };

/// Before those that bridges of other programs have (`NF_BR_PRI_FILTER_BRIDGED`).
const BEFORE_OTHERS: Priority = Priority::Custom(-250);

/// Elements in one message, which has a bound of 64 KiB.
const ELEMENTS: usize = 500;

/// The tables' families.
const FAMILIES: [Family; 2] = [Family::Inet, Family::Bridge];

/// The host's rules for one bridge.
pub(super) struct Rules {
    netlink: Connection<Nftables>,
    owner: Owner,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Rules {
    /// Rules with `owner` as their mark. Needs a runtime.
    pub(super) fn open(owner: Owner) -> Result<Self, BridgeError> {
        let opened = Connection::<Nftables>::new();
        let netlink = opened.map_err(|source| BridgeError::reading("open", source))?;
        Ok(Self { netlink, owner })
    }

    /// Replaces the tables by those of `plan`.
    pub(super) async fn load(&self, plan: &HostPlan) -> Result<(), BridgeError> {
        let mut transaction = self.without(&self.check(plan.setup.name()).await?);
        transaction = forwarding(transaction, plan, self.owner);
        transaction = anti_spoofing(transaction, plan, self.owner);
        self.commit("load", transaction).await
    }

    /// Removes the tables. That they are not there, or not ours, is no error.
    pub(super) async fn remove(&self, bridge: &str) -> Result<(), BridgeError> {
        let ours: Vec<Table> =
            self.found(bridge).await?.into_iter().filter(|table| self.is_ours(table)).collect();
        if ours.is_empty() {
            return Ok(());
        }
        self.commit("remove", self.without(&ours)).await
    }

    /// The tables of this name, which are ours.
    ///
    /// # Errors
    /// When one is not.
    pub(super) async fn check(&self, bridge: &str) -> Result<Vec<Table>, BridgeError> {
        let found = self.found(bridge).await?;
        match found.iter().find(|table| !self.is_ours(table)) {
            Some(foreign) => {
                let (family, name) = (foreign.family.to_string(), foreign.name.clone());
                Err(Refusal::ForeignTable { family, name }.into())
            }
            None => Ok(found),
        }
    }

    fn is_ours(&self, table: &Table) -> bool {
        table.comment.as_deref() == Some(&self.owner.mark())
    }

    fn without(&self, tables: &[Table]) -> Transaction {
        let begin = self.netlink.transaction();
        tables.iter().fold(begin, |all, table| all.del_table(&table.name, table.family))
    }

    async fn found(&self, bridge: &str) -> Result<Vec<Table>, BridgeError> {
        let listed = self.netlink.list_tables().await;
        let mut listed = listed.map_err(|source| BridgeError::reading("list", source))?;
        listed.retain(|table| table.name == bridge && FAMILIES.contains(&table.family));
        Ok(listed)
    }

    async fn commit(&self, doing: &'static str, rules: Transaction) -> Result<(), BridgeError> {
        let committed = rules.commit(&self.netlink).await;
        committed.map_err(|source| BridgeError::Rules { doing, source })
    }
}

fn chain(table: &str, family: Family, name: &str, base: Option<BaseChain>) -> Chain {
    let chain = Chain::new(table, name).expect("names of chains are valid here").family(family);
    match base {
        Some(base) => chain.base(base),
        None => chain,
    }
}

fn jump(name: &str) -> ChainName {
    ChainName::new(name).expect("names of chains are valid here")
}

fn with_set(
    transaction: Transaction,
    set: &Set,
    elements: impl IntoIterator<Item = SetElement>,
) -> Transaction {
    let elements: Vec<SetElement> = elements.into_iter().collect();
    let transaction = transaction.add_set(set.clone());
    elements.chunks(ELEMENTS).fold(transaction, |all, some| all.add_set_elements(set, some))
}

/// The table `inet NAME`: who may be forwarded to whom, and behind which address.
fn forwarding(transaction: Transaction, plan: &HostPlan, owner: Owner) -> Transaction {
    use PacketField::{Ip4Daddr, Ip4Saddr, Ip6Daddr, Ip6Saddr};
    let (name, family) = (plan.setup.name(), Family::Inet);
    let set = |set: &str, key| Set::new(name, set).family(family).key_type(key);
    let pair = |key: SetKeyType| SetKeyType::Concat(vec![key.clone(), key]);
    let ranges = plan.setup.ranges();
    let pairs = plan.pairs();
    let pairs = || {
        let both = pairs.iter().map(|(one, other)| ranges.lease(*one).zip(ranges.lease(*other)));
        both.flatten()
    };
    let (ipv4, ipv6) = (SetElement::ipv4, SetElement::ipv6);
    let mut all = transaction.add_table_with_comment(name, family, 0, Some(&owner.mark()));
    let vms4 = plan.leases().map(|(_, lease)| ipv4(lease.ipv4));
    all = with_set(all, &set("vms4", SetKeyType::Ipv4Addr), vms4);
    let vms6 = plan.leases().map(|(_, lease)| ipv6(lease.ipv6));
    all = with_set(all, &set("vms6", SetKeyType::Ipv6Addr), vms6);
    let peers4 = pairs().map(|(a, b)| SetElement::concat([ipv4(a.ipv4), ipv4(b.ipv4)]));
    all = with_set(all, &set("peers4", pair(SetKeyType::Ipv4Addr)), peers4);
    let peers6 = pairs().map(|(a, b)| SetElement::concat([ipv6(a.ipv6), ipv6(b.ipv6)]));
    all = with_set(all, &set("peers6", pair(SetKeyType::Ipv6Addr)), peers6);

    let forward = BaseChain::filter(FilterHook::Forward, Priority::Filter);
    let postrouting = BaseChain::nat(NatHook::Postrouting, Priority::SrcNat);
    let output = BaseChain::filter(FilterHook::Output, Priority::Filter);
    let chains = [
        ("from_vms", None),
        ("to_vms", None),
        ("forward", Some(forward)),
        ("postrouting", Some(postrouting)),
        ("output", Some(output)),
    ];
    for (one, base) in chains {
        all = all.add_chain(chain(name, family, one, base));
    }
    let rule = |chain: &str| Rule::new(name, chain).family(family);
    let leaves = |rule: Rule| rule.then(Verdict::Return);
    let known = CtState::ESTABLISHED | CtState::RELATED;
    let (to_peer4, to_peer6) = ([Ip4Saddr, Ip4Daddr], [Ip6Saddr, Ip6Daddr]);
    let from_bridge = || rule("to_vms").match_iif(name);
    let rules = [
        leaves(rule("from_vms").match_saddr_in_set("vms4")),
        leaves(rule("from_vms").match_oif(name).match_in_set(Ip6Saddr, "vms6")),
        rule("from_vms").counter().drop(),
        rule("to_vms").match_ct_state(known).accept(),
        from_bridge().match_concat_in_set(&to_peer4, "peers4").accept(),
        from_bridge().match_concat_in_set(&to_peer6, "peers6").accept(),
        rule("to_vms").counter().drop(),
        rule("forward").match_iif(name).jump(jump("from_vms")),
        rule("forward").match_oif(name).jump(jump("to_vms")),
        rule("postrouting").match_oif_not(name).match_saddr_in_set("vms4").masquerade(),
        // Anybody may bind the port while the daemon does not have it. VMs believe what it says.
        of_another(rule("output").match_oif(name).match_udp_sport(host::PORT), owner).drop(),
        of_another(rule("output").match_oif(name).match_tcp_sport(host::PORT), owner).drop(),
    ];
    rules.into_iter().fold(all, Transaction::add_rule)
}

/// Of what `rule` is about, what sockets of others than the owner send.
fn of_another(rule: Rule, owner: Owner) -> Rule {
    let (user, data) = (Register::R0, owner.user().to_ne_bytes().to_vec());
    rule.expr(Expr::Meta { dreg: user, key: MetaKey::SkUid }).expr(Expr::Cmp {
        sreg: user,
        op: CmpOp::Neq,
        data,
    })
}

/// The table `bridge NAME`: from each port only what its VM may send.
fn anti_spoofing(transaction: Transaction, plan: &HostPlan, owner: Owner) -> Transaction {
    let (name, family) = (plan.setup.name(), Family::Bridge);
    let set = |set: &str, key| Set::new(name, set).family(family).key_type(key);
    let sender = |address| SetKeyType::Concat(vec![INTERFACE_NAME, SetKeyType::EtherAddr, address]);
    let port = |vm| {
        let mut key = port_name(vm).into_bytes();
        key.resize(16, 0);
        SetElement::new(key)
    };
    let element =
        |vm, address| SetElement::concat([port(vm), SetElement::ether(station(vm)), address]);
    let mut all = transaction.add_table_with_comment(name, family, 0, Some(&owner.mark()));
    let senders4 = plan.leases().map(|(vm, lease)| element(vm, SetElement::ipv4(lease.ipv4)));
    all = with_set(all, &set("senders4", sender(SetKeyType::Ipv4Addr)), senders4);
    let senders6 = plan.leases().map(|(vm, lease)| element(vm, SetElement::ipv6(lease.ipv6)));
    all = with_set(all, &set("senders6", sender(SetKeyType::Ipv6Addr)), senders6);

    all = all.add_chain(chain(name, family, "checked", None));
    let prerouting = BaseChain::filter(FilterHook::Prerouting, BEFORE_OTHERS);
    all = all.add_chain(chain(name, family, "prerouting", Some(prerouting)));
    let rule = |chain: &str| Rule::new(name, chain).family(family);
    let from_port = vec![
        Expr::Meta { dreg: Register::R0, key: MetaKey::IifGroup },
        Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data: owner.group().to_ne_bytes().to_vec() },
    ];
    let rules = [
        rule("checked").expressions(is_sender(0x0800, (12, 4), "senders4")).then(Verdict::Return),
        rule("checked").expressions(is_sender(0x86dd, (8, 16), "senders6")).then(Verdict::Return),
        rule("checked").counter().drop(),
        rule("prerouting").expressions(from_port).jump(jump("checked")),
    ];
    rules.into_iter().fold(all, Transaction::add_rule)
}

fn port_in(register: Register) -> Expr {
    Expr::Meta { dreg: register, key: MetaKey::IifName }
}

fn lookup(set: &str) -> Expr {
    LookupExpr::new(set, Register::R0).into()
}

/// `iifname . ether saddr . SOURCE @set`, where the frame carries `protocol`; the source address is so
/// many bytes at that offset. The library has no name for the first two as parts of a key.
fn is_sender(protocol: u16, (offset, len): (u32, u32), set: &str) -> Vec<Expr> {
    let load = |dreg, base, offset, len| Expr::Payload { dreg, base, offset, len };
    let kind = Register::R3;
    vec![
        Expr::Meta { dreg: kind, key: MetaKey::Protocol },
        Expr::Cmp { sreg: kind, op: CmpOp::Eq, data: protocol.to_be_bytes().to_vec() },
        // Words 0 to 3, 4 and 5, and from 6 on.
        port_in(Register::R0),
        load(Register::R1, PayloadBase::LinkLayer, 6, 6),
        load(Register::Reg32_06, PayloadBase::Network, offset, len),
        lookup(set),
    ]
}
