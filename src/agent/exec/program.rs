//! Starting a program: pipes or a terminal, a process group of its own, the login's environment.
//!
//! With a terminal it has a session of its own, too. With pipes it has not: nothing of it is to be done between fork and
//! exec then, and the standard library starts it without copying the agent's memory map (`posix_spawn`): in an emulated
//! guest, of a process with 2 MiB, that took 1.5 to 2.0 ms, a fork 4.4 to 5.1. No terminal comes to it from the agent's session, which has none.

use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::descriptor::Descriptor;
use super::login::{self, Login, Terminal};
use crate::wire::guest::{Exec, ExecFailure, TtySize};

/// Room in a pipe: bigger pieces mean fewer switches between the program and the agent, which are dear
/// under emulation.
pub(super) const PIPE_BYTES: i32 = 256 * 1024;

/// A program that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct NotStarted {
    /// In the sense of exit statuses.
    pub(super) reason: ExecFailure,
    /// What happened.
    pub(super) message: String,
}

impl NotStarted {
    fn other(message: impl Into<String>) -> Self {
        Self { reason: ExecFailure::Other, message: message.into() }
    }
}

/// A program that runs, as the leader of a process group.
#[derive(Debug)]
pub(super) struct Program {
    /// Its process id, and its group's.
    pub(super) pid: i32,
    /// What it prints.
    pub(super) output: Descriptor,
    /// What it prints on stderr, unless it has a terminal.
    pub(super) errors: Option<Descriptor>,
    /// Whether it has a terminal.
    pub(super) terminal: Terminal,
}

/// A started program, its process (dropping it leaves it running; it is reaped when it ends), and
/// where to write what it reads.
pub(super) type Started = (Program, Child, Descriptor);

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// In the sense of exit statuses: not found, not executable, anything else.
    pub(super) fn start(exec: &Exec, login: &Login) -> Result<Started, NotStarted> {
        let folder = folder(exec, login)?;
        let start = |place: Option<&Path>| -> Result<io::Result<Started>, NotStarted> {
            let mut command = command(exec, login, place)?;
            command.current_dir(&folder);
            Ok(match exec.tty {
                Some(size) => with_terminal(command, size),
                None => with_pipes(command),
            })
        };
        let place = find(exec);
        let started = match start(place.as_deref())? {
            // What is there cannot be run: exec looks on.
            Err(error) if place.is_some() && is_looked_past(&error) => start(None)?,
            started => started,
        };
        started.map_err(|error| NotStarted {
            reason: match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => ExecFailure::NotFound,
                Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR | libc::ELIBBAD) => {
                    ExecFailure::NotExecutable
                }
                _ => ExecFailure::Other,
            },
            message: error.to_string(),
        })
    }

    /// Sends a signal to the program's group. That it is gone is no error.
    ///
    /// # Errors
    /// When there is no such signal.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::try_from(signal)?;
        match killpg(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives its terminal a new size; the program's foreground group gets SIGWINCH.
    ///
    /// # Errors
    /// When it has no terminal.
    pub(super) fn resize(&self, size: TtySize) -> io::Result<()> {
        set_size(&self.output, size)
    }
}

/// The folder to run in. Looked at here, because a failed exec does not say whether it was the folder
/// or the program that was missing.
fn folder(exec: &Exec, login: &Login) -> Result<PathBuf, NotStarted> {
    let folder = Path::new(&login.home).join(exec.cwd.as_deref().unwrap_or_default());
    let cannot =
        |why: &str| NotStarted::other(format!("cannot run in `{}`: {why}", folder.display()));
    match std::fs::metadata(&folder).as_ref().map(Metadata::is_dir) {
        Ok(true) => Ok(folder),
        Ok(false) => Err(cannot("it is not a folder")),
        Err(error) => Err(cannot(&error.to_string())),
    }
}

/// Where a program is that is named without a folder. None where that is not certain: then exec looks for it itself. It
/// would do so by trying to run each place, which takes an emulated guest a millisecond.
fn find(exec: &Exec) -> Option<PathBuf> {
    let name = exec.argv.first().filter(|name| !name.is_empty() && !name.contains('/'))?;
    let own = exec.env.iter().rfind(|(key, _)| key == "PATH").map(|(_, path)| path.as_str());
    let folders = std::env::split_paths(own.unwrap_or(login::PATH));
    let can_be_run = |place: &PathBuf| {
        std::fs::metadata(place).is_ok_and(|found| found.is_file())
            && rustix::fs::access(place, rustix::fs::Access::EXEC_OK).is_ok()
    };
    let folders = folders.take_while(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(can_be_run)
}

/// Whether exec goes on to the next folder after this.
fn is_looked_past(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES))
}

#[expect(clippy::disallowed_methods, reason = "the one place in a guest that starts programs")]
fn command(exec: &Exec, login: &Login, place: Option<&Path>) -> Result<Command, NotStarted> {
    let mut command = match exec.argv.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(place.unwrap_or(Path::new(program)));
            command.arg0(program).args(arguments);
            command
        }
        None => {
            let mut command = Command::new(&login.shell);
            command.arg0(login.shell_name());
            command
        }
    };
    let terminal = if exec.tty.is_some() { Terminal::Yes } else { Terminal::No };
    command.env_clear().envs(login.environment(terminal));
    for (key, value) in &exec.env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            let key = key.escape_debug();
            return Err(NotStarted::other(format!("`{key}` cannot be an environment variable")));
        }
        command.env(key, value);
    }
    Ok(command)
}

fn with_pipes(mut command: Command) -> io::Result<Started> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let gone = || io::Error::other("a pipe is missing");
    let input = child.stdin.take().ok_or_else(gone)?.into_owned_fd()?;
    let output = child.stdout.take().ok_or_else(gone)?.into_owned_fd()?;
    let errors = child.stderr.take().ok_or_else(gone)?.into_owned_fd()?;
    for pipe in [&input, &output] {
        // A guest may set its limit lower; the default size works too.
        fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).ok();
    }
    let program = Program {
        pid: pid(&child)?,
        output: Descriptor::new(output)?,
        errors: Some(Descriptor::new(errors)?),
        terminal: Terminal::No,
    };
    Ok((program, child, Descriptor::new(input)?))
}

/// A new terminal: the end of who has it, and the program's. No program that another thread starts at this moment gets
/// hold of one of them.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let end = rustix::fs::open(ptsname_r(&master)?, flags, rustix::fs::Mode::empty())?;
    Ok((master.into(), end))
}

#[expect(unsafe_code, reason = "the session and its terminal are made between fork and exec")]
fn with_terminal(mut command: Command, size: TtySize) -> io::Result<Started> {
    let (master, end) = terminal()?;
    set_size(&master, size)?;
    let slave = || end.try_clone().map(Stdio::from);
    command.stdin(slave()?).stdout(slave()?).stderr(slave()?);
    // SAFETY: setsid and ioctl are async-signal-safe and nothing is allocated; descriptor 0 is the
    // terminal by now.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            match libc::ioctl(0, libc::TIOCSCTTY as _, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let child = command.spawn()?;
    let input = Descriptor::new(master.try_clone()?)?;
    let program = Program {
        pid: pid(&child)?,
        output: Descriptor::new(master)?,
        errors: None,
        terminal: Terminal::Yes,
    };
    Ok((program, child, input))
}

fn pid(child: &Child) -> io::Result<i32> {
    let pid = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
    i32::try_from(pid).map_err(io::Error::other)
}

#[expect(unsafe_code, reason = "no library here has the terminal size call")]
fn set_size(terminal: impl AsFd, size: TtySize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    let descriptor = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives through the call.
    match unsafe { libc::ioctl(descriptor, libc::TIOCSWINSZ as _, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_found_where_exec_would_find_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for (place, mode) in [("a/plain", 0o644), ("b/plain", 0o755), ("b/song", 0o755)] {
            let place = at(place);
            fs::create_dir_all(place.parent().expect("a parent")).expect("made");
            fs::write(&place, "").expect("written");
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("set");
        }
        fs::create_dir(at("a/song")).expect("made");
        let [a, b] = [at("a"), at("b")].map(|folder| folder.display().to_string());
        for (name, path, expected) in [
            ("song", format!("{a}:/nowhere:{b}"), Some("b/song")),
            ("plain", format!("{a}:{b}"), Some("b/plain")),
            ("plain", a.clone(), None),
            ("song", format!("{a}::{b}"), None),
            ("song", format!("x:{b}"), None),
            ("b/song", b.clone(), None),
            ("", b.clone(), None),
            ("song", String::new(), None),
        ] {
            let env = [a.clone(), path.clone()].map(|path| ("PATH".to_owned(), path)).to_vec();
            let exec = Exec { argv: vec![name.to_owned()], env, cwd: None, tty: None };
            assert_eq!(find(&exec), expected.map(at), "{name} in {path}");
        }
    }
}
