//! Programs with a deadline: `cove` in its world, and tools of the host.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{BOOT, QUICK, World};

/// `cove` with arguments, not started yet.
#[derive(Debug)]
pub(crate) struct Cove {
    command: Command,
    stdin: Vec<u8>,
    deadline: Duration,
    words: String,
}

impl Cove {
    pub(super) fn new<A: AsRef<str>>(
        world: &World,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let program = world.program.with_file_name(program);
        let mut words = [world.prefix.clone(), world.who.prefix()].concat();
        words.push(program.to_str().expect("UTF-8").to_owned());
        words.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        let mut command = new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", &world.user_home)
            .env("COVE_HOME", &world.home)
            .env("COVE_CACHE", &world.cache)
            .env("TERM", "dumb")
            .current_dir(world.folder());
        let words = words.join(" ");
        Self { command, stdin: Vec::new(), deadline: BOOT, words }
    }

    /// Its stdin; nothing when not called.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long it may take; as long as a boot when not called.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ran {
        self.spawn().wait()
    }

    /// Starts it.
    pub(crate) fn spawn(self) -> Running {
        start(self.command, self.stdin, self.deadline, self.words)
    }

    /// The command itself, for a test that connects its streams in a way of its own.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    ended: Receiver<std::io::Result<ExitStatus>>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    deadline: Duration,
    words: String,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it runs");
    }

    /// Waits for its end, and for the end of its output.
    pub(crate) fn wait(self) -> Ran {
        let Ok(status) = self.ended.recv_timeout(self.deadline) else {
            kill(self.pid, Signal::SIGKILL).unwrap_or_default();
            let stderr = self.stderr.recv_timeout(QUICK).unwrap_or_default();
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            panic!("`{}` did not end within {:?}; stderr:\n{stderr}", self.words, self.deadline);
        };
        let status = status.expect("it can be waited for");
        let held = "nothing else holds its output open";
        let bytes = self.stdout.recv_timeout(QUICK).expect(held);
        let stderr = self.stderr.recv_timeout(QUICK).expect(held);
        Ran {
            status: status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            words: self.words,
        }
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; 1000 and the number of the signal when one killed it.
    pub(crate) status: i32,
    /// Its stdout as text.
    pub(crate) stdout: String,
    /// Its stdout.
    pub(crate) bytes: Vec<u8>,
    /// Its stderr as text.
    pub(crate) stderr: String,
    words: String,
}

impl Ran {
    /// It must have ended with this status.
    #[track_caller]
    pub(crate) fn status(self, expected: i32) -> Self {
        assert_eq!(self.status, expected, "{}", self.told());
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.status(0)
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.told()))
    }

    /// Its stdout must be exactly this.
    #[track_caller]
    pub(crate) fn prints(self, expected: &str) -> Self {
        assert_eq!(self.stdout, expected, "{}", self.told());
        self
    }

    /// Its stderr must contain this.
    #[track_caller]
    pub(crate) fn says(self, expected: &str) -> Self {
        assert!(self.stderr.contains(expected), "no `{expected}`: {}", self.told());
        self
    }

    /// All of it, for the message of an assertion.
    pub(crate) fn told(&self) -> String {
        let mut text = format!("`{}` ended with {}", self.words, self.status);
        for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let short: String = output.chars().take(4000).collect();
            write!(text, "\n{name}:\n{short}").expect("writing to a String cannot fail");
        }
        text
    }
}

/// Runs a tool of the host, with these variables beside `PATH` and nothing else.
pub(crate) fn tool(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = new(program);
    // Anybody can be there.
    command.args(arguments).env_clear().env("PATH", search_path()).current_dir("/");
    command.envs(variables.iter().copied());
    let words = format!("{program} {}", arguments.join(" "));
    start(command, Vec::new(), QUICK, words).wait()
}

fn start(mut command: Command, stdin: Vec<u8>, deadline: Duration, words: String) -> Running {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("`{words}`: {error}"));
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut input = child.stdin.take().expect("piped");
    // A program that does not read its input to the end is no failure.
    std::thread::spawn(move || input.write_all(&stdin).unwrap_or_default());
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    Running { pid, ended: reap(child), stdout, stderr, deadline, words }
}

fn reap(mut child: Child) -> Receiver<std::io::Result<ExitStatus>> {
    let (sender, receiver) = sync_channel(1);
    // Nobody waits any more when the receiver is gone.
    std::thread::spawn(move || sender.send(child.wait()).unwrap_or_default());
    receiver
}

fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("readable");
        sender.send(bytes).unwrap_or_default();
    });
    receiver
}

#[expect(clippy::disallowed_methods, reason = "the tests' one wrapper of programs")]
fn new(program: &str) -> Command {
    Command::new(PathBuf::from(program))
}

#[expect(clippy::disallowed_methods, reason = "programs are found where the test finds them")]
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").expect("PATH is set")
}
