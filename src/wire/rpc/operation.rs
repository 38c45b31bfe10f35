//! Operations as clients see them.

use serde::{Deserialize, Serialize};

use super::Vm;
use crate::id::{OperationId, VmId, VmName};
use crate::report::{Kind, Report};

/// A long piece of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does: `create`, `start`, `restart`, `prepare`.
    pub action: String,
    /// The VM it is about.
    pub vm: VmId,
    /// That VM's name.
    pub vm_name: VmName,
    /// Its stages so far, in order.
    pub stages: Vec<Stage>,
    /// Things the user should know, such as a boot that was tried again.
    pub notes: Vec<String>,
    /// When it began.
    pub started_at: String,
    /// How it ended; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<OperationEnd>,
}

/// One stage of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Stage {
    /// Its name: `preflight`, `stop`, `disks`, `configure`, `network`, `monitor`, `boot`, `hooks`, `setup`,
    /// `inspect`, `look`, `pack`, `workspace`, `post-start`; and for the component of each plugin `hook ID` as a part of `hooks`, and
    /// `hook ID POINT` as a part of others.
    pub name: String,
    /// Microseconds since the operation began.
    pub began_us: u64,
    /// Microseconds it took; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

/// How an operation ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum OperationEnd {
    /// It did what it should.
    Done {
        /// The VM afterwards.
        vm: Box<Vm>,
    },
    /// It failed.
    Failed {
        /// Why.
        error: Report,
        /// Whether the VM was kept for inspection.
        vm_kept: bool,
        /// Where the console was saved, when the VM was not kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        console_saved: Option<String>,
    },
}

impl OperationEnd {
    /// The kind of the failure, if it is one.
    #[must_use]
    pub fn failure(&self) -> Option<Kind> {
        match self {
            Self::Done { .. } => None,
            Self::Failed { error, .. } => Some(error.kind),
        }
    }
}
