//! A machine started by hand: the floor that `cove bench` puts beside the daemon's own starts.
//!
//! The same programs with the same arguments as a VM's, and nothing around them: no rows, no console
//! ring, no control connection. Such a machine does not outlive the value that holds it.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::Qemu;
use super::boot_files::write_initrd;
use super::command::VSOCK_DEVICE_SOCKET;
use super::servants::wait_for_socket;
use super::vsock::{self, Plan};
use crate::process::{Process, Servant, ServantOutput};
use crate::vm::ports::MachineSpec;
use crate::vm::state::VsockAddress;
use crate::vmm::VmmError;

/// How long a killed process may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A machine without a VM. Dropping it kills its processes.
#[derive(Debug)]
pub struct BareMachine {
    monitor: Mortal,
    vsock: Option<Mortal>,
    address: VsockAddress,
}

/// A process that is killed when the value is dropped.
#[derive(Debug)]
struct Mortal(Process);

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Err(error) = self.0.signal(Signal::KILL) {
            tracing::warn!(%error, pid = self.0.id().pid, "a bare machine's process is left");
        }
    }
}

impl Qemu {
    /// Writes the initramfs of a bare machine into its folder, where its disks are already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn prepare_bare(&self, spec: &MachineSpec) -> Result<(), VmmError> {
        write_initrd(spec).await
    }

    /// Starts a machine that has been prepared. It has no network device.
    ///
    /// # Errors
    /// When one of its programs does not start.
    pub async fn start_bare(&self, spec: &MachineSpec) -> Result<BareMachine, VmmError> {
        let Plan { device, address, servant } = vsock::plan(self, &spec.vm, &spec.folder);
        let vsock = match servant {
            Some(servant) => Some(start_vsock(servant, &spec.folder).await?),
            None => None,
        };
        let (monitor, _output) = spawn(self.monitor(spec, &device).await)?;
        Ok(BareMachine { monitor, vsock, address })
    }
}

impl BareMachine {
    /// How its vsock is reached.
    #[must_use]
    pub fn address(&self) -> &VsockAddress {
        &self.address
    }

    /// Waits for the end of its monitor.
    pub async fn ended(&self) {
        self.monitor.0.ended().await.ok();
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// When one of its processes is still there.
    pub async fn end(self) -> std::io::Result<()> {
        self.monitor.0.kill(KILL_DEADLINE).await?;
        match &self.vsock {
            Some(vsock) => vsock.0.kill(KILL_DEADLINE).await,
            None => Ok(()),
        }
    }
}

async fn start_vsock(servant: Servant, folder: &Path) -> Result<Mortal, VmmError> {
    let program = servant.program.clone();
    let (process, output) = spawn(servant)?;
    wait_for_socket(&program, folder, VSOCK_DEVICE_SOCKET, &process.0, &output).await?;
    Ok(process)
}

fn spawn(servant: Servant) -> Result<(Mortal, ServantOutput), VmmError> {
    let program = servant.program.clone();
    let spawned = servant.spawn().map_err(|source| VmmError::Spawn { program, source });
    spawned.map(|(process, output)| (Mortal(process), output))
}
