//! Making a VM, as its owner does it: disks, first start, and the way back.

use super::command::Begin;
use super::operation::Running;
use super::owner::{Life, Owner, Whose};
use super::ports::PortResult;
use super::start::StartFailure;
use super::state::Event;
use crate::report::{Kind, Report};
use crate::wire::rpc::OperationEnd;

impl Owner {
    pub(super) async fn make(&mut self, begin: Begin, start: bool) -> Life {
        let operation = begin.operation.clone();
        let made = {
            let _stage = operation.stage("disks");
            let spec = &self.record.spec;
            self.shared.ports.disks.make(&self.folder, spec.disk_bytes, spec.root_disk_bytes).await
        };
        let failure = match made {
            Err(error) => error,
            Ok(()) if !start => match self.change(Event::Made).await {
                Ok(()) => {
                    operation.end(OperationEnd::Done { vm: Box::new(self.shown()) });
                    return Life::Goes;
                }
                Err(error) => error,
            },
            Ok(()) => match self.try_start(&begin, Whose::Makers).await {
                Ok(()) => return Life::Goes,
                Err(StartFailure::Guest(error)) => {
                    return self.keep_or_save(&operation, error).await;
                }
                Err(StartFailure::Undo(error)) => error,
            },
        };
        self.undo_make(&operation, failure).await
    }

    /// Removes a VM whose making failed.
    async fn undo_make(&mut self, operation: &Running, mut error: Report) -> Life {
        let removed = self.delete().await;
        let vm_kept = removed.is_err();
        if let Err(left) = removed {
            error.cause.push(left.one_line());
        }
        let error = error.in_operation(operation.id.clone());
        operation.end(OperationEnd::Failed { error, vm_kept, console_saved: None });
        if vm_kept { Life::Goes } else { Life::Over }
    }

    /// A new VM whose guest never became reachable is kept, or under a lease its console is saved and
    /// it is removed.
    async fn keep_or_save(&mut self, operation: &Running, error: Report) -> Life {
        if !self.record.leased {
            let error = self.with_logs_hint(error).in_operation(operation.id.clone());
            operation.end(OperationEnd::Failed { error, vm_kept: true, console_saved: None });
            return Life::Goes;
        }
        let saved = self.save_console().await;
        let deleted = self.delete().await;
        let mut error = error.in_operation(operation.id.clone());
        for failure in [saved.as_ref().err(), deleted.as_ref().err()].into_iter().flatten() {
            error.cause.push(failure.one_line());
        }
        let vm_kept = deleted.is_err();
        operation.end(OperationEnd::Failed { error, vm_kept, console_saved: saved.ok() });
        if vm_kept { Life::Goes } else { Life::Over }
    }

    async fn save_console(&self) -> PortResult<String> {
        let (bytes, _, _) = self.shared.ports.machines.console(&self.folder, None).await?;
        let file = format!("{}-{}.log", self.record.name, self.record.id);
        let path = self.shared.consoles.join(file);
        let failed = |error: std::io::Error| {
            Report::new(Kind::Failed, format!("cannot save the console to `{}`", path.display()))
                .with_cause(&error)
        };
        tokio::fs::create_dir_all(&self.shared.consoles).await.map_err(failed)?;
        tokio::fs::write(&path, bytes).await.map_err(failed)?;
        Ok(path.display().to_string())
    }
}
