//! The signals that this process gets, as values.
//!
//! Once listened to, none of them ends the process by itself any more: whoever listens has to act on
//! every one of them until the end of the command.

use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::Report;

use super::failure::Failure;
use super::output;

/// The signals of one command. Signals that arrive while nobody waits are kept, once each.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
    user_1: Signal,
    user_2: Signal,
    window: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the process may not.
    pub(super) fn listen() -> Result<Self, Report> {
        let listen = || {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
                quit: signal(SignalKind::quit())?,
                user_1: signal(SignalKind::user_defined1())?,
                user_2: signal(SignalKind::user_defined2())?,
                window: signal(SignalKind::window_change())?,
            })
        };
        listen().map_err(|error: std::io::Error| output::failed("cannot listen to signals", &error))
    }

    /// The number of the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> i32 {
        tokio::select! {
            // All arms are cancel-safe: a signal stays until it is received.
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.hang_up.recv() => libc::SIGHUP,
            _ = self.quit.recv() => libc::SIGQUIT,
            _ = self.user_1.recv() => libc::SIGUSR1,
            _ = self.user_2.recv() => libc::SIGUSR2,
            _ = self.window.recv() => libc::SIGWINCH,
        }
    }

    /// Waits for a signal that asks the process to end. Cancel-safe.
    pub(super) async fn interruption(&mut self) -> i32 {
        tokio::select! {
            // All arms are cancel-safe: a signal stays until it is received.
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.hang_up.recv() => libc::SIGHUP,
            _ = self.quit.recv() => libc::SIGQUIT,
        }
    }

    /// Does `work` unless a signal asks the process to end first.
    ///
    /// # Errors
    /// Those of the work, and the interruption.
    pub(super) async fn unless_interrupted<T>(
        &mut self,
        work: impl Future<Output = Result<T, Report>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            // Dropping the work only stops waiting for the daemon's answer.
            done = work => done.map_err(Failure::from),
            _ = self.interruption() => Err(Failure::Interrupted),
        }
    }
}
