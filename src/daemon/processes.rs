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

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;
    use crate::process::Servant;

    /// A process that waits for its end, and is told apart from another of its pid by its start time.
    fn start() -> Process {
        let servant = Servant {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "exec sleep 600".into()],
            folder: "/".into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            descriptors: Vec::new(),
        };
        servant.spawn().expect("starts").0
    }

    #[tokio::test]
    async fn item_06_a_pid_that_is_somebody_elses_now_is_never_signalled() {
        let foreign = start();
        // What a row says whose process has ended, and whose pid the kernel has given away since.
        for start_ticks in [0, foreign.id().start_ticks - 1, foreign.id().start_ticks + 1, u64::MAX]
        {
            let stale = ProcessId { start_ticks, ..foreign.id() };
            assert!(!HostProcesses.alive(stale).expect("told"));
            HostProcesses.ended(stale).await.expect("it has ended");
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGSTOP] {
                HostProcesses.signal(stale, signal).await.expect("it has ended");
            }
            HostProcesses.kill(stale).await.expect("it has ended");
            assert_eq!(HostProcesses.usage(stale).await.expect("told"), None);
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", foreign.id().pid));
        let stat = stat.expect("it is there");
        // It may run, sleep or wait for the disk, but neither be stopped nor have ended.
        let signalled = [") T ", ") t ", ") Z ", ") X "].iter().any(|state| stat.contains(state));
        assert!(!signalled, "it was signalled: {stat}");
        HostProcesses.kill(foreign.id()).await.expect("this one is ours");
        assert!(!HostProcesses.alive(foreign.id()).expect("told") || foreign.ended().await.is_ok());
    }
}
