//! Who a process is, beyond a number that the kernel will give away again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// A process that may outlive the daemon, as it is written down: a pid alone names somebody else as
/// soon as it is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since the host's boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// A live process, held by a descriptor.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    descriptor: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process with this identity, or `None` when it is gone or its pid is somebody else's.
    ///
    /// # Errors
    /// When the kernel has no pidfds or no descriptors left.
    pub fn open(id: ProcessId) -> io::Result<Option<Self>> {
        Ok(Self::open_any(id.pid)?.filter(|process| process.id == id))
    }

    /// The process that has this pid now.
    ///
    /// # Errors
    /// When the kernel has no pidfds or no descriptors left.
    #[expect(unsafe_code, reason = "registering a descriptor promises that it stays open")]
    pub fn open_any(pid: i32) -> io::Result<Option<Self>> {
        let Some(raw) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the pidfd was opened: if the pid had been given away in between, the start time
        // would be another one.
        let Some(start_ticks) = start_ticks(pid) else {
            return Ok(None);
        };
        // SAFETY: the descriptor is owned by the value and open as long as it is registered.
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Some(Self { id: ProcessId { pid, start_ticks }, descriptor }))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal. A process that has ended is no error.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.descriptor.get_ref().as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When its descriptor cannot be polled.
    pub async fn ended(&self) -> io::Result<()> {
        // Cancel-safe: readiness is not consumed.
        self.descriptor.readable().await.map(drop)
    }

    /// Kills it and waits until it has ended, at most `deadline`.
    ///
    /// # Errors
    /// When it may not be signalled, or is still there after the deadline.
    pub async fn kill(&self, deadline: Duration) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        match tokio::time::timeout(deadline, self.ended()).await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "process {} is still there {} s after SIGKILL",
                    self.id.pid,
                    deadline.as_secs()
                ),
            )),
        }
    }
}

fn start_ticks(pid: i32) -> Option<u64> {
    procfs::process::Process::new(pid).ok()?.stat().ok().map(|stat| stat.starttime)
}

/// How servants call themselves (the first 15 bytes of their name). An argument alone is not enough:
/// the user's own editor or pager may name a VM's id, too.
const SERVANT_NAMES: [&str; 6] =
    ["cove-", "coved", "qemu-system", "vhost-device-vs", "pasta", "passt"];

/// The live servants of this user that have `marker` in one of their arguments: how recovery finds what
/// was started just before a crash, when its pid was not written down yet.
#[must_use]
pub fn find_servants(marker: &str) -> Vec<ProcessId> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let own = nix::unistd::geteuid().as_raw();
    all.flatten()
        .filter(|process| process.pid != std::process::id().cast_signed())
        .filter(|process| process.uid().is_ok_and(|uid| uid == own))
        .filter(|process| {
            process.cmdline().is_ok_and(|line| line.iter().any(|word| word.contains(marker)))
        })
        .filter_map(|process| {
            let stat = process.stat().ok()?;
            let known = SERVANT_NAMES.iter().any(|name| stat.comm.starts_with(name));
            known.then_some(ProcessId { pid: process.pid, start_ticks: stat.starttime })
        })
        .collect()
}
