//! Programs in guests besides those that `vm.exec` opens a byte stream for: detached ones, and those that are
//! told by events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ExecVm;
use crate::id::ExecId;
use crate::wire::guest::{DetachedState, DetachedStdin, ExecFailure, TtySize};

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

/// Parameters of `vm.exec.subscribe`: a program to run, with nothing to read, or one to attach to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubscribeExec {
    /// The VM.
    pub vm: String,
    /// A detached program, instead of one to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<ExecId>,
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
}

/// What happens to a program. The first event is `started` or `failed`, the last one `ended` or `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecEvent {
    /// It runs.
    Started {
        /// Its process id in the guest.
        pid: i32,
        /// Bytes of a detached program's earlier output that are no longer kept.
        #[serde(default)]
        lost: u64,
    },
    /// It has printed something.
    Output {
        /// Where.
        stream: ExecStream,
        /// The bytes, in base64 (RFC 4648, section 4).
        data: String,
    },
    /// It ended, and all of its output was told.
    Ended {
        /// The status it exited with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u8>,
        /// The signal that killed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// It could not be started.
    Failed {
        /// Why, in the sense of exit statuses 126 and 127.
        reason: ExecFailure,
        /// The error. Hostile: escape before showing.
        message: String,
    },
}

/// A stream of a program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExecStream {
    /// Standard output, or all that goes to a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}
