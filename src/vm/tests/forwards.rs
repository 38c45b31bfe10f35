//! Ports of the host in memory.

use std::sync::Arc;

use super::ports::Sim;
use crate::id::{VmId, VmName};
use crate::report::{Kind, Report};
use crate::vm::Usage;
use crate::vm::ports::{Forwards, Guest};
use crate::wire::rpc::Publish;

/// The ports of one VM.
pub(crate) struct SimPorts {
    /// Those that it has.
    pub(crate) open: Vec<Publish>,
    /// Those that it could not have.
    pub(crate) failed: Vec<String>,
    /// Who is behind them.
    pub(crate) served: Option<(Arc<dyn Guest>, Usage)>,
}

impl Forwards for Sim {
    fn open(&self, vm: &VmId, _: &VmName, wanted: &[Publish]) -> Vec<(Publish, Report)> {
        let mut ports = self.ports.lock().expect("no panic under the lock");
        assert!(!ports.contains_key(vm), "it has none");
        let in_use = self.world.host().in_use.clone();
        let is_free = |publish: &&Publish| {
            let held = ports.values().flat_map(|ports| &ports.open);
            !in_use.contains(&publish.port) && !held.into_iter().any(|held| held.collides(publish))
        };
        let (open, refused): (Vec<_>, Vec<_>) = wanted.iter().partition(is_free);
        let failed = refused.iter().map(|publish| format!("{publish} is in use")).collect();
        ports.insert(vm.clone(), SimPorts { open, failed, served: None });
        let refuse =
            |publish: Publish| (publish, Report::new(Kind::Conflict, format!("{publish} in use")));
        refused.into_iter().map(refuse).collect()
    }

    fn serve(&self, vm: &VmId, guest: Arc<dyn Guest>, usage: Usage) {
        let mut ports = self.ports.lock().expect("no panic under the lock");
        let ports = ports.get_mut(vm).expect("they were opened");
        ports.served = Some((guest, usage));
    }

    fn failed(&self, vm: &VmId) -> Vec<String> {
        let ports = self.ports.lock().expect("no panic under the lock");
        ports.get(vm).map(|ports| ports.failed.clone()).unwrap_or_default()
    }

    fn close(&self, vm: &VmId) {
        self.ports.lock().expect("no panic under the lock").remove(vm);
    }
}
