//! Leases: VMs that go away with their client.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::service::VmService;
use crate::id::VmId;

/// How long a client may be gone before its VMs are deleted: longer than a reconnect, shorter than
/// anybody's patience.
const GRACE: Duration = Duration::from_secs(10);

/// One connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Which connection holds which VMs. A connection is in here exactly as long as it is open.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<ConnectionId, Vec<VmId>>>,
}

impl VmService {
    /// A client has made a connection that VMs can be held on. Said before anything is asked on it.
    pub fn connection_opened(&self, connection: ConnectionId) {
        self.leases.held.lock().expect("no panic under the lock").insert(connection, Vec::new());
    }

    /// Ties a VM to a connection. When that is closed by now, the grace begins at once.
    pub(super) fn hold(&self, connection: ConnectionId, vm: VmId) {
        let mut held = self.leases.held.lock().expect("no panic under the lock");
        match held.get_mut(&connection) {
            Some(vms) => vms.push(vm),
            None => {
                drop(held);
                self.expire(vm);
            }
        }
    }

    /// A client's connection is gone: VMs it holds by lease are deleted after ten seconds.
    pub fn connection_closed(&self, connection: ConnectionId) {
        let mut held = self.leases.held.lock().expect("no panic under the lock");
        let vms = held.remove(&connection).unwrap_or_default();
        drop(held);
        for vm in vms {
            self.expire(vm);
        }
    }

    /// Deletes a leased VM after the grace, unless it is gone by then. A VM that cannot be deleted is
    /// tried again: its client will not come back for it.
    pub(super) fn expire(&self, vm: VmId) {
        let service = self.clone();
        let shutdown = self.tasks.shutdown();
        self.tasks.spawn("lease", async move {
            loop {
                // Both arms are cancel-safe. A daemon that ends leaves the lease in the row, and its
                // successor takes it up again.
                tokio::select! {
                    () = tokio::time::sleep(GRACE) => {}
                    () = shutdown.cancelled() => return,
                }
                match service.delete_id(&vm).await {
                    None => return,
                    Some(Ok(_)) => return tracing::info!(%vm, "deleted: its client is gone"),
                    Some(Err(error)) => {
                        tracing::warn!(%vm, error = error.one_line(), "cannot delete a leased VM");
                    }
                }
            }
        });
    }
}
