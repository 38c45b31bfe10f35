//! Tear-down: releasing what the ledger says a VM has.
//!
//! It never returns early: every step runs, failures are joined, and a row goes only after its resource
//! has gone, so that a later tear-down finds what this one could not release.

use std::path::Path;

use super::ledger::ResourceKind;
use super::ports::{PortResult, Ports};
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::{Kind, Report};

/// How much of a VM is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What one boot has: processes, sockets, its key. The folder with the disks stays.
    Boot,
    /// Everything.
    All,
}

/// Releases, in the reverse order of making.
pub(super) async fn release(
    ports: &Ports,
    vm: &VmId,
    folder: &Path,
    extent: Extent,
) -> PortResult<()> {
    let rows = ports.rows.resources(vm).await?;
    let mut failures = Vec::new();
    for kind in ResourceKind::ALL.into_iter().rev() {
        let Some((_, process)) = rows.iter().find(|(row, _)| *row == kind) else {
            continue;
        };
        let released = match (kind, extent) {
            (ResourceKind::Folder, Extent::Boot) => continue,
            (ResourceKind::Folder, Extent::All) => ports.disks.remove(folder).await,
            (ResourceKind::BridgePort, Extent::Boot | Extent::All) => {
                ports.networks.detach(vm).await
            }
            (
                ResourceKind::NetworkKeeper
                | ResourceKind::Uplink
                | ResourceKind::VsockDevice
                | ResourceKind::Monitor,
                Extent::Boot | Extent::All,
            ) => end_process(ports, vm, *process).await,
        };
        match released {
            Ok(()) => failures.extend(ports.rows.released(vm, kind).await.err()),
            Err(failure) => failures.push(failure),
        }
    }
    if extent == Extent::Boot && failures.is_empty() {
        failures.extend(ports.machines.clear(folder).await.err());
    }
    join(vm, failures)
}

/// Ends a process that has a row. A row without an identity was written just before a crash: whatever
/// carries the VM's id among its arguments is what it stood for.
async fn end_process(ports: &Ports, vm: &VmId, process: Option<ProcessId>) -> PortResult<()> {
    let found = match process {
        Some(process) => vec![process],
        None => ports.processes.find(vm),
    };
    let mut failures = Vec::new();
    for process in found {
        failures.extend(ports.processes.kill(process).await.err());
    }
    join(vm, failures)
}

/// All failures as one.
fn join(vm: &VmId, failures: Vec<Report>) -> PortResult<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let hint = failures.iter().find_map(|failure| failure.hint.clone());
    let hint = hint.unwrap_or_else(|| "the next start of the daemon tries again".to_owned());
    let mut joined = Report::new(Kind::Failed, format!("cannot release everything of VM `{vm}`"))
        .with_hint(hint);
    joined.cause = failures.iter().map(Report::one_line).collect();
    Err(joined)
}
