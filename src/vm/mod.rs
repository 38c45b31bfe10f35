//! The VM service: it owns the lives of VMs, their operations and their host resources, and nothing
//! else in the daemon does.
//!
//! ```text
//!  create/start/stop/kill/delete          list/show            op.*
//!            │                               │                  │
//!            ▼                               ▼                  ▼
//!   queue ─▶ owner task (one per VM)  ──▶ watch of the record   operations
//!                 │  state::after, start, release
//!                 ▼
//!               ports (rows, processes, machines, networks, outbound, disks, images, guests, hooks, …)
//! ```
//!
//! The service knows no SQLite, no QEMU, no socket and no terminal: what it needs from the rest is in
//! [`ports`].

pub mod address;
pub mod events;
pub mod ledger;
pub mod operation;
pub mod plan;
pub mod ports;
pub mod record;
pub mod state;

mod command;
mod create;
mod detached;
mod hooks;
mod idle;
mod lease;
mod limits;
mod making;
mod outbound;
mod owner;
mod preflight;
mod prepare;
mod publish;
mod recover;
mod release;
mod resolve;
mod roster;
mod service;
mod set;
mod shown;
mod ssh;
mod stall;
mod start;
mod stats;
mod still;
mod stop;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod verbs;
mod work;
mod workspace;

pub use command::{Doom, Doomed, Unexported};
pub use create::CreateDefaults;
pub use hooks::check_extras;
pub use idle::{InUse, Usage};
pub use lease::ConnectionId;
pub use prepare::{Prepare, PrepareVm, cancelled};
pub use service::{VmService, VmSettings};
pub use shown::{Shown, ShownPage};
pub use start::StartDeadlines;
pub use stream::StreamTarget;
pub use workspace::WorkspaceVm;

/// The present time as clients see it.
#[must_use]
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
