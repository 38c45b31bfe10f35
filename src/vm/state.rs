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
//! - Before `Created` there is `Making`: its row exists, its disks do not yet. `Made` ends it for a VM that
//!   is not to be started; `FirstStart` starts it, and a failure of that start goes back to `Making`.
//! - `Start`: somebody asked for it; from `Created`, `Stopped` and `Error`.
//! - `Started`: the guest has its identity and answers; the boot's data come with it.
//! - `StartFailed`: the host, a hook or a cancel ended the start and everything it made is gone (back to
//!   what it was), or the guest never became reachable and the VM is kept for inspection (`Error`).
//! - `Stop`: somebody asked for it; from `Running`.
//! - `Grown`: the work disk of a VM that runs is larger now; it goes on running.
//! - `Ended`: the monitor is gone and torn down, whoever ended it.
//!
//! A VM that runs may stand still because the host's disk is full. That is no state: only its monitor knows,
//! and it is never written down (see `stall`).
//!
//! A restart has no state of its own: it is `Stop`, `Ended` and `Start` by one operation, so that what
//! breaks off in between is a VM that is stopped.
//!
//! `Delete` leads from everywhere to `Deleting`, which only the end of the row ends. A row in `Making` or
//! `Deleting` is of a VM that is not whole: recovery removes it, and it cannot be started.
//! Nothing here does anything; `owner` acts and reports, this module decides.

use serde::{Deserialize, Serialize};

use crate::id::OperationId;
use crate::wire::rpc::VmState;

mod boot;

pub use boot::{Accel, Boot, Extras, MachineSize, VsockAddress};

/// Where a VM is in its life. Each state owns what only it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Being made: its disks may be there or not.
    Making,
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
    /// Being deleted: what it had may be there or not.
    Deleting,
}

/// The states in which nothing runs, for going back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rest", rename_all = "snake_case")]
pub enum Rest {
    /// Being made: its maker undoes the rest.
    Making,
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

/// What happened to a VM, or is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its disks are there, and it is not to be started now.
    Made,
    /// Its disks are there, and its maker starts it.
    FirstStart {
        /// By this operation.
        operation: OperationId,
    },
    /// It is to be started.
    Start {
        /// By this operation.
        operation: OperationId,
    },
    /// Its guest answers.
    Started {
        /// The boot.
        boot: Box<Boot>,
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
    /// The work disk has grown, in the guest too.
    Grown {
        /// Its size.
        disk_bytes: u64,
    },
    /// It is to be deleted.
    Delete,
}

/// The event does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the VM is {is}, so it cannot be {wanted}")]
pub struct WrongState {
    /// The state it is in.
    pub state: VmState,
    /// That state in words.
    pub is: &'static str,
    /// What was to be done.
    pub wanted: &'static str,
}

impl State {
    /// The state after `event`. Pure and exhaustive.
    ///
    /// # Errors
    /// When the event does not fit; the state is as it was.
    #[expect(clippy::too_many_lines, reason = "one table, every case written out")]
    pub fn after(self, event: Event) -> Result<Self, WrongState> {
        let wrong = |state: &Self, wanted| {
            Err(WrongState { state: state.view(), is: state.word(), wanted })
        };
        match (self, event) {
            (Self::Making, Event::Made) => Ok(Self::Created),
            (
                state @ (Self::Created
                | Self::Starting { .. }
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::Made,
            ) => wrong(&state, "reported as made"),

            (Self::Making, Event::FirstStart { operation }) => {
                Ok(Self::Starting { operation, before: Rest::Making })
            }
            (
                state @ (Self::Created
                | Self::Starting { .. }
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::FirstStart { operation: _ },
            ) => wrong(&state, "started by its maker"),

            (
                Self::Making
                | Self::Created
                | Self::Starting { .. }
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting,
                Event::Delete,
            ) => Ok(Self::Deleting),

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
                state @ (Self::Making
                | Self::Starting { .. }
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Deleting),
                Event::Start { operation: _ },
            ) => wrong(&state, "started"),

            (Self::Starting { operation: _, before: _ }, Event::Started { boot }) => {
                Ok(Self::Running { boot: *boot })
            }
            (
                state @ (Self::Making
                | Self::Created
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::Started { boot: _ },
            ) => wrong(&state, "reported as started"),

            (Self::Starting { operation: _, before }, Event::StartFailed { kept: None }) => {
                Ok(before.into())
            }
            (Self::Starting { .. }, Event::StartFailed { kept: Some(cause) }) => {
                Ok(Self::Error { cause })
            }
            (
                state @ (Self::Making
                | Self::Created
                | Self::Running { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::StartFailed { kept: _ },
            ) => wrong(&state, "reported as failed"),

            (Self::Running { boot }, Event::Stop) => Ok(Self::Stopping { boot }),
            (
                state @ (Self::Making
                | Self::Created
                | Self::Starting { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::Stop,
            ) => wrong(&state, "stopped"),

            (Self::Running { mut boot }, Event::Grown { disk_bytes }) => {
                boot.size.disk_bytes = disk_bytes;
                Ok(Self::Running { boot })
            }
            (
                state @ (Self::Making
                | Self::Created
                | Self::Starting { .. }
                | Self::Stopping { .. }
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::Grown { disk_bytes: _ },
            ) => wrong(&state, "reported as grown"),

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
                state @ (Self::Making
                | Self::Created
                | Self::Stopped { .. }
                | Self::Error { .. }
                | Self::Deleting),
                Event::Ended { cause: _ },
            ) => Ok(state),
        }
    }

    /// Whether it can be started.
    ///
    /// # Errors
    /// When it is not at rest.
    pub fn check_start(&self) -> Result<(), WrongState> {
        let operation = OperationId::random();
        self.clone().after(Event::Start { operation }).map(drop)
    }

    /// Whether it can be restarted.
    ///
    /// # Errors
    /// When it neither runs nor is at rest.
    pub fn check_restart(&self) -> Result<(), WrongState> {
        match self.clone().after(Event::Stop) {
            Ok(_) => Ok(()),
            Err(_) => {
                let wrong = |wrong| WrongState { wanted: "restarted", ..wrong };
                self.check_start().map_err(wrong)
            }
        }
    }

    /// The boot, while there is one.
    #[must_use]
    pub fn boot(&self) -> Option<&Boot> {
        match self {
            Self::Running { boot } | Self::Stopping { boot } => Some(boot),
            Self::Making
            | Self::Created
            | Self::Starting { .. }
            | Self::Stopped { .. }
            | Self::Error { .. }
            | Self::Deleting => None,
        }
    }

    /// Why it is as it is, where somebody should know.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Stopped { cause } => cause.as_deref(),
            Self::Error { cause } => Some(cause),
            Self::Making
            | Self::Created
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Stopping { .. }
            | Self::Deleting => None,
        }
    }

    /// The state as clients see it.
    #[must_use]
    pub fn view(&self) -> VmState {
        match self {
            Self::Making | Self::Created => VmState::Created,
            Self::Starting { .. } => VmState::Starting,
            Self::Running { .. } => VmState::Running,
            Self::Stopping { .. } | Self::Deleting => VmState::Stopping,
            Self::Stopped { .. } => VmState::Stopped,
            Self::Error { .. } => VmState::Error,
        }
    }

    /// The state in words, for refusals.
    fn word(&self) -> &'static str {
        match self {
            Self::Making => "being made",
            Self::Created => "not started yet",
            Self::Starting { .. } => "being started",
            Self::Running { .. } => "running",
            Self::Stopping { .. } => "being stopped",
            Self::Stopped { .. } => "stopped",
            Self::Error { .. } => "in error",
            Self::Deleting => "being deleted",
        }
    }
}

impl From<Rest> for State {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Making => Self::Making,
            Rest::Created => Self::Created,
            Rest::Stopped => Self::Stopped { cause: None },
            Rest::Error { cause } => Self::Error { cause },
        }
    }
}

#[cfg(test)]
mod tests;
