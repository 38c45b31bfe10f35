//! What a program's environment says.

use std::path::PathBuf;

/// A variable that is set and not empty. The one place that reads the environment.
#[expect(clippy::disallowed_methods, reason = "config is the only reader of the environment")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What belongs to the user in front of a client, and travels with requests where the daemon needs it.
#[derive(Debug, Clone, Default)]
pub struct ClientEnvironment {
    /// `SSH_AUTH_SOCK`
    pub ssh_auth_sock: Option<String>,
    /// `TERM`
    pub term: Option<String>,
    /// Whether `NO_COLOR` is set.
    pub no_color: bool,
    /// `HOME`
    pub home: Option<PathBuf>,
}

impl ClientEnvironment {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        Self {
            ssh_auth_sock: variable("SSH_AUTH_SOCK"),
            term: variable("TERM"),
            no_color: variable("NO_COLOR").is_some(),
            home: variable("HOME").map(PathBuf::from),
        }
    }
}

/// The filter of the daemon's log, `COVE_LOG` in the syntax of `RUST_LOG`.
#[must_use]
pub fn log_filter() -> String {
    variable("COVE_LOG").unwrap_or_else(|| "cove=info,warn".to_owned())
}

/// `PATH`, for the programs that the daemon starts.
#[must_use]
pub fn search_path() -> std::ffi::OsString {
    variable("PATH").unwrap_or_else(|| "/usr/bin:/bin".to_owned()).into()
}

/// The environment that a daemon started by this client gets: the client's own, without what travels
/// with each request instead.
#[expect(clippy::disallowed_methods, reason = "config is the only reader of the environment")]
#[must_use]
pub fn daemon_environment() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| name != "SSH_AUTH_SOCK").collect()
}

/// A variable as it is, for a tool that gets it. Nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "config is the only reader of the environment")]
#[must_use]
pub fn passed_on(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
