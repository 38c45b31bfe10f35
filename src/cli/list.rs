//! `cove list`: all VMs.

use crate::wire::rpc::{Vm, VmState};

use super::batch::all;
use super::connect::connect;
use super::failure::Failure;
use super::output::{Format, age, size, table};

/// Arguments of `cove list`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let vms = all(&connect().await?).await?;
        let now = jiff::Timestamp::now();
        self.format.print(&vms, |vms| render(vms, now))?;
        Ok(0)
    }
}

/// The VMs as a table, as of `now`.
pub(super) fn render(vms: &[Vm], now: jiff::Timestamp) -> String {
    let header = ["NAME", "STATE", "IMAGE", "VCPU", "MEMORY", "NET", "AGE", "REPOSITORY"];
    let row = |vm: &Vm| {
        let source = vm.workspace.as_ref().map(|workspace| workspace.source_path.clone());
        [
            vm.name.to_string(),
            standing(vm),
            vm.image.to_string(),
            vm.vcpu.to_string(),
            size(vm.memory_mib.saturating_mul(1 << 20)),
            vm.net.mode.as_str().to_owned(),
            age(&vm.created_at, now),
            source.unwrap_or_else(|| "-".to_owned()),
        ]
    };
    table(header, vms.iter().map(row))
}

/// The state of a VM, and whether it stands still in it.
pub(super) fn standing(vm: &Vm) -> String {
    let stalled = if vm.stalled.is_some() { " (stalled)" } else { "" };
    format!("{}{stalled}", state(vm.state))
}

/// A state as it is written.
pub(super) fn state(state: VmState) -> &'static str {
    match state {
        VmState::Created => "created",
        VmState::Starting => "starting",
        VmState::Running => "running",
        VmState::Stopping => "stopping",
        VmState::Stopped => "stopped",
        VmState::Error => "error",
    }
}
