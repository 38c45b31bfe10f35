//! The vsock device of a machine: the kernel's where `/dev/vhost-vsock` can be opened, else a process
//! per VM that speaks the vhost-user protocol with QEMU and offers a Unix socket to the daemon.

use std::fs::OpenOptions;
use std::path::Path;

use super::Qemu;
use super::command::{VSOCK_DEVICE_SOCKET, VsockDevice};
use super::servants::{start_servant, wait_for_socket};
use crate::id::VmId;
use crate::process::{Servant, Tool};
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vm::state::VsockAddress;
use crate::vmm::VmmError;

/// The Unix socket of the guest's vsock, in the VM's folder.
pub(super) const GUEST_SOCKET: &str = "vsock.sock";

/// The kernel's vsock for guests.
const VHOST_VSOCK: &str = "/dev/vhost-vsock";

/// The context id inside a machine whose device is a process: no other machine sees it, so all may have
/// the same. 0 to 2 are taken by the protocol.
const PRIVATE_CID: u32 = 3;

/// Buffers of the device's process in bytes, per connection.
const BUFFER: u32 = 256 * 1024;

fn kernel_has_it() -> bool {
    OpenOptions::new().read(true).write(true).open(VHOST_VSOCK).is_ok()
}

/// How devices are made here, for `doctor`.
pub(super) async fn kind(program: &Path) -> Result<&'static str, VmmError> {
    if kernel_has_it() {
        return Ok("the kernel's vhost-vsock");
    }
    let version = Tool::new(program).arg("--version").run().await;
    version.map_err(|source| VmmError::Version { program: program.to_owned(), source })?;
    Ok("vhost-device-vsock, a process per VM")
}

/// The device of a machine, before anything of it is there.
pub(super) struct Plan {
    /// What QEMU is told of it.
    pub(super) device: VsockDevice,
    /// How the host reaches it.
    pub(super) address: VsockAddress,
    /// The process it is, where the kernel has none; it must have made [`VSOCK_DEVICE_SOCKET`] before
    /// QEMU starts.
    pub(super) servant: Option<Servant>,
}

/// Plans the device of a machine that is about to be started.
pub(super) fn plan(qemu: &Qemu, vm: &VmId, folder: &Path) -> Plan {
    if kernel_has_it() {
        let cid = context_id();
        let address = VsockAddress::Context { cid };
        return Plan { device: VsockDevice::Kernel(cid), address, servant: None };
    }
    let options = format!(
        "guest-cid={PRIVATE_CID},socket={VSOCK_DEVICE_SOCKET},uds-path={GUEST_SOCKET},\
         tx-buffer-size={BUFFER},groups=cove-{vm}"
    );
    let arguments = vec!["--vm".into(), options.into()];
    let servant = qemu.servant(&qemu.settings.vhost_device_vsock, arguments, folder);
    let address = VsockAddress::Socket { name: GUEST_SOCKET.to_owned() };
    Plan { device: VsockDevice::Process, address, servant: Some(servant) }
}

/// Makes the device of a machine that is about to be started.
pub(super) async fn device(
    qemu: &Qemu,
    vm: &VmId,
    folder: &Path,
    ledger: &dyn Ledger,
) -> Result<(VsockDevice, VsockAddress), VmmError> {
    let Plan { device, address, servant } = plan(qemu, vm, folder);
    if let Some(servant) = servant {
        let program = servant.program.clone();
        let (process, output) = start_servant(servant, ResourceKind::VsockDevice, ledger).await?;
        wait_for_socket(&program, folder, VSOCK_DEVICE_SOCKET, &process, &output).await?;
    }
    Ok((device, address))
}

/// A context id for the whole host. The kernel refuses one that is in use, and then the start fails and
/// says so; with 31 random bits that needs a thousand VMs to become as likely as one in four thousand.
fn context_id() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
    (u32::from_ne_bytes(bytes) >> 1).max(PRIVATE_CID)
}
