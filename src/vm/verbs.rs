//! More of the service's face: what is done to VMs that are there, besides starting and ending them.

use super::command::{Command, Doomed};
use super::service::VmService;
use super::state::State;
use crate::report::Report;
use crate::wire::rpc::{ClientContext, Deleted, Operation, SetVm, SetVmReply, Vm};

impl VmService {
    /// Stops a VM gracefully if it runs, then starts it; returns the operation.
    ///
    /// # Errors
    /// When there is no such VM, or it neither runs nor is at rest.
    pub async fn restart(
        &self,
        wanted: &str,
        client: ClientContext,
        wait: bool,
    ) -> Result<Operation, Report> {
        let handle = self.handle(wanted)?;
        handle.view.borrow().record.check(State::check_restart)?;
        let begin = self.begin("restart", &handle, client);
        let id = begin.operation.id.clone();
        handle.send(Command::Restart { begin }, wanted).await?;
        self.report(&id, wait).await
    }

    /// Changes what a VM is.
    ///
    /// # Errors
    /// When there is no such VM, it cannot be that, or its disk cannot grow; then nothing has changed.
    pub async fn set(&self, wanted: SetVm) -> Result<SetVmReply, Report> {
        let vm = wanted.vm.clone();
        self.handle(&vm)?.ask(&vm, |answer| Command::Set { wanted, answer }).await
    }

    /// Deletes a VM that is at rest. One that runs, or is being started, is left as it is.
    ///
    /// # Errors
    /// When there is no such VM, it is not at rest, or something of it cannot be released.
    pub async fn delete_at_rest(&self, wanted: &str) -> Result<Deleted, Report> {
        let which = Doomed::AtRest;
        let command = |answer| Command::Delete { answer, which, interrupt: None };
        self.handle(wanted)?.ask(wanted, command).await
    }

    /// Says that a VM is being used: what stops by itself counts from now on.
    ///
    /// # Errors
    /// When there is no such VM, or that cannot be written down.
    pub async fn touch(&self, wanted: &str) -> Result<Vm, Report> {
        let command = |answer| Command::Touch { answer: Some(answer) };
        self.handle(wanted)?.ask(wanted, command).await
    }
}
