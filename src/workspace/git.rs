//! The one wrapper of the `git` program.
//!
//! Commands on the source repository see the user's own configuration, because it decides what is
//! ignored, who the user is and whom git trusts; commands in the scratch folder see no configuration
//! but the scratch repository's. Neither sees a `GIT_*` variable of the daemon's environment.

use std::path::Path;
use std::time::Duration;

use super::WorkspaceError;
use crate::process::{Tool, ToolError};

/// For questions that are answered from a few small files.
const QUESTION_DEADLINE: Duration = Duration::from_secs(30);

/// For work that reads the whole tree or the history, perhaps on a slow disk.
const WORK_DEADLINE: Duration = Duration::from_secs(600);

/// Answers to small questions: a configuration has a few KiB.
const QUESTION_OUTPUT: u64 = 4 << 20;

/// Lists of files: a million files with names of a hundred bytes and more.
const LIST_OUTPUT: u64 = 256 << 20;

/// What a git child process needs of the daemon's environment: where programs are and where the
/// user's configuration is.
const KEPT_ENVIRONMENT: &[&str] = &["PATH", "HOME", "XDG_CONFIG_HOME"];

/// Said over whatever a repository's configuration says. `ls-files` would start an fsmonitor, and
/// nothing here may start a hook, a background repack or a credential helper.
const OVERRIDES: &[(&str, &str)] = &[
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.untrackedCache", "false"),
    ("core.logAllRefUpdates", "false"), // a reflog would carry the host's name into the guest
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.version", "2"),
];

/// How much a command may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// A question about a few small files.
    Question,
    /// Reads or writes about as much as the repository has.
    Work,
}

fn git(folder: &Path, size: Size) -> Tool {
    let (deadline, output) = match size {
        Size::Question => (QUESTION_DEADLINE, QUESTION_OUTPUT),
        Size::Work => (WORK_DEADLINE, LIST_OUTPUT),
    };
    let mut tool = Tool::new("git")
        .current_dir(folder)
        .deadline(deadline)
        .max_output(output)
        .keep_only_env(KEPT_ENVIRONMENT)
        .env("LC_ALL", "C") // two of its sentences are recognised
        .env("GIT_OPTIONAL_LOCKS", "0") // the index is not refreshed on disk
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1") // a partial clone does not go to the network
        .env("GIT_NO_REPLACE_OBJECTS", "1") // what is fetched is what was asked for
        .env("GIT_CONFIG_COUNT", OVERRIDES.len().to_string());
    // By variables, not by `-c`: the same precedence, and messages show the command alone.
    for (number, (key, value)) in OVERRIDES.iter().enumerate() {
        tool = tool
            .env(&format!("GIT_CONFIG_KEY_{number}"), key)
            .env(&format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    tool
}

/// Git in the source repository, for commands that only read. No transport is allowed to it at all.
pub(super) fn in_source(folder: &Path, size: Size) -> Tool {
    git(folder, size).env("GIT_ALLOW_PROTOCOL", "none")
}

/// Git in a scratch repository of our own.
pub(super) fn in_scratch(folder: &Path, size: Size) -> Tool {
    git(folder, size)
        .env("GIT_ALLOW_PROTOCOL", "file")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
}

/// Runs it; `doing` completes "cannot …".
pub(super) async fn run(tool: Tool, doing: &'static str) -> Result<Vec<u8>, WorkspaceError> {
    tool.run().await.map_err(|source| WorkspaceError::Git { doing, source })
}

/// Runs a command that says "no" by exit status 1: `None` then.
pub(super) async fn ask(
    tool: Tool,
    doing: &'static str,
) -> Result<Option<Vec<u8>>, WorkspaceError> {
    match tool.run().await {
        Ok(answer) => Ok(Some(line(answer))),
        Err(ToolError::Failed { status, .. }) if status.code() == Some(1) => Ok(None),
        Err(source) => Err(WorkspaceError::Git { doing, source }),
    }
}

/// An answer without the newline that git puts at its end; other newlines may be part of a path.
pub(super) fn line(mut answer: Vec<u8>) -> Vec<u8> {
    if answer.last() == Some(&b'\n') {
        answer.pop();
    }
    answer
}
