//! PID 1: reaps orphans, becomes the image's own init when told to, powers off.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::console;
use super::super::failure::{During, Failure};
use super::disks::Disks;
use super::power;

/// The image's own init, if it has one.
pub(super) const INIT: &str = "/sbin/init";

/// What the agent orders, one byte each.
pub(super) const HAND_OVER: u8 = b'h';
pub(super) const POWER_OFF: u8 = b'p';

/// Signals by which programs ask the first process to end the machine.
const ENDS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR, Signal::SIGUSR2];

/// The first process, once the agent runs beside it.
pub(super) struct Supervisor {
    orders: UnixStream,
    agent: Pid,
    disks: Disks,
}

impl Supervisor {
    pub(super) fn new(orders: UnixStream, agent: Pid, disks: Disks) -> Self {
        Self { orders, agent, disks }
    }

    /// Runs until the machine ends or the image's init takes over.
    ///
    /// # Errors
    /// When the kernel refuses the basics; the caller then powers off.
    pub(super) fn run(mut self) -> Result<std::convert::Infallible, Failure> {
        let step = "supervise the guest";
        let mut wanted = SigSet::from_iter(ENDS);
        wanted.add(Signal::SIGCHLD);
        wanted.thread_block().during(step)?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .during(step)?;
        self.orders.set_nonblocking(true).during(step)?;
        loop {
            self.reap();
            let mut ready = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.orders.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).during(step),
            }
            while let Some(signal) = signals.read_signal().during(step)? {
                if ENDS.iter().any(|end| signal.ssi_signo == (*end as i32).unsigned_abs()) {
                    power::off(&self.disks);
                }
            }
            let mut order = [0];
            match self.orders.read(&mut order) {
                Ok(1) if order[0] == HAND_OVER => self.hand_over(&wanted).during(step)?,
                Ok(1) => power::off(&self.disks),
                // The agent is gone, or about to be.
                Ok(_) => self.agent_ended(waitpid(self.agent, None)),
                Err(_) => {}
            }
        }
    }

    fn reap(&self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            if status.pid() == Some(self.agent) {
                self.agent_ended(Ok(status));
            }
        }
    }

    /// Nobody can reach the guest without its agent.
    fn agent_ended(&self, status: nix::Result<WaitStatus>) -> ! {
        let how = match status {
            Ok(WaitStatus::Exited(_, status)) => format!("with status {status}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("by {signal}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        console::line(&format!("cove-agent: serve the host: the agent ended {how}"));
        power::off(&self.disks)
    }

    /// Becomes the image's init. Returns when there is none or it cannot be executed, having told the
    /// agent; the agent sees the end of the socket when it could.
    #[expect(clippy::disallowed_methods, reason = "this process becomes the program")]
    fn hand_over(&mut self, blocked: &SigSet) -> std::io::Result<()> {
        // Where a shutdown by the image's init finds the overlay's disk, to set it read-only.
        let error = if std::path::Path::new(INIT).exists() {
            power::show(&self.disks).ok();
            blocked.thread_unblock()?;
            let error = std::process::Command::new(INIT)
                .env_clear()
                .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
                .env("TERM", "linux")
                .exec();
            blocked.thread_block()?;
            error.to_string()
        } else {
            String::new()
        };
        self.orders.write_all(format!("{error}\n").as_bytes())
    }
}
