//! What daemon and network helper say to each other: one JSON value per line, a namespace's descriptor
//! beside [`Request::Attach`].
//!
//! Requests carry no names of interfaces, no addresses and no rules: those follow from the VM's id, from
//! the slot, and from the helper's own configuration.

use serde::{Deserialize, Serialize};

use super::check::ForwardingProblem;
use super::plan::HostPlan;
use crate::id::VmId;
use crate::report::Report;

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Make the host as the plan says. Answered with [`Reply::Synced`].
    Sync {
        /// Everything that is to be there.
        plan: HostPlan,
    },
    /// Give a VM its uplink in the namespace that comes with this.
    Attach {
        /// The VM.
        vm: VmId,
        /// What stands for its addresses.
        slot: u32,
    },
    /// Take it away.
    Detach {
        /// The VM.
        vm: VmId,
    },
    /// Say whether somebody else's rules drop what VMs send. Answered with [`Reply::Checked`].
    Check,
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// The host is as the plan says, but for these.
    Synced {
        /// The VMs that have no port.
        missing: Vec<VmId>,
    },
    /// What was found.
    Checked {
        /// What drops; none when nothing does.
        problem: Option<ForwardingProblem>,
    },
    /// It is not done.
    Failed {
        /// Why.
        report: Report,
    },
}
