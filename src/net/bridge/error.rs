//! Why something is not done for a bridge: because it is refused, or because it failed.

use std::io;

use crate::id::VmId;
use crate::net::nftables;
use crate::report::{Explain, Kind};

/// What is not done, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The helper's own configuration says something else.
    #[error("the network helper is set up for {mine}, and the daemon asks for {asked}")]
    OtherSetup {
        /// What the daemon asks for.
        asked: String,
        /// What the helper has.
        mine: String,
    },
    /// Nobody has said which VMs there are.
    #[error("the network helper has not been told yet which VMs there are")]
    NotSynced,
    /// There are too many of something.
    #[error("{count} {what} are more than {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The address lies outside the ranges.
    #[error("VM `{vm}` has address {slot} of a range with {capacity}")]
    Slot {
        /// The VM.
        vm: VmId,
        /// The number of its address.
        slot: u32,
        /// How many there are.
        capacity: u32,
    },
    /// Two VMs have one address.
    #[error("VM `{vm}` has the address of VM `{other}`")]
    SlotTaken {
        /// The VM.
        vm: VmId,
        /// The other one.
        other: VmId,
    },
    /// A VM is to be its own peer.
    #[error("VM `{vm}` cannot be its own peer")]
    PeerOfItself {
        /// The VM.
        vm: VmId,
    },
    /// A peer is not on the bridge.
    #[error("VM `{vm}` is to be a peer and is not on the bridge")]
    UnknownPeer {
        /// The VM.
        vm: VmId,
    },
    /// No namespace came with the request.
    #[error("no network namespace came with the request for VM `{vm}`")]
    NoNamespace {
        /// The VM.
        vm: VmId,
    },
    /// The descriptor is something else.
    #[error("what came for VM `{vm}` is no network namespace")]
    NotANamespace {
        /// The VM.
        vm: VmId,
    },
    /// It is the host's, or belongs to the host's user namespace.
    #[error("the network namespace that came for VM `{vm}` is the host's")]
    HostNamespace {
        /// The VM.
        vm: VmId,
    },
    /// It belongs to somebody else.
    #[error("the network namespace that came for VM `{vm}` belongs to user {owner}, not to {user}")]
    ForeignNamespace {
        /// The VM.
        vm: VmId,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
    /// An interface of a name that is needed is not ours.
    #[error("there is an interface `{name}` already, which is not of this cove")]
    ForeignLink {
        /// The interface.
        name: String,
    },
    /// A table of a name that is needed is not ours.
    #[error("there is a table `{family} {name}` already, which is not of this cove")]
    ForeignTable {
        /// Its family.
        family: String,
        /// Its name.
        name: String,
    },
    /// Another daemon has the bridge.
    #[error("another daemon of this user has the bridge `{bridge}`")]
    Taken {
        /// The bridge.
        bridge: String,
    },
    /// A range is in use on the host.
    #[error("the range `{range}` for VMs overlaps {with} of this host")]
    Conflict {
        /// The range.
        range: String,
        /// The address or route, and where it is.
        with: String,
        /// The key that changes the range.
        key: &'static str,
    },
}

impl Explain for Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::ForeignLink { .. }
            | Self::ForeignTable { .. }
            | Self::Taken { .. }
            | Self::Conflict { .. } => Kind::Conflict,
            Self::OtherSetup { .. }
            | Self::NotSynced
            | Self::TooMany { .. }
            | Self::Slot { .. }
            | Self::SlotTaken { .. }
            | Self::PeerOfItself { .. }
            | Self::UnknownPeer { .. }
            | Self::NoNamespace { .. }
            | Self::NotANamespace { .. }
            | Self::HostNamespace { .. }
            | Self::ForeignNamespace { .. } => Kind::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::OtherSetup { .. } => Some(format!(
                "make `[net.bridge]` of the daemon say the same as `{}`, and restart both",
                super::server::CONFIGURATION
            )),
            Self::ForeignLink { name } | Self::ForeignTable { name, .. } => Some(format!(
                "set `name` of `[net.bridge]` to another one, or remove `{name}` if nobody needs it"
            )),
            Self::Taken { .. } => Some(
                "set `name` and `range4` of this daemon's `[net.bridge]` to others, or end that daemon"
                    .to_owned(),
            ),
            Self::Conflict { key, .. } => {
                Some(format!("set `{key}` of `[net.bridge]` to a range that is free"))
            }
            Self::TooMany { .. } => Some("delete VMs of `--net bridge`".to_owned()),
            Self::NotSynced
            | Self::Slot { .. }
            | Self::SlotTaken { .. }
            | Self::PeerOfItself { .. }
            | Self::UnknownPeer { .. }
            | Self::NoNamespace { .. }
            | Self::NotANamespace { .. }
            | Self::HostNamespace { .. }
            | Self::ForeignNamespace { .. } => None,
        }
    }
}

/// Why something could not be done on the host.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// It is not done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no socket to talk to the kernel with.
    #[error("cannot talk to the kernel about networks")]
    Netlink(#[source] io::Error),
    /// A link, address or neighbour could not be changed.
    #[error("cannot {doing} `{device}`")]
    Link {
        /// What was being done.
        doing: &'static str,
        /// The interface.
        device: String,
        /// Why.
        #[source]
        source: rtnetlink::Error,
    },
    /// What is there could not be read.
    #[error("cannot read the {what} of the host")]
    Read {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: rtnetlink::Error,
    },
    /// The kernel lacks what rules are made with.
    #[error("{}", nftables::MISSING)]
    NoNftables(#[source] nlink::Error),
    /// Rules could not be read or changed.
    #[error("cannot {doing} the firewall rules of the bridge")]
    Rules {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: nlink::Error,
    },
    /// A switch below `/proc/sys` could not be read or set.
    #[error("cannot use the switch `{switch}`")]
    Switch {
        /// Which one.
        switch: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be made sure that no other daemon has the bridge.
    #[error("cannot take the bridge `{bridge}` for this daemon")]
    Lock {
        /// The bridge.
        bridge: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process that holds a VM's namespace has ended.
    #[error("the network keeper of VM `{vm}` has ended")]
    KeeperGone {
        /// The VM.
        vm: VmId,
    },
    /// A namespace could not be examined.
    #[error("cannot examine the network namespace of VM `{vm}`")]
    Namespace {
        /// The VM.
        vm: VmId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BridgeError {
    /// Rules could not be opened or listed (`doing`), perhaps because the kernel has none.
    pub(super) fn reading(doing: &'static str, source: nlink::Error) -> Self {
        match nftables::are_missing(&source) {
            true => Self::NoNftables(source),
            false => Self::Rules { doing, source },
        }
    }
}

impl Explain for BridgeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Netlink(_)
            | Self::Link { .. }
            | Self::Read { .. }
            | Self::NoNftables(_)
            | Self::Rules { .. }
            | Self::Switch { .. }
            | Self::Lock { .. }
            | Self::KeeperGone { .. }
            | Self::Namespace { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::NoNftables(_) => Some(nftables::FIX.to_owned()),
            Self::Link { .. } | Self::Rules { .. } => Some(
                "`--net bridge` needs CAP_NET_ADMIN, and a kernel with bridges, veth and nf_tables"
                    .to_owned(),
            ),
            Self::Netlink(_)
            | Self::Read { .. }
            | Self::Switch { .. }
            | Self::Lock { .. }
            | Self::KeeperGone { .. }
            | Self::Namespace { .. } => None,
        }
    }
}
