//! How a run of a hook failed.

use std::time::Duration;

/// How a run failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// It returned an error.
    #[error("{message} ({code})")]
    Returned {
        /// Its code.
        code: String,
        /// Its message.
        message: String,
    },
    /// It panicked or aborted, and said something.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// It trapped.
    #[error("it crashed: {0}")]
    Trapped(String),
    /// It left with `exit`.
    #[error("it exited with status {0} instead of returning")]
    Exited(i32),
    /// It used up its processor time.
    #[error("it used more than {} ms of processor time", .0.as_millis())]
    Cpu(Duration),
    /// It used up its wall time.
    #[error("it took longer than {} ms", .0.as_millis())]
    Wall(Duration),
    /// It wanted too much memory.
    #[error("it wanted more than {} of memory", mebibytes(*.0))]
    Memory(usize),
    /// It went over another limit.
    #[error("it went over its limit of {0}")]
    Limit(&'static str),
    /// The hooks before it have used up the time of all hooks of its point.
    #[error("nothing was left of the {} s that all hooks of one point have together", .0.as_secs())]
    Phase(Duration),
    /// Its caller gave up.
    #[error("it was cancelled")]
    Cancelled,
    /// It cannot be instantiated.
    #[error("it cannot be started: {0}")]
    Instantiate(String),
}

impl Failure {
    /// Its class, as the log of hook runs has it.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Returned { .. } => "returned",
            Self::Panicked(_) => "panicked",
            Self::Trapped(_) => "trapped",
            Self::Exited(_) => "exited",
            Self::Cpu(_) => "cpu",
            Self::Wall(_) => "wall",
            Self::Memory(_) => "memory",
            Self::Limit(_) => "limit",
            Self::Phase(_) => "phase",
            Self::Cancelled => "cancelled",
            Self::Instantiate(_) => "instantiate",
        }
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}
