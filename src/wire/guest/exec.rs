//! Programs in a guest: what is run, how it is steered and how it ends, with somebody there or detached.

use serde::{Deserialize, Serialize};

use crate::id::ExecId;

/// A program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments, as they are: no shell. Strings of any bytes are not needed
    /// (the RPC is JSON), so these are UTF-8. Empty: the login shell, as a login shell.
    pub argv: Vec<String>,
    /// Added to the login environment (HOME, USER, LOGNAME, SHELL, PATH, TERM).
    pub env: Vec<(String, String)>,
    /// The folder to run in: relative to the home, or absolute. The home when it is not given; an
    /// absent folder is a failure of kind `other`.
    pub cwd: Option<String>,
    /// A pseudo-terminal of this size; then all output is stdout.
    pub tty: Option<TtySize>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What the host says to a running program, besides stdin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum ExecInput {
    /// Send a signal to the program's process group.
    Signal {
        /// Its Linux number.
        signal: i32,
    },
    /// The terminal has a new size.
    Resize {
        /// The size.
        size: TtySize,
    },
}

/// Why a program could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExecFailure {
    /// No such program: exit status 127.
    NotFound,
    /// There, but it cannot be executed: exit status 126.
    NotExecutable,
    /// Anything else (no memory, no such folder): a failure of cove, exit status 125.
    Other,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStatus {
    /// It exited with this status.
    Exited(u8),
    /// It was killed by this signal.
    Signalled(i32),
}

impl ExecStatus {
    /// The exit status that shells and `cove exec` show: the program's own, or 128 plus the signal.
    #[must_use]
    pub fn shell_status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// A program that runs with nobody there: it goes on until its end or the boot's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Detach {
    /// The program.
    pub exec: Exec,
    /// What it reads.
    pub stdin: DetachedStdin,
}

/// What a detached program reads, unless it has a terminal, which is always open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DetachedStdin {
    /// Nothing: its input is at its end from the beginning.
    #[default]
    Ended,
    /// What those send who attach.
    Open,
}

/// What became of a program that was to run detached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DetachOutcome {
    /// It was started.
    Started {
        /// Its id, of this boot.
        id: ExecId,
        /// Its process id in the guest.
        pid: i32,
    },
    /// It could not be.
    NotStarted {
        /// Why, in the sense of exit statuses 126 and 127.
        reason: ExecFailure,
        /// The error. Hostile: escape before showing.
        message: String,
    },
}

/// A detached program, as one who attaches to it finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its process id in the guest.
    pub pid: i32,
    /// Whether it has a terminal.
    pub tty: bool,
    /// How many bytes of its output came before what is kept.
    pub lost: u64,
    /// Input of those who were attached before that it has not taken: so much of the
    /// [`StdinWindow`](crate::wire::window::StdinWindow) is used.
    pub stdin_waiting: u32,
}

/// Most detached programs of a guest, those that have ended included.
pub const MAX_DETACHED: usize = 64;

/// The longest command that is told of a program, in characters.
pub const MAX_COMMAND: usize = 500;

/// The detached programs of a guest. Hostile like everything a guest says: see [`bounded`](Self::bounded).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachedPrograms {
    /// The programs, oldest first.
    pub programs: Vec<DetachedProgram>,
}

impl DetachedPrograms {
    /// No more of it than an agent tells.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.programs.truncate(MAX_DETACHED);
        for program in &mut self.programs {
            if program.command.chars().count() > MAX_COMMAND {
                program.command = program.command.chars().take(MAX_COMMAND).collect();
            }
        }
        self
    }

    /// Whether one of them has not ended.
    #[must_use]
    pub fn any_runs(&self) -> bool {
        self.programs.iter().any(|program| program.state == DetachedState::Running)
    }
}

/// A detached program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachedProgram {
    /// Its id, of this boot.
    pub id: ExecId,
    /// Its words, joined by blanks and cut to [`MAX_COMMAND`]; for people.
    pub command: String,
    /// Its process id in the guest.
    pub pid: i32,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Milliseconds since it was started.
    pub age_ms: u64,
    /// Whether somebody is attached to it.
    pub attached: bool,
    /// How it is.
    pub state: DetachedState,
}

/// How a detached program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DetachedState {
    /// It runs.
    Running,
    /// It ended by itself, with this status.
    Exited(u8),
    /// It was killed by this signal.
    Signalled(i32),
    /// The agent lost sight of it and sent it SIGHUP: a failure of the guest.
    Lost,
}

impl From<ExecStatus> for DetachedState {
    fn from(status: ExecStatus) -> Self {
        match status {
            ExecStatus::Exited(status) => Self::Exited(status),
            ExecStatus::Signalled(signal) => Self::Signalled(signal),
        }
    }
}
