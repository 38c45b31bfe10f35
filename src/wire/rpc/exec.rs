//! Programs in guests that run detached.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ExecVm;
use crate::id::ExecId;
use crate::wire::guest::{DetachedState, DetachedStdin, TtySize};

/// Parameters of `vm.exec.detach`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DetachVm {
    /// The VM.
    pub vm: String,
    /// The program and its arguments; empty for a login shell.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder to run in; the workspace, or the home, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A pseudo-terminal of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// What it reads; a terminal is always open.
    #[serde(default)]
    pub stdin: DetachedStdin,
}

impl DetachVm {
    /// The program, and what it reads.
    #[must_use]
    pub fn into_parts(self) -> (ExecVm, DetachedStdin) {
        let Self { vm, argv, env, cwd, tty, stdin } = self;
        (ExecVm { vm, argv, env, cwd, tty }, stdin)
    }
}

/// Parameters of `vm.exec.attach`. The returned ticket opens a byte stream, which carries frames as they are
/// said at `wire::guest::Request::Attach`, from the reply on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachVm {
    /// The VM.
    pub vm: String,
    /// The program, as `vm.exec.detach` has named it.
    pub id: ExecId,
}

/// The detached programs of a VM's boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct DetachedList {
    /// The programs, oldest first.
    pub commands: Vec<DetachedCommand>,
}

/// A detached program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct DetachedCommand {
    /// Its id.
    pub id: ExecId,
    /// Its words, joined by blanks and cut, for people. Hostile: escape before showing.
    pub command: String,
    /// Its process id in the guest.
    pub pid: i32,
    /// Whether it has a terminal.
    pub tty: bool,
    /// When it was started.
    pub started_at: String,
    /// Whether somebody is attached to it.
    pub attached: bool,
    /// How it is.
    pub state: DetachedState,
}
