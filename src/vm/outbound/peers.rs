//! VMs of the bridge that are to reach each other.
//!
//! A pair is written in the row of the VM that was made for it, and holds both ways. It is open while both run,
//! whatever their policies say: those are about everybody else.

use std::collections::BTreeSet;

use crate::id::VmId;
use crate::report::{Kind, Report};
use crate::vm::record::VmRecord;
use crate::vm::service::VmService;
use crate::wire::rpc::{CreateVm, NetMode};

/// How many peers a VM is made with at most: each pair is a rule of the host.
const MAX_PEERS: usize = 64;

impl VmService {
    /// The VMs that a new one is to reach.
    ///
    /// # Errors
    /// When one of them is not there or not on the bridge, or the new one will not be.
    pub(in crate::vm) fn peers_of(
        &self,
        wanted: &CreateVm,
        net: NetMode,
    ) -> Result<BTreeSet<VmId>, Report> {
        if wanted.peers.is_empty() {
            return Ok(BTreeSet::new());
        }
        if net != NetMode::Bridge {
            let message = "only VMs on the bridge have peers";
            return Err(
                Report::new(Kind::Conflict, message).with_hint("give `--net bridge` with `--peer`")
            );
        }
        let count = wanted.peers.len();
        if count > MAX_PEERS {
            let message = format!("a VM is made with at most {MAX_PEERS} peers, and not {count}");
            return Err(Report::new(Kind::Invalid, message));
        }
        let peers = wanted.peers.iter().map(|peer| {
            let record = self.handle(peer)?.view.borrow().record.clone();
            if record.spec.net == NetMode::Bridge {
                return Ok(record.id);
            }
            let (name, mode) = (&record.name, record.spec.net.as_str());
            let message = format!("the VM `{name}` is not on the bridge: its network is `{mode}`");
            Err(Report::new(Kind::Conflict, message)
                .with_hint("peers are VMs that were made with `--net bridge`"))
        });
        peers.collect()
    }

    /// The names of a VM's peers, as far as they are there.
    pub(super) fn peers(&self, record: &VmRecord) -> Vec<String> {
        let others = self.records();
        let peers = others.iter().filter(|other| {
            other.spec.peers.contains(&record.id) || record.spec.peers.contains(&other.id)
        });
        let mut names: Vec<String> = peers.map(|peer| peer.name.to_string()).collect();
        names.sort();
        names
    }
}
