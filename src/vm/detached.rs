//! Programs in guests that run with nobody there.
//!
//! They are the guest's: nothing of them is written down here, and they end with the boot. While one of them
//! runs the VM is being used (see [`idle`](super::idle)).

use super::command::Command;
use super::service::VmService;
use super::stream::{StreamTarget, Wanted, program};
use crate::id::ExecId;
use crate::report::{Kind, Report};
use crate::wire::guest::{Detach, DetachOutcome, DetachedProgram};
use crate::wire::rpc::{AttachVm, DetachVm, DetachedCommand, DetachedList};

impl VmService {
    /// Runs a program with nobody there: in the workspace or the home, with the VM's environment.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, it stands still, or its guest does not answer.
    pub async fn detach(&self, wanted: DetachVm) -> Result<DetachOutcome, Report> {
        let (wanted, stdin) = wanted.into_parts();
        let handle = self.handle(&wanted.vm)?;
        let record = handle.view.borrow().record.clone();
        let (guest, stillness) = self.reachable(&record)?;
        // Until the guest can say itself that something runs there.
        let _in_use = handle.usage().begin();
        handle.send(Command::Touch { answer: None }, &wanted.vm).await?;
        let detach = Detach { exec: program(&record, wanted), stdin };
        stillness.unless(guest.detach(detach)).await
    }

    /// The detached programs of a VM's boot.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, it stands still, or its guest does not answer.
    pub async fn detached(&self, wanted: &str) -> Result<DetachedList, Report> {
        let record = self.handle(wanted)?.view.borrow().record.clone();
        let (guest, stillness) = self.reachable(&record)?;
        let told = stillness.unless(guest.detached()).await?;
        let now = jiff::Timestamp::now();
        let commands = told.programs.into_iter().map(|told| command(told, now)).collect();
        Ok(DetachedList { commands })
    }

    /// A detached program that somebody wants to attach to.
    ///
    /// # Errors
    /// When there is no such VM or program, the VM does not run, it stands still, or its guest does not
    /// answer.
    pub async fn attach(&self, wanted: AttachVm) -> Result<StreamTarget, Report> {
        let AttachVm { vm, id } = wanted;
        let list = self.detached(&vm).await?;
        if !list.commands.iter().any(|command| command.id == id) {
            return Err(unknown(&id, &vm));
        }
        let handle = self.handle(&vm)?;
        let record = handle.view.borrow().record.clone();
        self.stream(&handle, &record, &vm, Wanted::Detached(id)).await
    }
}

fn unknown(id: &ExecId, vm: &str) -> Report {
    Report::new(Kind::NotFound, format!("the VM `{vm}` has no detached command `{id}`")).with_hint(
        format!("`cove exec list {vm}` shows those there are; they end with the VM's boot"),
    )
}

/// A program as clients see it. When it was started is counted from now: the guest's clock may be anything.
fn command(told: DetachedProgram, now: jiff::Timestamp) -> DetachedCommand {
    let DetachedProgram { id, command, pid, tty, age_ms, attached, state } = told;
    let age = jiff::SignedDuration::from_millis(i64::try_from(age_ms).unwrap_or(i64::MAX));
    let started = now.checked_sub(age).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let started_at = format!("{started:.3}");
    DetachedCommand { id, command, pid, tty, started_at, attached, state }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::guest::DetachedState;

    #[test]
    fn a_guest_may_claim_any_age() {
        let now: jiff::Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        let started = |age_ms| {
            let told = DetachedProgram {
                id: "0123ab".parse().expect("an id"),
                command: "make".to_owned(),
                pid: 7,
                tty: false,
                age_ms,
                attached: false,
                state: DetachedState::Running,
            };
            command(told, now).started_at
        };
        assert_eq!(started(1500), "2026-11-23T11:59:58.500Z");
        assert_eq!(started(u64::MAX), "1970-01-01T00:00:00.000Z");
    }
}
