//! Tools: programs that are run to their end.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How much a tool may print on stderr before the rest is dropped: enough for any message.
const MAX_TOOL_STDERR: u64 = 64 * 1024;

/// A tool that could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("`{program}` failed ({status}): {stderr}")]
    Failed {
        /// The program with its first arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// It did not end in time and was killed.
    #[error("`{program}` did not end within {} s", deadline.as_secs())]
    TimedOut {
        /// The program with its first arguments.
        program: String,
        /// The deadline.
        deadline: Duration,
    },
    /// It printed more than its caller can use, and was killed.
    #[error("`{program}` printed more than {limit} bytes")]
    TooMuchOutput {
        /// The program with its first arguments.
        program: String,
        /// The bound.
        limit: u64,
    },
}

/// A program to be run to its end.
#[derive(Debug)]
pub struct Tool {
    command: tokio::process::Command,
    shown: String,
    input: Vec<u8>,
    deadline: Duration,
    max_output: u64,
}

impl Tool {
    /// A tool with a deadline of 60 s, 16 MiB of output, no input and the daemon's environment.
    #[expect(clippy::disallowed_methods, reason = "this is the one wrapper of child processes")]
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = tokio::process::Command::new(&program);
        command.kill_on_drop(true).stdin(Stdio::null());
        Self {
            shown: program.as_ref().to_string_lossy().into_owned(),
            command,
            input: Vec::new(),
            deadline: Duration::from_secs(60),
            max_output: 16 << 20,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        if self.shown.len() < 80 {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
        }
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Gives it nothing of the daemon's environment but these variables, and what is set after this.
    #[must_use]
    pub fn keep_only_env(mut self, names: &[&str]) -> Self {
        self.command.env_clear();
        for name in names {
            if let Some(value) = crate::config::passed_on(name) {
                self.command.env(name, value);
            }
        }
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it this on stdin.
    #[must_use]
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = input;
        self
    }

    /// Lets it read this on stdin, which somebody else writes.
    #[must_use]
    pub fn stdin(mut self, pipe: io::PipeReader) -> Self {
        self.command.stdin(pipe);
        self
    }

    /// Gives it this much time.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Takes this much of its output.
    #[must_use]
    pub fn max_output(mut self, bytes: u64) -> Self {
        self.max_output = bytes;
        self
    }

    /// Runs it and returns its stdout.
    ///
    /// # Errors
    /// When it cannot be started, fails, prints too much or takes too long.
    pub async fn run(mut self) -> Result<Vec<u8>, ToolError> {
        let program = self.shown;
        let deadline = self.deadline;
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = |source| ToolError::Start { program: program.clone(), source };
        let mut child = self.command.spawn().map_err(start)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| start(io::Error::other("no stdout")))?;
        let stderr = child.stderr.take().ok_or_else(|| start(io::Error::other("no stderr")))?;
        let input = self.input;
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A tool that ends without reading all of its input is judged by its status.
                    stdin.write_all(&input).await.ok();
                }
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let limit = self.max_output + 1;
            let read_out = async {
                let mut stdout = stdout;
                (&mut stdout).take(limit).read_to_end(&mut out).await
            };
            let read_err = async {
                let mut stderr = stderr;
                (&mut stderr).take(MAX_TOOL_STDERR).read_to_end(&mut err).await?;
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await
            };
            let (_, read, _) = tokio::join!(feed, read_out, read_err);
            read?;
            Ok::<_, io::Error>((out, err))
        };
        let timed = tokio::time::timeout(deadline, async {
            let (out, err) = work.await.map_err(start)?;
            if out.len() as u64 > self.max_output {
                let limit = self.max_output;
                return Err(ToolError::TooMuchOutput { program: program.clone(), limit });
            }
            let status = child.wait().await.map_err(start)?;
            if status.success() {
                return Ok(out);
            }
            let stderr = String::from_utf8_lossy(&err).trim().to_owned();
            Err(ToolError::Failed { program: program.clone(), status, stderr })
        });
        timed.await.unwrap_or(Err(ToolError::TimedOut { program, deadline }))
    }
}
