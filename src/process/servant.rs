//! Servants: programs that are started and go on without the daemon.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Process;

/// How much a servant's output may hold: it comes from programs that talk to guests, so it is bounded
/// by a seal on a file in memory, which holds also while no daemon runs.
pub(super) const MAX_SERVANT_OUTPUT: u64 = 64 * 1024;

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
