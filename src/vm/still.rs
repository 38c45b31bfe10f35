//! Disks of VMs at rest: who reads them, and that nobody starts or deletes the VM meanwhile.
//!
//! Whoever reads holds a share of the lock, then looks whether the VM is at rest; whoever starts or deletes it
//! holds all of it until the state says that it is not. So neither can slip past the other. Who comes second is
//! told, at once or after a moment: a reader that has said its last word still has to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};
use tokio::time::timeout;

use super::ledger::ResourceKind;
use super::ports::{ByteStream, DiskCopy, Ports};
use super::record::VmRecord;
use super::service::Handle;
use super::shown::Seen;
use crate::id::VmName;
use crate::report::{Kind, Report};

/// How long a start or a delete waits for readers: as long as one takes to end once it has said its last word.
const MOMENT: Duration = Duration::from_secs(2);

/// The lock of one VM's disks. Clones are the same.
///
/// It is a lease and no lock of data: nothing is in it, its shares are held for as long as a copy takes, across
/// awaits, and nobody waits for it longer than a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct DiskLock(Arc<RwLock<()>>);

/// A disk that is being read. As long as this is there its VM is neither started nor deleted.
#[derive(Debug)]
pub struct DiskInUse {
    _share: OwnedRwLockReadGuard<()>,
}

#[cfg(test)]
impl DiskInUse {
    /// One of no VM, and the lock that it has a share of.
    pub(crate) fn alone() -> (Self, Arc<RwLock<()>>) {
        let lock = Arc::new(RwLock::new(()));
        let share = lock.clone().try_read_owned().expect("nobody has it");
        (Self { _share: share }, lock)
    }
}

impl DiskLock {
    /// For somebody who starts or deletes the VM. Waits a moment.
    ///
    /// # Errors
    /// When somebody reads.
    pub(super) async fn take(&self, vm: &VmName) -> Result<OwnedRwLockWriteGuard<()>, Report> {
        timeout(MOMENT, self.0.clone().write_owned()).await.map_err(|_| {
            let message = format!("files are being copied from the disk of `{vm}`");
            Report::new(Kind::Conflict, message)
                .with_hint("a copy reads its disk: end it, or wait until it has ended")
        })
    }

    /// For somebody who reads.
    ///
    /// # Errors
    /// When somebody starts or deletes the VM.
    fn share(&self, vm: &VmName) -> Result<DiskInUse, Report> {
        let share = self.0.clone().try_read_owned();
        let share = share.map_err(|_| {
            let message = format!("the VM `{vm}` is being started or deleted");
            Report::new(Kind::Conflict, message).with_hint("copy again when that is done")
        })?;
        Ok(DiskInUse { _share: share })
    }
}

/// What is to be copied from the disk of a VM at rest.
pub(super) struct StillDisk {
    ports: Ports,
    view: watch::Receiver<Seen>,
    lock: DiskLock,
    folder: PathBuf,
    path: String,
}

impl StillDisk {
    pub(super) fn new(handle: &Handle, ports: Ports, folder: PathBuf, path: String) -> Self {
        Self { ports, view: handle.view.clone(), lock: handle.disk.clone(), folder, path }
    }

    /// Begins the copy, unless the VM has been started since, or a monitor may still write its disk.
    pub(super) async fn open(&self) -> Result<Box<dyn ByteStream>, Report> {
        let name = self.view.borrow().record.name.clone();
        let in_use = self.lock.share(&name)?;
        // As it is now that nobody can start it.
        let VmRecord { id, name: vm, state, .. } = self.view.borrow().record.clone();
        state.check_start().map_err(|wrong| {
            let message = format!("`{vm}` is {} by now", wrong.is);
            Report::new(Kind::Conflict, message).with_hint("copy again")
        })?;
        // Its state says that it is at rest also when its monitor could not be ended.
        let rows = self.ports.rows.resources(&id).await?;
        if rows.iter().any(|(kind, _)| *kind == ResourceKind::Monitor) {
            let message =
                format!("the monitor of `{vm}` could not be ended: it may write the disk");
            let hint = format!("`cove kill {vm}` tries again to end it; then copy again");
            return Err(Report::new(Kind::Conflict, message).with_hint(hint));
        }
        let (folder, path) = (self.folder.clone(), self.path.clone());
        self.ports.disks.copy_out(DiskCopy { vm, folder, path, in_use }).await
    }
}
