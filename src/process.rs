//! Processes of the host: tools that run to their end, and servants that outlive the daemon.
//!
//! The only place that makes child processes. A *tool* (git, mke2fs, qemu-img) is run with a deadline
//! and a bound on its output, and its stderr becomes part of the error. A *servant* (a monitor, an
//! uplink) gets a process group of its own, so that neither a terminal's Ctrl-C nor the daemon's end
//! reaches it, and is known afterwards by [`ProcessId`]: its pid together with its start time, so that
//! a pid which the kernel gave to somebody else is never taken for it. Signals go through a pidfd that
//! was opened before that check.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How much a tool may print on stderr before the rest is dropped: enough for any message.
const MAX_TOOL_STDERR: u64 = 64 * 1024;

/// How much a servant's output may hold: it comes from programs that talk to guests, so it is bounded
/// by a seal on a file in memory, which holds also while no daemon runs.
const MAX_SERVANT_OUTPUT: u64 = 64 * 1024;

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

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn without_env(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Gives it nothing of the daemon's environment but these variables, and what is set after this.
    #[expect(
        clippy::disallowed_methods,
        reason = "values are passed on to a child, nothing is decided by them"
    )]
    #[must_use]
    pub fn keep_only_env(mut self, names: &[&str]) -> Self {
        self.command.env_clear();
        for name in names {
            if let Some(value) = std::env::var_os(name) {
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
        timed.await.unwrap_or_else(|_| Err(ToolError::TimedOut { program, deadline }))
    }
}

/// A servant: a program that is started and goes on without the daemon.
#[derive(Debug)]
pub struct Servant {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The folder it runs in. Sockets are named relative to it, because a socket's path may have 107
    /// bytes at most.
    pub folder: PathBuf,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Descriptors it inherits, with the numbers it knows them by. All others are closed at exec.
    pub descriptors: Vec<(OwnedFd, i32)>,
}

impl Servant {
    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be executed.
    #[expect(clippy::disallowed_methods, reason = "this is the one wrapper of child processes")]
    pub fn spawn(self) -> io::Result<(Process, ServantOutput)> {
        let output = ServantOutput::new()?;
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).current_dir(&self.folder).env_clear().envs(self.env);
        command.stdin(Stdio::null()).stdout(output.writer()?).stderr(output.writer()?);
        command.process_group(0);
        let mappings = self.descriptors.into_iter();
        let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command
            .as_std_mut()
            .fd_mappings(mappings.collect())
            .map_err(|_| io::Error::other("two descriptors have one number"))?;
        // Dropping the child is right: the runtime reaps it, the pidfd tells of its end.
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("the process ended at once"))?;
        let process =
            Process::open_any(pid)?.ok_or_else(|| io::Error::other("it ended at once"))?;
        Ok((process, output))
    }
}

/// What a servant prints, in a sealed file in memory: the first 64 KiB, the rest is refused.
#[derive(Debug)]
pub struct ServantOutput(File);

impl ServantOutput {
    fn new() -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"cove-servant-output", flags)?);
        file.set_len(MAX_SERVANT_OUTPUT)?;
        let seals = nix::fcntl::SealFlag::F_SEAL_GROW | nix::fcntl::SealFlag::F_SEAL_SHRINK;
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self(file))
    }

    fn writer(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    /// What has been printed so far, at most 64 KiB, not yet fit for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = vec![0; MAX_SERVANT_OUTPUT as usize];
        let read = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned()
    }
}

/// A process that may outlive the daemon, as it is written down: a pid alone names somebody else as
/// soon as it is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since the host's boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// A live process, held by a descriptor.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    descriptor: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process with this identity, or `None` when it is gone or its pid is somebody else's.
    ///
    /// # Errors
    /// When the kernel has no pidfds or no descriptors left.
    pub fn open(id: ProcessId) -> io::Result<Option<Self>> {
        Ok(Self::open_any(id.pid)?.filter(|process| process.id == id))
    }

    /// The process that has this pid now.
    ///
    /// # Errors
    /// When the kernel has no pidfds or no descriptors left.
    #[expect(unsafe_code, reason = "registering a descriptor promises that it stays open")]
    pub fn open_any(pid: i32) -> io::Result<Option<Self>> {
        let Some(raw) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the pidfd was opened: if the pid had been given away in between, the start time
        // would be another one.
        let Some(start_ticks) = start_ticks(pid) else {
            return Ok(None);
        };
        // SAFETY: the descriptor is owned by the value and open as long as it is registered.
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Some(Self { id: ProcessId { pid, start_ticks }, descriptor }))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal. A process that has ended is no error.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.descriptor.get_ref().as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When its descriptor cannot be polled.
    pub async fn ended(&self) -> io::Result<()> {
        // Cancel-safe: readiness is not consumed.
        self.descriptor.readable().await.map(drop)
    }

    /// Kills it and waits until it has ended, at most `deadline`.
    ///
    /// # Errors
    /// When it may not be signalled, or is still there after the deadline.
    pub async fn kill(&self, deadline: Duration) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        match tokio::time::timeout(deadline, self.ended()).await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "process {} is still there {} s after SIGKILL",
                    self.id.pid,
                    deadline.as_secs()
                ),
            )),
        }
    }
}

fn start_ticks(pid: i32) -> Option<u64> {
    procfs::process::Process::new(pid).ok()?.stat().ok().map(|stat| stat.starttime)
}

/// The live processes of this user that have `marker` among their arguments: how recovery finds what
/// was started just before a crash, when its pid was not written down yet.
#[must_use]
pub fn find_by_argument(marker: &str) -> Vec<ProcessId> {
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    let own = nix::unistd::geteuid().as_raw();
    all.flatten()
        .filter(|process| process.pid != std::process::id().cast_signed())
        .filter(|process| process.uid().is_ok_and(|uid| uid == own))
        .filter(|process| {
            process.cmdline().is_ok_and(|line| line.iter().any(|word| word.contains(marker)))
        })
        .filter_map(|process| {
            let start_ticks = process.stat().ok()?.starttime;
            Some(ProcessId { pid: process.pid, start_ticks })
        })
        .collect()
}

/// A folder by descriptor, under a path short enough for the names of sockets in it, however long the
/// folder's own path is.
#[derive(Debug)]
pub struct ShortFolder(OwnedFd);

impl ShortFolder {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(File::open(folder)?.into()))
    }

    /// The path of `name` in the folder, valid in this process while the value lives.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

/// Takes over a descriptor that this program was started with, by the number it was told.
///
/// # Errors
/// When no such descriptor is open.
#[expect(unsafe_code, reason = "a number from the command line becomes an owned descriptor here")]
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if number <= 2 || unsafe { nix::libc::fcntl(number, nix::libc::F_GETFD) } < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is not open")));
    }
    // SAFETY: it is open, and only the caller, who was told its number at start, owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_tool_tells_its_stderr() {
        let error = Tool::new("sh").args(["-c", "echo no luck >&2; exit 3"]).run().await;
        let text = error.expect_err("it fails").to_string();
        assert!(text.contains("no luck") && text.contains("exit status: 3"), "{text}");
    }

    #[tokio::test]
    async fn a_tool_is_bounded_in_time_and_output() {
        let slow = Tool::new("sleep").arg("60").deadline(Duration::from_millis(50)).run().await;
        assert!(matches!(slow, Err(ToolError::TimedOut { .. })), "{slow:?}");
        let loud = Tool::new("head").args(["-c", "5000", "/dev/zero"]).max_output(4999).run().await;
        assert!(matches!(loud, Err(ToolError::TooMuchOutput { .. })), "{loud:?}");
        let fits = Tool::new("cat").input(vec![7; 5000]).max_output(5000).run().await;
        assert_eq!(fits.expect("fits"), vec![7; 5000]);
    }

    fn servant(script: &str) -> Servant {
        Servant {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            folder: "/".into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            descriptors: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_servant_is_known_by_pid_and_start_time_only() {
        let (process, _output) = servant("exec sleep 600").spawn().expect("starts");
        let id = process.id();
        assert!(Process::open(id).expect("opens").is_some());
        let impostor = ProcessId { start_ticks: id.start_ticks + 1, ..id };
        assert!(Process::open(impostor).expect("opens").is_none(), "another start time");
        process.kill(Duration::from_secs(10)).await.expect("dies");
        assert!(Process::open(id).expect("opens").is_none_or(|p| p.id() == id));
    }

    #[tokio::test]
    async fn a_servant_cannot_fill_the_memory_with_output() {
        let (process, output) =
            servant("echo first; head -c 300000 /dev/zero | tr '\\0' x").spawn().expect("starts");
        process.ended().await.expect("ends");
        let text = output.text();
        assert!(text.starts_with("first\nxxx"), "{}", &text[..20]);
        assert!(text.len() as u64 <= MAX_SERVANT_OUTPUT);
    }

    #[test]
    fn sockets_in_deep_folders_have_short_names() {
        let root = tempfile::tempdir().expect("tempdir");
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).expect("made");
        let short = ShortFolder::open(&deep).expect("opens");
        let _listener = std::os::unix::net::UnixListener::bind(short.path_of("s")).expect("binds");
        assert!(deep.join("s").exists());
    }
}
