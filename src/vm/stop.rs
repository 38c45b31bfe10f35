//! Ending a boot, as a VM's owner does it: gracefully, by a signal, or on the way to another boot.

use super::command::Begin;
use super::operation::Running;
use super::owner::{Owner, cancelled};
use super::ports::{PortResult, Stall};
use super::release::{Extent, release};
use super::state::{Boot, Event, State};
use crate::report::{Kind, Report};
use crate::wire::rpc::{KillSignal, OperationEnd, Vm};

/// How the power of a guest that is to stop went.
enum Off {
    /// The guest has done it.
    ByItself,
    /// It is to be cut.
    ByForce,
    /// The guest stands still, so it is to be cut.
    Stalled {
        /// What is lost by that, for people.
        lost: String,
    },
}

impl Owner {
    /// Stops it gracefully, by force after the deadline, and writes down why when nobody asked for it.
    /// One that does not run is no error. What hooks say is told to the operation that stops it, if one does.
    pub(super) async fn stop(
        &mut self,
        cause: Option<String>,
        operation: Option<&Running>,
    ) -> Result<Vm, Report> {
        if matches!(self.record.state, State::Stopped { .. } | State::Created | State::Error { .. })
        {
            return Ok(self.shown());
        }
        let stall = self.shared.stall(&self.record);
        match stall {
            // The row may lie on the very disk that is full; the stop does not depend on it.
            Some(_) => self.happened(Event::Stop).await.unwrap_or_else(|error| self.warn(&error)),
            None => self.change(Event::Stop).await?,
        }
        let Some(boot) = self.record.state.boot().cloned() else {
            return Ok(self.shown());
        };
        self.pre_stop(operation).await;
        let seen = self.last_look(&boot, stall).await;
        let mut interrupts = self.interrupts.clone();
        // Whatever is dropped here, the monitor is killed below if it still lives.
        let off = tokio::select! {
            off = self.power_off(&boot, stall) => off,
            () = tokio::time::sleep(self.shared.stop) => {
                tracing::warn!(vm = %self.record.id, "the guest did not power off in time");
                Off::ByForce
            }
            _ = interrupts.wait_for(|count| *count > 0) => Off::ByForce,
        };
        let lost = match (off, seen) {
            (Off::ByItself, Some(seen)) => {
                self.leaves(&seen).await;
                None
            }
            (Off::ByItself, None) | (Off::ByForce, _) => None,
            (Off::Stalled { lost }, _) => Some(lost),
        };
        self.settle(lost.or(cause)).await?;
        Ok(self.shown())
    }

    /// Has the guest power off, and waits for that. A guest that stands still goes on for it; when it
    /// cannot, or comes to stand still in it, that is said: what it had not written is lost then.
    async fn power_off(&self, boot: &Boot, stall: Option<Stall>) -> Off {
        let stillness = self.shared.stillness(&self.record);
        if let Some(stall) = stall
            && let Err(error) = stillness.end().await
        {
            tracing::warn!(vm = %self.record.id, error = error.one_line(), "it does not go on");
            return Off::Stalled { lost: cut_off(stall) };
        }
        let off = async {
            if let Some(guest) = self.shared.ports.guest_of(&self.folder, boot)
                && let Err(error) = guest.power_off().await
            {
                tracing::warn!(vm = %self.record.id, error = error.one_line(), "no graceful stop");
                return Off::ByForce;
            }
            match self.shared.ports.processes.ended(boot.monitor).await {
                Ok(()) => Off::ByItself,
                Err(_) => Off::ByForce,
            }
        };
        // Whatever is dropped here, the monitor is killed.
        tokio::select! {
            off = off => off,
            stall = stillness.begins() => Off::Stalled { lost: cut_off(stall) },
        }
    }

    /// Stops it if it runs, then starts it, in one operation. What fails between the two leaves it
    /// stopped, and what fails in the start is undone as in any start.
    pub(super) async fn restart(&mut self, begin: Begin) {
        let operation = begin.operation.clone();
        let stopped = match self.record.state.boot() {
            Some(_) => {
                let _stage = operation.stage("stop");
                self.stop(None, Some(&operation)).await.map(drop)
            }
            None => Ok(()),
        };
        let given_up = if operation.is_cancelled() {
            Err(cancelled("it was cancelled"))
        } else if *self.interrupts.borrow() > 0 {
            Err(cancelled("the VM is being killed or deleted"))
        } else {
            Ok(())
        };
        match stopped.and(given_up) {
            Ok(()) => self.start(begin).await,
            Err(error) => {
                let error = error.in_operation(operation.id.clone());
                operation.end(OperationEnd::Failed { error, vm_kept: true, console_saved: None });
            }
        }
    }

    /// Sends its monitor a signal. One that ends it is followed by a cut-off when it does not help.
    pub(super) async fn kill(&mut self, signal: KillSignal) -> Result<Vm, Report> {
        let boot = self.record.state.boot().cloned();
        match (signal, boot) {
            (KillSignal::Kill, _) => {}
            (_, Some(boot)) if signal.ends() => self.end_in_order(&boot, signal).await,
            (_, None) if signal.ends() => {}
            (_, Some(boot)) => {
                let processes = &self.shared.ports.processes;
                processes.signal(boot.monitor, signal.signal()).await?;
                return Ok(self.shown());
            }
            (_, None) => {
                let name = &self.record.name;
                let message = format!("the VM `{name}` is not running");
                return Err(Report::new(Kind::Conflict, message)
                    .with_hint(format!("start it with `cove start {name}`")));
            }
        }
        self.settle(None).await?;
        Ok(self.shown())
    }

    /// Asks the monitor to end and waits for that as long as for a guest's power-off. Another kill or a
    /// delete ends the wait.
    async fn end_in_order(&mut self, boot: &Boot, signal: KillSignal) {
        let processes = &self.shared.ports.processes;
        let end = async {
            processes.signal(boot.monitor, signal.signal()).await?;
            processes.ended(boot.monitor).await
        };
        let mut interrupts = self.interrupts.clone();
        // Whatever is dropped here, the monitor is killed afterwards if it still lives.
        tokio::select! {
            ended = end => if let Err(error) = ended {
                tracing::warn!(vm = %self.record.id, error = error.one_line(), "no orderly end");
            },
            () = tokio::time::sleep(self.shared.stop) => {
                tracing::warn!(vm = %self.record.id, "the monitor did not end in time");
            }
            // One of them is the kill that is being done.
            _ = interrupts.wait_for(|count| *count > 1) => {}
        }
    }

    /// Releases what a boot has and says that it ended.
    pub(super) async fn settle(&mut self, cause: Option<String>) -> PortResult<()> {
        self.close_ports();
        let ports = &self.shared.ports;
        let released = release(ports, &self.record.id, &self.folder, Extent::Boot).await;
        let cause = match &released {
            Ok(()) => cause,
            Err(error) => Some(error.one_line()),
        };
        let changed = self.happened(Event::Ended { cause }).await;
        released.and(changed)
    }
}

/// Why the power of a guest that was to stop had to be cut.
fn cut_off(stall: Stall) -> String {
    let reason = stall.reason();
    format!("it stood still ({reason}) and could not power off: what it had not written is lost")
}
