//! The signals that `vm.kill` takes, and what each does to a machine.
//!
//! They go to the VM's monitor, which is the machine's power switch: the guest's own programs are
//! signalled by `vm.exec`. Only signals that mean something to a machine are taken, so that none ends a
//! monitor by accident.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// A signal for a VM's monitor. On the wire its name, such as `KILL`; `SIGKILL`, `kill` and `9` are
/// understood, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum KillSignal {
    /// The power is cut off at once.
    #[default]
    Kill,
    /// The monitor ends in order: it writes out what it has cached of the disks. The guest is not asked.
    Term,
    /// The same as [`KillSignal::Term`].
    Int,
    /// The same as [`KillSignal::Term`].
    Hup,
    /// The machine stands still, and keeps its memory.
    Stop,
    /// The machine goes on.
    Cont,
}

/// A text that is no signal for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignal {
    /// No signal has this name or number.
    #[error("there is no signal `{}`: write {CHOICE}", .0.escape_debug())]
    Unknown(String),
    /// There is one, but a machine has no use for it.
    #[error("{0} means nothing to a machine: write {CHOICE}")]
    Meaningless(Signal),
}

const CHOICE: &str = "KILL, TERM, INT, HUP, STOP or CONT";

/// The longest text that is repeated in an error.
const SHOWN: usize = 40;

impl KillSignal {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::Term, Self::Int, Self::Hup, Self::Stop, Self::Cont];

    /// The signal as the host's kernel knows it.
    #[must_use]
    pub fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::SIGKILL,
            Self::Term => Signal::SIGTERM,
            Self::Int => Signal::SIGINT,
            Self::Hup => Signal::SIGHUP,
            Self::Stop => Signal::SIGSTOP,
            Self::Cont => Signal::SIGCONT,
        }
    }

    /// Whether the machine ends by it.
    #[must_use]
    pub fn ends(self) -> bool {
        match self {
            Self::Kill | Self::Term | Self::Int | Self::Hup => true,
            Self::Stop | Self::Cont => false,
        }
    }

    /// Its name without `SIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.signal().as_str().trim_start_matches("SIG")
    }
}

impl std::str::FromStr for KillSignal {
    type Err = InvalidSignal;

    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let signal: Option<Signal> = match upper.parse::<i32>() {
            Ok(number) => Signal::try_from(number).ok(),
            Err(_) => format!("SIG{name}").parse().ok(),
        };
        let unknown = || InvalidSignal::Unknown(text.chars().take(SHOWN).collect());
        let signal = signal.ok_or_else(unknown)?;
        let known = Self::ALL.into_iter().find(|one| one.signal() == signal);
        known.ok_or(InvalidSignal::Meaningless(signal))
    }
}

impl TryFrom<String> for KillSignal {
    type Error = InvalidSignal;
    fn try_from(text: String) -> Result<Self, InvalidSignal> {
        text.parse()
    }
}

impl From<KillSignal> for String {
    fn from(signal: KillSignal) -> Self {
        signal.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, signal) in [
            ("KILL", KillSignal::Kill),
            ("SIGKILL", KillSignal::Kill),
            ("9", KillSignal::Kill),
            ("sigterm", KillSignal::Term),
            (" 15 ", KillSignal::Term),
            ("Stop", KillSignal::Stop),
        ] {
            assert_eq!(text.parse(), Ok(signal), "{text}");
        }
        for signal in KillSignal::ALL {
            assert_eq!(signal.name().parse(), Ok(signal));
        }
    }

    #[test]
    fn what_is_no_signal_is_said_clearly() {
        let said = |text: &str| text.parse::<KillSignal>().expect_err("refused").to_string();
        let choice = "write KILL, TERM, INT, HUP, STOP or CONT";
        assert_eq!(said("FOO"), format!("there is no signal `FOO`: {choice}"));
        assert_eq!(said("-9"), format!("there is no signal `-9`: {choice}"));
        assert_eq!(said("99"), format!("there is no signal `99`: {choice}"));
        assert_eq!(said("\u{1b}[2J"), format!("there is no signal `\\u{{1b}}[2J`: {choice}"));
        assert_eq!(said("USR1"), format!("SIGUSR1 means nothing to a machine: {choice}"));
        assert!(said(&"x".repeat(1000)).len() < 150);
    }
}
