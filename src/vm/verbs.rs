//! More of the service's face: what is done to VMs that are there, besides ending them.

use super::command::{Begin, Command, Launch};
use super::record::VmRecord;
use super::service::VmService;
use super::state::State;
use crate::report::Report;
use crate::wire::rpc::{ClientContext, Operation, SetVm, SetVmReply, Vm};

impl VmService {
    /// Starts a VM, or has one that stands still go on; returns the operation.
    ///
    /// # Errors
    /// When there is no such VM, or it neither is at rest nor stands still.
    pub async fn start(
        &self,
        wanted: &str,
        client: ClientContext,
        wait: bool,
    ) -> Result<Operation, Report> {
        self.launch(Launch::Start, wanted, client, wait).await
    }

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
        self.launch(Launch::Restart, wanted, client, wait).await
    }

    async fn launch(
        &self,
        how: Launch,
        wanted: &str,
        client: ClientContext,
        wait: bool,
    ) -> Result<Operation, Report> {
        let handle = self.handle(wanted)?;
        let record = handle.view.borrow().record.clone();
        match how {
            Launch::Start if self.shared.stall(&record).is_some() => {}
            Launch::Start => record.check(State::check_start)?,
            Launch::Restart => record.check(State::check_restart)?,
        }
        let VmRecord { id, name, .. } = record;
        let operation = self.operations.begin(how.action(), &id, &name, super::now());
        let id = operation.id.clone();
        let begin = Begin { operation, client, checkout: None };
        handle.send(Command::Launch { begin, how }, wanted).await?;
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

    /// Says that a VM is being used: what stops by itself counts from now on.
    ///
    /// # Errors
    /// When there is no such VM, or that cannot be written down.
    pub async fn touch(&self, wanted: &str) -> Result<Vm, Report> {
        let command = |answer| Command::Touch { answer: Some(answer) };
        self.handle(wanted)?.ask(wanted, command).await
    }
}
