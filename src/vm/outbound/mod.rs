//! What a VM may reach: its own policy, written with its row, and what plugins add to it for a boot.
//!
//! ```text
//!  configuration ─┐
//!                 ├─▶ VmSpec::egress ─┐
//!  its maker ─────┘   (row)           ├─▶ in force, as its keeper knows it
//!  net.allow/deny, vm.set ─▶ row      │      start, adopt, set_policy
//!  plugins ─▶ Boot::extras (row) ─────┘
//! ```
//!
//! A change is one of its owner's commands: first the row, then the keeper of a VM that runs. Questions go
//! past the owner: they change nothing.

mod asking;
mod change;
mod peers;

pub(super) use change::Reach;

use super::limits::check_rules;
use super::record::VmRecord;
use super::state::Extras;
use crate::egress::{Mode, Policy};
use crate::report::{Kind, Report};
use crate::wire::rpc::{CreateVm, NetMode};

/// What a new VM may reach. Whoever only says what to allow wants nothing else to be.
///
/// # Errors
/// When it is to have no network, or too many rules.
pub(super) fn policy_of(
    wanted: &CreateVm,
    net: NetMode,
    defaults: &Policy,
) -> Result<Policy, Report> {
    if net == NetMode::None && says_something(wanted) {
        let message = "a VM without a network reaches nothing, so there is nothing to allow";
        return Err(Report::new(Kind::Conflict, message)
            .with_hint("leave out `--net none`, or `--egress` and `--allow`"));
    }
    let unsaid = if wanted.allow.is_empty() { defaults.mode } else { Mode::Allow };
    let mode = wanted.egress.unwrap_or(unsaid);
    let policy = Policy { mode, rules: defaults.rules.clone() }.with(&wanted.allow);
    check_rules(policy.rules.len())?;
    Ok(policy)
}

/// What its maker should know of it: nothing where all of it is the configuration's, which would be told
/// again with every VM.
pub(super) fn warnings(wanted: &CreateVm, policy: &Policy) -> Vec<String> {
    if says_something(wanted) { policy.warnings() } else { Vec::new() }
}

fn says_something(wanted: &CreateVm) -> bool {
    wanted.egress.is_some() || !wanted.allow.is_empty()
}

impl VmRecord {
    /// What it may reach in a boot with these extras.
    pub(super) fn egress_with(&self, extras: &Extras) -> Policy {
        self.spec.egress.with(&extras.egress)
    }

    /// What it may reach now, or without a boot what the next one begins with.
    pub(super) fn egress(&self) -> Policy {
        let boot = self.state.boot();
        boot.map_or_else(|| self.spec.egress.clone(), |boot| self.egress_with(&boot.extras))
    }

    /// Refuses to say what a VM without a network may reach.
    pub(super) fn check_network(&self) -> Result<(), Report> {
        if self.spec.net != NetMode::None {
            return Ok(());
        }
        let name = &self.name;
        let message =
            format!("the VM `{name}` has no network, so there is nothing to allow or deny");
        Err(Report::new(Kind::Conflict, message)
            .with_hint("a VM gets its network when it is made: `--net user`"))
    }
}
