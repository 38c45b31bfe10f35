//! Byte streams of guests: a program, or a connection to one of its ports.

use std::sync::Arc;

use super::command::Command;
use super::idle::Usage;
use super::ports::{ByteStream, Guest};
use super::record::VmRecord;
use super::service::{Handle, VmService};
use super::ssh::{Agent, authorized, server};
use super::stall::Stillness;
use crate::report::{Kind, Report};
use crate::wire::guest::{ConnectFailure, Exec, ExecFailure, Reply};
use crate::wire::rpc::{ExecVm, ForwardVm, SshVm};

/// A byte stream that is to be opened in a guest.
pub struct StreamTarget {
    guest: Arc<dyn Guest>,
    what: Wanted,
    /// To say how long it is being used.
    pub usage: Usage,
    stillness: Stillness,
}

/// What is at the other end.
enum Wanted {
    Program(Exec),
    Port(u16),
}

impl StreamTarget {
    /// Opens it, and returns its frames, from the agent's reply on.
    ///
    /// # Errors
    /// When the guest does not answer, or stands still.
    pub async fn open(&self) -> Result<Box<dyn ByteStream>, Report> {
        let open = async {
            match &self.what {
                Wanted::Program(exec) => self.guest.exec(exec).await,
                Wanted::Port(port) => self.guest.connect(*port).await,
            }
        };
        self.stillness.unless(open).await
    }

    /// What the agent would have answered, had it been reached.
    #[must_use]
    pub fn refusal(&self, report: &Report) -> Reply {
        let message = report.one_line();
        match self.what {
            Wanted::Program(_) => Reply::ExecFailed { reason: ExecFailure::Other, message },
            Wanted::Port(_) => Reply::ConnectFailed { reason: ConnectFailure::Other, message },
        }
    }
}

impl VmService {
    /// A program to be run in a guest: in the workspace or the home, with the VM's environment.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or it stands still.
    pub async fn exec(&self, wanted: ExecVm) -> Result<StreamTarget, Report> {
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        let mut env = record.env();
        env.extend(wanted.env);
        let workspace = record.workspace.clone().map(|workspace| workspace.guest_path);
        let cwd = wanted.cwd.or(workspace);
        let env = env.into_iter().collect();
        let exec = Exec { argv: wanted.argv, env, cwd, tty: wanted.tty };
        self.stream(&handle, &record, &wanted.vm, Wanted::Program(exec)).await
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

    async fn stream(
        &self,
        handle: &Handle,
        record: &VmRecord,
        wanted: &str,
        what: Wanted,
    ) -> Result<StreamTarget, Report> {
        let guest = self.guest(record)?;
        let stillness = self.shared.stillness(record);
        if let Some(stall) = stillness.now() {
            return Err(stillness.report(Kind::Conflict, stall));
        }
        handle.send(Command::Touch { answer: None }, wanted).await?;
        Ok(StreamTarget { guest, what, usage: handle.usage(), stillness })
    }
}
