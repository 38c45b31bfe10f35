//! Processes of the host, for the VM service.

use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;

use crate::id::VmId;
use crate::process::{self, Process, ProcessId, Usage, find_servants};
use crate::report::{Kind, Report};
use crate::vm::ports::{PortResult, Processes};

/// How long the kernel may take to end a killed process: one that waits for a disk takes its time.
const KILL_DEADLINE: Duration = Duration::from_secs(15);

/// The host's processes.
pub(super) struct HostProcesses;

fn failed(process: ProcessId, error: &std::io::Error) -> Report {
    let message = format!("cannot look after process {}", process.pid);
    Report::new(Kind::Failed, message).with_cause(error)
}

#[async_trait]
impl Processes for HostProcesses {
    fn alive(&self, process: ProcessId) -> PortResult<bool> {
        let open = Process::open(process).map_err(|error| failed(process, &error))?;
        Ok(open.is_some())
    }

    async fn ended(&self, process: ProcessId) -> PortResult<()> {
        match Process::open(process).map_err(|error| failed(process, &error))? {
            Some(open) => open.ended().await.map_err(|error| failed(process, &error)),
            None => Ok(()),
        }
    }

    async fn kill(&self, process: ProcessId) -> PortResult<()> {
        match Process::open(process).map_err(|error| failed(process, &error))? {
            Some(open) => open.kill(KILL_DEADLINE).await.map_err(|error| failed(process, &error)),
            None => Ok(()),
        }
    }

    async fn signal(&self, process: ProcessId, signal: Signal) -> PortResult<()> {
        let number = rustix::process::Signal::from_named_raw(signal as i32);
        let number = number.expect("both libraries name the same signals");
        match Process::open(process).map_err(|error| failed(process, &error))? {
            Some(open) => open.signal(number).map_err(|error| failed(process, &error)),
            None => Ok(()),
        }
    }

    async fn usage(&self, process: ProcessId) -> PortResult<Option<Usage>> {
        // The kernel walks all of a monitor's memory for it.
        let used = tokio::task::spawn_blocking(move || process::usage(process)).await;
        let used = used.expect("reading /proc does not panic");
        used.map_err(|error| failed(process, &error))
    }

    fn find(&self, vm: &VmId) -> Vec<ProcessId> {
        find_servants(vm.as_str())
    }
}
