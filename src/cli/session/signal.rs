//! What becomes of signals that this process gets while it is joined to a command.

use nix::libc;

use super::{Joining, PATIENCE, Pty};
use crate::wire::frame::Frame;
use crate::wire::guest::ExecInput;

use super::super::terminal;

/// Whether a signal asks to end.
pub(super) fn is_request_to_end(signal: i32) -> bool {
    matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT)
}

/// Whether this process leaves instead of forwarding the signal: a terminal that is gone, or a process
/// that is to end, takes its shell with it; a command without a terminal gets the signal itself.
/// One that was there before does not end with the terminal of somebody who looks at it.
pub(super) fn leaves(signal: i32, joining: Joining, pty: Pty, asked_to_end: u32) -> bool {
    let leaves_at_once = match (signal, joining) {
        (libc::SIGHUP, Joining::Attached) => true,
        (libc::SIGTERM | libc::SIGHUP, Joining::Attached | Joining::Started(_)) => pty == Pty::Yes,
        (_, Joining::Attached | Joining::Started(_)) => false,
    };
    asked_to_end >= PATIENCE || leaves_at_once
}

/// What the program is told of a signal.
pub(super) fn signal_frame(signal: i32, pty: Pty) -> Option<Frame> {
    let input = match (signal, pty) {
        (libc::SIGWINCH, Pty::Yes) => ExecInput::Resize { size: terminal::size() },
        (libc::SIGWINCH, Pty::No) => return None,
        (signal, Pty::Yes | Pty::No) => ExecInput::Signal { signal },
    };
    Some(Frame::control(&input).expect("the message is short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_there_before_outlives_a_terminal_that_is_gone() {
        use libc::{SIGHUP, SIGINT, SIGTERM};
        let started = |pty| Joining::Started(pty);
        for (signal, joining, pty, expected) in [
            (SIGHUP, Joining::Attached, Pty::No, true),
            (SIGHUP, Joining::Attached, Pty::Yes, true),
            (SIGTERM, Joining::Attached, Pty::No, false),
            (SIGINT, Joining::Attached, Pty::No, false),
            (SIGHUP, started(Pty::No), Pty::No, false),
            (SIGHUP, started(Pty::Yes), Pty::Yes, true),
            (SIGTERM, started(Pty::Yes), Pty::Yes, true),
        ] {
            assert_eq!(leaves(signal, joining, pty, 1), expected, "{signal} {joining:?} {pty:?}");
            assert!(leaves(signal, joining, pty, PATIENCE));
        }
    }
}
