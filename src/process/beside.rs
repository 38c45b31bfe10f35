//! A program in front of the user, beside this one, which waits for its end.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

use super::Process;

/// A program with this process's environment, streams and terminal, in its process group.
#[derive(Debug)]
pub struct Beside {
    process: Process,
    end: JoinHandle<io::Result<ExitStatus>>,
}

impl Beside {
    /// Starts it. When it is stopped, as by Ctrl-Z, this process stops, too, and both go on together.
    ///
    /// # Errors
    /// When the program cannot be executed.
    #[expect(clippy::disallowed_methods, reason = "one wrapper of a program that we wait for")]
    pub fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        let child = std::process::Command::new(program).args(arguments).spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // It is there until it is waited for, even when it has ended.
        let process = Process::open_any(pid)?;
        let process = process.ok_or_else(|| io::Error::other("the process is not there"))?;
        let end = tokio::task::spawn_blocking(move || wait(Pid::from_raw(pid)));
        Ok(Self { process, end })
    }

    /// Sends it a signal. That it has ended is no error.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match rustix::process::Signal::from_named_raw(signal) {
            Some(signal) => self.process.signal(signal),
            None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
        }
    }

    /// How it ended, when it has. Cancel-safe.
    ///
    /// # Errors
    /// When somebody else has waited for it.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        (&mut self.end).await.map_err(io::Error::other)?
    }
}

/// Waits for the end, as long as it takes.
fn wait(pid: Pid) -> io::Result<ExitStatus> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            // So that the shell, which knows this process alone, sees it.
            Ok(WaitStatus::Stopped(..)) => {
                raise(Signal::SIGSTOP)?;
                // Nobody else has the number before it was waited for.
                nix::sys::signal::kill(pid, Signal::SIGCONT)?;
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Beside {
        Beside::start(Path::new("/bin/sh"), ["-c", script]).expect("starts")
    }

    #[tokio::test]
    async fn it_ends_as_it_ended() {
        assert_eq!(shell("exit 42").ended().await.expect("ended").code(), Some(42));
        let killed = shell("kill -9 $$").ended().await.expect("ended");
        assert_eq!((killed.code(), killed.signal()), (None, Some(9)));
        Beside::start(Path::new("/no/such/program"), [""; 0]).expect_err("not there");
    }

    #[tokio::test]
    async fn it_gets_signals() {
        let mut sleeping = shell("exec sleep 600");
        sleeping.signal(Signal::SIGTERM as i32).expect("sent");
        assert_eq!(sleeping.ended().await.expect("ended").signal(), Some(15));
        sleeping.signal(Signal::SIGTERM as i32).expect("gone is no error");
        sleeping.signal(-1).expect_err("no signal");
    }
}
