//! Ports of the host at which ports of guests are reachable.

use std::sync::Arc;

use super::Guest;
use crate::id::{VmId, VmName};
use crate::report::Report;
use crate::vm::idle::Usage;
use crate::wire::rpc::Publish;

/// Ports of the host. They are the daemon's own sockets, gone with it.
pub trait Forwards: Send + Sync {
    /// Listens at ports of the host for a VM that has none. Connections wait until they are served. Returns
    /// those that cannot be had, with the reason.
    fn open(&self, vm: &VmId, name: &VmName, wanted: &[Publish]) -> Vec<(Publish, Report)>;
    /// Lets connections through to this guest. As long as one is open the VM is used.
    fn serve(&self, vm: &VmId, guest: Arc<dyn Guest>, usage: Usage);
    /// Which of the VM's ports could not be had, as sentences.
    fn failed(&self, vm: &VmId) -> Vec<String>;
    /// Lets go of the VM's ports. Open connections end.
    fn close(&self, vm: &VmId);
}
