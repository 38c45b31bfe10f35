//! What happens to VMs and operations, as clients hear of it.

use serde::{Deserialize, Serialize};

use super::{HookPoint, VmState};
use crate::id::{OperationId, PluginId, VmId, VmName};
use crate::report::Report;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Event {
    /// Its number: events are counted from 1, anew by every daemon.
    pub number: u64,
    /// When it happened.
    pub at: String,
    /// What it was.
    #[serde(flatten)]
    pub what: Happening,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// A VM was made.
    VmCreated {
        /// The VM.
        vm: VmId,
        /// Its name.
        vm_name: VmName,
    },
    /// A VM came into another state.
    VmState {
        /// The VM.
        vm: VmId,
        /// Its name.
        vm_name: VmName,
        /// The state it is in now.
        state: VmState,
        /// Why, where it was not asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// A VM that runs has come to stand still: the host does not take what its guest writes.
    VmStalled {
        /// The VM.
        vm: VmId,
        /// Its name.
        vm_name: VmName,
        /// Why.
        reason: String,
    },
    /// A VM that stood still goes on.
    VmWentOn {
        /// The VM.
        vm: VmId,
        /// Its name.
        vm_name: VmName,
    },
    /// A hook failed where that stopped nothing: its plugin is optional, or the VM was stopping or going.
    HookFailed {
        /// The VM.
        vm: VmId,
        /// Its name.
        vm_name: VmName,
        /// The plugin.
        plugin: PluginId,
        /// The hook point.
        hook: HookPoint,
        /// What went wrong.
        message: String,
    },
    /// A VM was deleted.
    VmDeleted {
        /// The VM.
        vm: VmId,
        /// Its name.
        vm_name: VmName,
    },
    /// An operation began.
    OperationBegan {
        /// The operation.
        operation: OperationId,
        /// What it does: `create`, `start`.
        action: String,
        /// The VM it is about.
        vm: VmId,
        /// That VM's name.
        vm_name: VmName,
    },
    /// An operation ended.
    OperationEnded {
        /// The operation.
        operation: OperationId,
        /// What it did.
        action: String,
        /// The VM it was about.
        vm: VmId,
        /// That VM's name.
        vm_name: VmName,
        /// Why it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Report>,
    },
    /// Said to one subscriber only, who was too slow: events before this number were not sent to it.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// Which events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Those after this number. When not given, `events.list` gives all that are remembered, and
    /// `events.subscribe` those that happen from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// The events that a daemon remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// How many of those asked for are no longer remembered.
    pub lost: u64,
}
