//! Byte streams of guests: a program, run for it or detached, a connection to one of its ports, or a copy of
//! files.

use std::sync::Arc;

use super::command::Command;
use super::idle::Usage;
use super::ports::{ByteStream, Guest};
use super::record::VmRecord;
use super::service::{Handle, VmService};
use super::ssh::{Agent, authorized, server};
use super::stall::Stillness;
use super::still::StillDisk;
use crate::id::ExecId;
use crate::report::{Kind, Report};
use crate::wire::guest::{
    ConnectFailure, CopyDirection, CopyFailure, CopyFiles, Exec, ExecFailure, Reply,
};
use crate::wire::rpc::{CopyVm, ExecVm, ForwardVm, SshVm};

/// The longest path in a guest, in bytes: its kernel takes no more.
const MAX_PATH: usize = 4095;

/// A byte stream that is to be opened in a guest, or from the disk of one that does not run.
pub struct StreamTarget {
    end: End,
    /// To say how long it is being used.
    pub usage: Usage,
}

/// What is at the other end.
enum End {
    Guest { guest: Arc<dyn Guest>, what: Wanted, stillness: Stillness },
    Disk(Box<StillDisk>),
}

/// What of a guest is there.
pub(super) enum Wanted {
    /// A program that is run.
    Program(Exec),
    /// A detached program.
    Detached(ExecId),
    /// A port.
    Port(u16),
    Files(CopyFiles),
}

impl StreamTarget {
    /// Opens it, and returns its frames, from the agent's reply on.
    ///
    /// # Errors
    /// When the guest does not answer, or stands still.
    pub async fn open(&self) -> Result<Box<dyn ByteStream>, Report> {
        let (guest, what, stillness) = match &self.end {
            End::Guest { guest, what, stillness } => (guest, what, stillness),
            End::Disk(disk) => return disk.open().await,
        };
        let open = async {
            match what {
                Wanted::Program(exec) => guest.exec(exec).await,
                Wanted::Detached(id) => guest.attach(id).await,
                Wanted::Port(port) => guest.connect(*port).await,
                Wanted::Files(files) => guest.copy(files).await,
            }
        };
        stillness.unless(open).await
    }

    /// What the agent would have answered, had it been reached.
    #[must_use]
    pub fn refusal(&self, report: &Report) -> Reply {
        let message = report.one_line();
        let what = match &self.end {
            End::Guest { what, .. } => what,
            End::Disk(_) => return copy_refused(report),
        };
        match what {
            Wanted::Program(_) => Reply::ExecFailed { reason: ExecFailure::Other, message },
            Wanted::Detached(_) => {
                Reply::Failed { step: "attach to a command".to_owned(), message }
            }
            Wanted::Port(_) => Reply::ConnectFailed { reason: ConnectFailure::Other, message },
            Wanted::Files(_) => copy_refused(report),
        }
    }
}

/// A copy that is refused, with what to do about it.
fn copy_refused(report: &Report) -> Reply {
    let reason = match report.kind == Kind::Conflict {
        true => CopyFailure::NotNow,
        false => CopyFailure::Other,
    };
    let mut message = report.one_line();
    if let Some(hint) = &report.hint {
        message = format!("{message}; {hint}");
    }
    Reply::CopyFailed { reason, message }
}

impl VmService {
    /// A program to be run in a guest: in the workspace or the home, with the VM's environment.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or it stands still.
    pub async fn exec(&self, wanted: ExecVm) -> Result<StreamTarget, Report> {
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        let vm = wanted.vm.clone();
        let exec = program(&record, wanted);
        self.stream(&handle, &record, &vm, Wanted::Program(exec)).await
    }

    /// An ssh server for one connection, whose sessions have the VM's environment; and the variables that
    /// they do not have, because all together are too long.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, it stands still, or the key is none.
    pub async fn ssh(&self, wanted: &SshVm) -> Result<(StreamTarget, Vec<String>), Report> {
        let key = wanted.authorized_key.as_deref().map(authorized).transpose()?;
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        let agent = if wanted.forward_agent { Agent::Forwarded } else { Agent::AtHome };
        let server = server(key.as_deref(), agent, record.env());
        // It looks for the home itself.
        let exec = Exec { argv: server.argv, env: Vec::new(), cwd: None, tty: None };
        let target = self.stream(&handle, &record, &wanted.vm, Wanted::Program(exec)).await?;
        Ok((target, server.env_left_out))
    }

    /// A connection to a port of a guest.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, it stands still, or the port is none.
    pub async fn forward(&self, wanted: ForwardVm) -> Result<StreamTarget, Report> {
        if wanted.port == 0 {
            return Err(Report::new(Kind::Invalid, "the guest's port cannot be 0"));
        }
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        self.stream(&handle, &record, &wanted.vm, Wanted::Port(wanted.port)).await
    }

    /// A copy of a file or a tree, out of a guest or into it; out of its disk where it does not run.
    ///
    /// # Errors
    /// When there is no such VM, it does not run and the copy goes into it, it is on its way between the two, it
    /// stands still, or the path can be none.
    pub async fn copy(&self, wanted: CopyVm) -> Result<StreamTarget, Report> {
        let name = match &wanted.direction {
            CopyDirection::Out => "",
            CopyDirection::In(incoming) => incoming.name.as_deref().unwrap_or_default(),
        };
        if [wanted.path.as_str(), name]
            .iter()
            .any(|text| text.len() > MAX_PATH || text.contains('\0'))
        {
            let message = format!("a path has at most {MAX_PATH} bytes, and no zero among them");
            return Err(Report::new(Kind::Invalid, message));
        }
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        if wanted.direction == CopyDirection::Out && record.state.check_start().is_ok() {
            let ports = self.shared.ports.clone();
            let disk = StillDisk::new(&handle, ports, self.folder(&record.id), wanted.path);
            return Ok(StreamTarget { end: End::Disk(Box::new(disk)), usage: handle.usage() });
        }
        let files = CopyFiles { path: wanted.path, direction: wanted.direction };
        self.stream(&handle, &record, &wanted.vm, Wanted::Files(files)).await
    }

    pub(super) async fn stream(
        &self,
        handle: &Handle,
        record: &VmRecord,
        wanted: &str,
        what: Wanted,
    ) -> Result<StreamTarget, Report> {
        let (guest, stillness) = self.reachable(record)?;
        handle.send(Command::Touch { answer: None }, wanted).await?;
        let end = End::Guest { guest, what, stillness };
        Ok(StreamTarget { end, usage: handle.usage() })
    }

    /// The guest of a VM that runs and does not stand still.
    pub(super) fn reachable(
        &self,
        record: &VmRecord,
    ) -> Result<(Arc<dyn Guest>, Stillness), Report> {
        let guest = self.guest(record)?;
        let stillness = self.shared.stillness(record);
        match stillness.now() {
            Some(stall) => Err(stillness.report(Kind::Conflict, stall)),
            None => Ok((guest, stillness)),
        }
    }
}

/// A program as the guest is told of it: in the workspace or the home, with the VM's environment.
pub(super) fn program(record: &VmRecord, wanted: ExecVm) -> Exec {
    let mut env = record.env();
    env.extend(wanted.env);
    let workspace = record.workspace.clone().map(|workspace| workspace.guest_path);
    let cwd = wanted.cwd.or(workspace);
    let env = env.into_iter().collect();
    Exec { argv: wanted.argv, env, cwd, tty: wanted.tty }
}
