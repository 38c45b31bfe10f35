//! The life of a VM as data, and the one function that changes it.
//!
//! ```text
//!             ┌──────── StartFailed(undone) ────────┐
//!             ▼                                     │
//!  Created ──Start──▶ Starting ──Started──▶ Running ──Stop──▶ Stopping
//!     ▲                ▲  │                  │    ▲              │
//!     │ (first start)  │  │ StartFailed      │    └ (adopted)    │ Ended
//!     │                │  │ (kept)           │ Ended             ▼
//!     │                │  ▼                  └──────────────▶ Stopped ◀─┐
//!     │                └─ Error ◀── Ended(cause)                │       │
//!     └────────────────────┴──────────── Start ─────────────────┘       │
//!                                              StartFailed(undone) ─────┘
//! ```
//!
//! - `Start`: somebody asked for it; from `Created`, `Stopped` and `Error`.
//! - `Started`: the guest has its identity and answers; the boot's data come with it.
//! - `StartFailed`: the host, a hook or a cancel ended the start and everything it made is gone (back to
//!   what it was), or the guest never became reachable and the VM is kept for inspection (`Error`).
//! - `Stop`: somebody asked for it; from `Running`.
//! - `Ended`: the monitor is gone and torn down, whoever ended it.
//!
//! Deleting is not a state: a VM that is being deleted goes through `Ended` and then its row goes.
//! Nothing here does anything; `owner` acts and reports, this module decides.

use serde::{Deserialize, Serialize};

use crate::id::{BootId, OperationId};
use crate::process::ProcessId;
use crate::wire::guest::Network;
use crate::wire::rpc::VmState;

/// Where a VM is in its life. Each state owns what only it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Made, never started.
    Created,
    /// Being started by this operation.
    Starting {
        /// The operation.
        operation: OperationId,
        /// What it goes back to when the start is undone.
        before: Rest,
    },
    /// The guest answers.
    Running {
        /// The boot.
        boot: Boot,
    },
    /// The guest powers off.
    Stopping {
        /// The boot that ends.
        boot: Boot,
    },
    /// Its disks are there, nothing runs.
    Stopped {
        /// Why, when nobody asked for it.
        cause: Option<String>,
    },
    /// The last start failed in the guest; what is left can be looked at.
    Error {
        /// What happened.
        cause: String,
    },
}

/// The states in which nothing runs, for going back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rest", rename_all = "snake_case")]
pub enum Rest {
    /// Never started.
    Created,
    /// Stopped.
    Stopped,
    /// In error.
    Error {
        /// The cause of that error.
        cause: String,
    },
}

/// One boot of a VM: what is needed to reach it and to end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Its id.
    pub id: BootId,
    /// The key of the mutual proof, hexadecimal.
    pub key: String,
    /// How processors run.
    pub accel: Accel,
    /// The monitor.
    pub monitor: ProcessId,
    /// How the agent is reached.
    pub vsock: VsockAddress,
    /// The guest's network.
    pub network: Option<Network>,
}

/// How processors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The kernel's hypervisor.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accel {
    /// The name as QEMU writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// How the guest's vsock is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "vsock", rename_all = "snake_case")]
pub enum VsockAddress {
    /// A Unix socket of this name in the VM's folder, with a `CONNECT` handshake.
    Socket {
        /// The name.
        name: String,
    },
    /// AF_VSOCK with this context id.
    Context {
        /// The context id.
        cid: u32,
    },
}

/// What happened to a VM, or is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is to be started.
    Start {
        /// By this operation.
        operation: OperationId,
    },
    /// Its guest answers.
    Started {
        /// The boot.
        boot: Boot,
    },
    /// The start failed, and nothing of it is left on the host.
    StartFailed {
        /// Why the VM is kept in `Error`; none when the start is undone.
        kept: Option<String>,
    },
    /// It is to be stopped.
    Stop,
    /// Nothing of the boot runs any more, and everything it had is released.
    Ended {
        /// Why, when nobody asked for it.
        cause: Option<String>,
    },
}

/// The event does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the VM is {}, so it cannot be {wanted}", state_word(*.state))]
pub struct WrongState {
    /// The state it is in.
    pub state: VmState,
    /// What was to be done.
    pub wanted: &'static str,
}

fn state_word(state: VmState) -> &'static str {
    match state {
        VmState::Created => "not started yet",
        VmState::Starting => "being started",
        VmState::Running => "running",
        VmState::Stopping => "being stopped",
        VmState::Stopped => "stopped",
        VmState::Error => "in error",
    }
}

impl State {
    /// The state after `event`. Pure and exhaustive.
    ///
    /// # Errors
    /// When the event does not fit; the state is as it was.
    #[expect(clippy::too_many_lines, reason = "one table, every case written out")]
    pub fn after(self, event: Event) -> Result<Self, WrongState> {
        let wrong = |state: &Self, wanted| Err(WrongState { state: state.view(), wanted });
        match (self, event) {
            (Self::Created, Event::Start { operation }) => {
                Ok(Self::Starting { operation, before: Rest::Created })
            }
            (Self::Stopped { cause: _ }, Event::Start { operation }) => {
                Ok(Self::Starting { operation, before: Rest::Stopped })
            }
            (Self::Error { cause }, Event::Start { operation }) => {
                Ok(Self::Starting { operation, before: Rest::Error { cause } })
            }
            (
                state @ (Self::Starting { .. } | Self::Running { .. } | Self::Stopping { .. }),
                Event::Start { operation: _ },
            ) => wrong(&state, "started"),

            (Self::Starting { operation: _, before: _ }, Event::Started { boot }) => {
                Ok(Self::Running { boot })
            }
            (
                state @ (Self::Created
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }),
                Event::Started { boot: _ },
            ) => wrong(&state, "reported as started"),

            (Self::Starting { operation: _, before }, Event::StartFailed { kept: None }) => {
                Ok(before.into())
            }
            (Self::Starting { .. }, Event::StartFailed { kept: Some(cause) }) => {
                Ok(Self::Error { cause })
            }
            (
                state @ (Self::Created
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }),
                Event::StartFailed { kept: _ },
            ) => wrong(&state, "reported as failed"),

            (Self::Running { boot }, Event::Stop) => Ok(Self::Stopping { boot }),
            (
                state @ (Self::Created
                | Self::Starting { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }),
                Event::Stop,
            ) => wrong(&state, "stopped"),

            (Self::Running { .. } | Self::Stopping { .. }, Event::Ended { cause }) => {
                Ok(Self::Stopped { cause })
            }
            (Self::Starting { operation: _, before }, Event::Ended { cause: None }) => {
                Ok(before.into())
            }
            (Self::Starting { .. }, Event::Ended { cause: Some(cause) }) => {
                Ok(Self::Stopped { cause: Some(cause) })
            }
            (
                state @ (Self::Created | Self::Stopped { .. } | Self::Error { .. }),
                Event::Ended { cause: _ },
            ) => Ok(state),
        }
    }

    /// The boot, while there is one.
    #[must_use]
    pub fn boot(&self) -> Option<&Boot> {
        match self {
            Self::Running { boot } | Self::Stopping { boot } => Some(boot),
            Self::Created | Self::Starting { .. } | Self::Stopped { .. } | Self::Error { .. } => {
                None
            }
        }
    }

    /// Why it is as it is, where somebody should know.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Stopped { cause } => cause.as_deref(),
            Self::Error { cause } => Some(cause),
            Self::Created
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Stopping { .. } => None,
        }
    }

    /// The state as clients see it.
    #[must_use]
    pub fn view(&self) -> VmState {
        match self {
            Self::Created => VmState::Created,
            Self::Starting { .. } => VmState::Starting,
            Self::Running { .. } => VmState::Running,
            Self::Stopping { .. } => VmState::Stopping,
            Self::Stopped { .. } => VmState::Stopped,
            Self::Error { .. } => VmState::Error,
        }
    }
}

impl From<Rest> for State {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Created => Self::Created,
            Rest::Stopped => Self::Stopped { cause: None },
            Rest::Error { cause } => Self::Error { cause },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boot() -> Boot {
        Boot {
            id: "0123456789abcdef".parse().expect("valid"),
            key: "00".repeat(32),
            accel: Accel::Tcg,
            monitor: ProcessId { pid: 1, start_ticks: 1 },
            vsock: VsockAddress::Context { cid: 3 },
            network: None,
        }
    }

    fn event(number: u8) -> Event {
        match number {
            0 => Event::Start { operation: "0123456789ab".parse().expect("valid") },
            1 => Event::Started { boot: boot() },
            2 => Event::StartFailed { kept: None },
            3 => Event::StartFailed { kept: Some("no guest".to_owned()) },
            4 => Event::Stop,
            5 => Event::Ended { cause: None },
            _ => Event::Ended { cause: Some("it died".to_owned()) },
        }
    }

    proptest! {
        /// A boot exists exactly between `Started` and `Ended`, and no sequence of events leaves a
        /// state that cannot be ended and started again.
        #[test]
        fn whatever_happens_the_vm_can_be_ended_and_started(events in proptest::collection::vec(0_u8..7, 0..40)) {
            let mut state = State::Created;
            let mut has_boot = false;
            for number in events {
                let before = state.clone();
                match state.after(event(number)) {
                    Ok(next) => {
                        has_boot = match number { 1 => true, 5 | 6 => false, _ => has_boot };
                        state = next;
                    }
                    Err(error) => {
                        prop_assert_eq!(error.state, before.view());
                        state = before;
                    }
                }
                prop_assert_eq!(state.boot().is_some(), has_boot);
            }
            let ended = state.after(event(5)).expect("everything can be ended");
            prop_assert!(ended.boot().is_none());
            prop_assert!(ended.after(event(0)).is_ok());
        }
    }

    #[test]
    fn a_failed_start_goes_back_to_what_was() {
        for rest in [Rest::Created, Rest::Stopped, Rest::Error { cause: "old".to_owned() }] {
            let state = State::from(rest.clone()).after(event(0)).expect("starts");
            assert_eq!(state.after(event(2)), Ok(State::from(rest)));
        }
    }

    #[test]
    fn a_refusal_is_a_sentence() {
        let error = State::Running { boot: boot() }.after(event(0)).expect_err("refused");
        assert_eq!(error.to_string(), "the VM is running, so it cannot be started");
    }

    #[test]
    fn states_survive_their_row() {
        let state = State::Running { boot: boot() };
        let text = serde_json::to_string(&state).expect("writes");
        assert_eq!(serde_json::from_str::<State>(&text).expect("reads"), state);
    }
}
