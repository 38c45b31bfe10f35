//! Changing what a VM is, as its owner does it.
//!
//! ```text
//!  checked ─▶ row ─▶ disk's file ─▶ (it runs) monitor ─▶ file system, by the guest
//!              ▲         │ fails              │ fails
//!              └─────────┘ the row as before  └─▶ the next start does it: it compares disk and row
//! ```
//!
//! The host makes the disk's file longer and never looks inside: the file system is grown by the guest's
//! agent, at once in a guest that runs, and otherwise when it mounts the disk.

use super::limits::{check_auto_stop, check_growth, check_labels, check_machine, machine_of};
use super::owner::Owner;
use super::ports::PortResult;
use super::record::{VmRecord, VmSpec};
use super::state::{Boot, Event, State};
use crate::report::{Kind, Report};
use crate::wire::rpc::{Change, Holds, SetVm, SetVmReply, Setting};

impl Owner {
    pub(super) async fn set(&mut self, wanted: &SetVm) -> Result<SetVmReply, Report> {
        self.check_whole()?;
        if wanted.egress.is_some() {
            self.record.check_network()?;
        }
        let before = self.record.spec.clone();
        let next = changed(&before, wanted, self.shared.host_memory_mib)?;
        let settings = differences(&before, &next);
        if settings.is_empty() {
            if wanted.egress.is_some() {
                // It may be written down only: then this is what brings it into force.
                self.tell_policy().await?;
            }
            return Ok(SetVmReply { vm: self.shown(), changes: Vec::new() });
        }
        if settings.contains(&Setting::AutoStopAfter) {
            // What is idle already is not stopped at once.
            self.record.last_touched_at = super::now();
        }
        self.write_spec(next).await?;
        let mut changes = Vec::new();
        for setting in settings {
            changes.push(match setting {
                Setting::Disk => self.grow(&before).await?,
                Setting::Vcpu | Setting::Memory if self.record.state.boot().is_some() => {
                    Change { setting, holds: Holds::AfterRestart, cause: None }
                }
                Setting::Vcpu | Setting::Memory | Setting::Labels | Setting::AutoStopAfter => {
                    Change { setting, holds: Holds::Now, cause: None }
                }
                Setting::Egress => {
                    self.tell_policy().await?;
                    Change { setting, holds: Holds::Now, cause: None }
                }
            });
        }
        Ok(SetVmReply { vm: self.shown(), changes })
    }

    /// Refuses to change a VM that is being made or deleted.
    pub(super) fn check_whole(&self) -> Result<(), Report> {
        if matches!(self.record.state, State::Making | State::Deleting) {
            let message = format!("the VM `{}` is not whole and cannot change", self.record.name);
            return Err(Report::new(Kind::Conflict, message));
        }
        Ok(())
    }

    /// Writes down what the VM is to be. When that cannot be done nothing has changed.
    pub(super) async fn write_spec(&mut self, spec: VmSpec) -> PortResult<()> {
        self.replace(VmRecord { spec, ..self.record.clone() }).await
    }

    /// Grows the work disk to what is written down. When its file cannot grow, everything is as before.
    async fn grow(&mut self, before: &VmSpec) -> Result<Change, Report> {
        let bytes = self.record.spec.disk_bytes;
        if let Err(mut error) = self.shared.ports.disks.grow(&self.folder, bytes).await {
            if let Err(left) = self.write_spec(before.clone()).await {
                error.cause.push(left.one_line());
            }
            return Err(error);
        }
        let Some(boot) = self.record.state.boot().cloned() else {
            return Ok(Change { setting: Setting::Disk, holds: Holds::Now, cause: None });
        };
        let grown = match self.grow_running(&boot, bytes).await {
            Ok(()) => self.change(Event::Grown { disk_bytes: bytes }).await,
            Err(error) => Err(error),
        };
        Ok(match grown {
            Ok(()) => Change { setting: Setting::Disk, holds: Holds::Now, cause: None },
            Err(error) => {
                let cause = error.one_line();
                tracing::warn!(vm = %self.record.id, error = cause, "the disk grows at next start");
                Change { setting: Setting::Disk, holds: Holds::AfterRestart, cause: Some(cause) }
            }
        })
    }

    async fn grow_running(&self, boot: &Boot, bytes: u64) -> PortResult<()> {
        let ports = &self.shared.ports;
        let grow = async {
            ports.machines.grow_work_disk(&self.record.id, bytes).await?;
            match ports.guest_of(&self.folder, boot) {
                Some(guest) => guest.grow_work_disk(bytes).await,
                None => Ok(()),
            }
        };
        let stillness = self.shared.stillness(&self.record);
        let mut interrupts = self.interrupts.clone();
        // Whatever is dropped here, the next start does again.
        tokio::select! {
            grown = stillness.unless(grow) => grown,
            _ = interrupts.wait_for(|count| *count > 0) => {
                Err(Report::new(Kind::Cancelled, "the VM is being killed or deleted"))
            }
        }
    }
}

/// What the VM is to be, when it can be that.
fn changed(before: &VmSpec, wanted: &SetVm, host_memory_mib: u64) -> Result<VmSpec, Report> {
    let mut next = before.clone();
    next.vcpu = wanted.vcpu.unwrap_or(next.vcpu);
    next.memory_mib = wanted.memory_mib.unwrap_or(next.memory_mib);
    next.disk_bytes = wanted.disk_bytes.unwrap_or(next.disk_bytes);
    check_growth(before.disk_bytes, next.disk_bytes)?;
    check_machine(&machine_of(&next), host_memory_mib)?;
    for (label, value) in &wanted.labels {
        match value {
            Some(value) => next.labels.insert(label.clone(), value.clone()),
            None => next.labels.remove(label),
        };
    }
    check_labels(&next.labels)?;
    next.egress.mode = wanted.egress.unwrap_or(next.egress.mode);
    if let Some(seconds) = wanted.auto_stop_after_s {
        next.auto_stop_after_s = match seconds {
            0 => None,
            seconds => {
                check_auto_stop(seconds)?;
                Some(seconds)
            }
        };
    }
    Ok(next)
}

/// What differs between the two, in the order of [`Setting`].
fn differences(before: &VmSpec, next: &VmSpec) -> Vec<Setting> {
    let differs = [
        (Setting::Vcpu, before.vcpu != next.vcpu),
        (Setting::Memory, before.memory_mib != next.memory_mib),
        (Setting::Disk, before.disk_bytes != next.disk_bytes),
        (Setting::Labels, before.labels != next.labels),
        (Setting::AutoStopAfter, before.auto_stop_after_s != next.auto_stop_after_s),
        (Setting::Egress, before.egress != next.egress),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(setting, _)| setting).collect()
}
