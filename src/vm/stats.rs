//! Looking at VMs while they run: what they use, and who listens in them. Looking is no use of a VM.

use super::ledger::ResourceKind;
use super::record::VmRecord;
use super::service::VmService;
use crate::report::Report;
use crate::wire::guest::{GuestStats, Health, Listening};
use crate::wire::rpc::{HostStats, ProcessStats, VmState, VmStats};

impl VmService {
    /// What a VM uses. That its guest says nothing is part of the answer.
    ///
    /// # Errors
    /// When there is no such VM, or the host cannot tell.
    pub async fn stats(&self, wanted: &str) -> Result<VmStats, Report> {
        let record = self.handle(wanted)?.view.borrow().record.clone();
        let host = self.host_stats(&record).await?;
        let (guest, guest_error) = match record.state.view() {
            VmState::Running => match self.guest_stats(&record).await {
                Ok(stats) => (Some(stats), None),
                Err(error) => (None, Some(with_hint(&error))),
            },
            VmState::Created
            | VmState::Starting
            | VmState::Stopping
            | VmState::Stopped
            | VmState::Error => (None, None),
        };
        Ok(VmStats {
            state: record.state.view(),
            vm: record.id,
            name: record.name,
            at: super::now(),
            host,
            guest,
            guest_error,
        })
    }

    /// How a guest is.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or its guest does not answer.
    pub async fn health(&self, wanted: &str) -> Result<Health, Report> {
        let record = self.handle(wanted)?.view.borrow().record.clone();
        let guest = self.guest(&record)?;
        self.shared.stillness(&record).unless(guest.health()).await
    }

    async fn guest_stats(&self, record: &VmRecord) -> Result<GuestStats, Report> {
        let guest = self.guest(record)?;
        self.shared.stillness(record).unless(guest.stats()).await
    }

    async fn host_stats(&self, record: &VmRecord) -> Result<HostStats, Report> {
        let ports = &self.shared.ports;
        let (work_disk_bytes, root_disk_bytes) =
            ports.disks.taken(&self.folder(&record.id)).await?;
        let mut host = HostStats {
            cpu_ms: 0,
            age_ms: None,
            resident_bytes: 0,
            proportional_bytes: None,
            work_disk_bytes,
            root_disk_bytes,
            processes: Vec::new(),
        };
        for (kind, process) in ports.rows.resources(&record.id).await? {
            let Some(process) = process else { continue };
            // One that has ended meanwhile uses nothing.
            let Some(used) = ports.processes.usage(process).await? else { continue };
            if kind == ResourceKind::Monitor {
                host.age_ms = Some(used.age_ms);
            }
            host.cpu_ms += used.cpu_ms;
            host.resident_bytes += used.resident_bytes;
            host.processes.push(ProcessStats {
                role: kind.as_str().to_owned(),
                pid: process.pid,
                cpu_ms: used.cpu_ms,
                resident_bytes: used.resident_bytes,
                proportional_bytes: used.proportional_bytes,
            });
        }
        let parts = || host.processes.iter().map(|process| process.proportional_bytes);
        if parts().any(|part| part.is_some()) {
            let of = |process: &ProcessStats| {
                process.proportional_bytes.unwrap_or(process.resident_bytes)
            };
            host.proportional_bytes = Some(host.processes.iter().map(of).sum());
        }
        Ok(host)
    }

    /// The sockets in a guest that wait for others.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or its guest does not answer.
    pub async fn listening(&self, wanted: &str) -> Result<Listening, Report> {
        let record = self.handle(wanted)?.view.borrow().record.clone();
        let guest = self.guest(&record)?;
        self.shared.stillness(&record).unless(guest.listening()).await
    }
}

/// A failure as one line, with what to do: there is no other place for it in an answer.
fn with_hint(error: &Report) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{hint}", error.one_line())
}
