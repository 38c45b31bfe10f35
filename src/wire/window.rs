//! Flow control of a program's standard input.
//!
//! The host sends no more input than fits a window, and the agent says how much the program has taken.
//! So the agent can always read what arrives, and the way from the host to the guest is never full
//! with input that a program does not read yet. Without that, a signal would wait behind the input; and
//! a program that prints what it reads could come to a stand-still for ever, because vhost-device-vsock
//! (0.3.0) does not go on writing what the guest has sent while the guest refuses what the host has sent.

use std::io;

/// How much input may be on its way to a program or wait for it, in bytes: more than the program reads
/// in the time of a round trip under emulation.
pub const STDIN_WINDOW: usize = 1 << 20;

/// What the host may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StdinWindow {
    left: usize,
}

impl Default for StdinWindow {
    fn default() -> Self {
        Self { left: STDIN_WINDOW }
    }
}

impl StdinWindow {
    /// The window of one who attaches to a program that others have sent input: so many bytes of that wait
    /// to be taken.
    ///
    /// # Errors
    /// When that is more than fits.
    pub fn behind(waiting: u32) -> io::Result<Self> {
        let mut window = Self::default();
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        if !window.fits(waiting) {
            let message = format!("more input waits than was sent: {waiting} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        window.sent(waiting);
        Ok(window)
    }

    /// Whether a piece of so many bytes may be sent now.
    #[must_use]
    pub fn fits(self, bytes: usize) -> bool {
        bytes <= self.left
    }

    /// Notes that so many bytes are sent, which must fit.
    pub fn sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Notes what the agent says in [`Reply::StdinTaken`](super::guest::Reply::StdinTaken).
    ///
    /// # Errors
    /// When that is more than was sent.
    pub fn taken(&mut self, bytes: u32) -> io::Result<()> {
        let left = usize::try_from(bytes).ok().and_then(|bytes| self.left.checked_add(bytes));
        match left {
            Some(left) if left <= STDIN_WINDOW => {
                self.left = left;
                Ok(())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("more input was taken than was sent: {bytes} bytes"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_back_than_was_sent() {
        let mut window = StdinWindow::default();
        assert!(window.fits(STDIN_WINDOW) && !window.fits(STDIN_WINDOW + 1));
        window.taken(1).expect_err("nothing was sent");
        window.sent(10);
        assert!(!window.fits(STDIN_WINDOW));
        window.taken(4).expect("was sent");
        window.taken(7).expect_err("only 6 are left");
        window.taken(u32::MAX).expect_err("far too much");
        window.taken(6).expect("was sent");
        assert_eq!(window, StdinWindow::default());
    }

    #[test]
    fn what_others_have_sent_takes_room() {
        let mut window = StdinWindow::behind(10).expect("it fits");
        assert!(window.fits(STDIN_WINDOW - 10) && !window.fits(STDIN_WINDOW - 9));
        window.taken(10).expect("it was sent, by others");
        assert_eq!(window, StdinWindow::default());
        StdinWindow::behind(u32::MAX).expect_err("more than fits");
    }
}
