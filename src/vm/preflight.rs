//! Whether a VM can start and may: asked of the host first, and then of plugins, before anything is made.

use std::time::{Duration, Instant};

use super::hooks;
use super::operation::Running;
use super::ports::{HookRan, HookedVm, Intent, Needs, PortResult, Ports};
use super::record::VmRecord;
use crate::wire::rpc::ClientContext;

/// Nothing is in the way of a start.
pub(super) struct Passed {
    /// What the user should know all the same.
    warnings: Vec<String>,
    ran: Vec<HookRan>,
    took: Duration,
}

/// Asks. A failure says what is in the way.
pub(super) async fn preflight(
    ports: &Ports,
    vm: &HookedVm,
    client: &ClientContext,
    intent: Intent,
) -> PortResult<Passed> {
    let began = Instant::now();
    let needs = Needs { memory_mib: vm.machine.memory_mib, net: vm.machine.net };
    let warnings = ports.preflight.check(&needs).await?;
    let ran = ports.hooks.preflight(vm, client, intent).await?;
    Ok(Passed { warnings, ran, took: began.elapsed() })
}

impl Passed {
    /// Tells the operation of it, whose stage it was.
    pub(super) fn tell(self, record: &VmRecord, operation: &Running) {
        self.warnings.into_iter().for_each(|warning| operation.note(warning));
        hooks::tell(record, &self.ran, operation.events(), Some(operation));
    }

    /// The same of an operation that began afterwards.
    pub(super) fn tell_late(self, record: &VmRecord, operation: &Running) {
        operation.past_stage("preflight".to_owned(), self.took);
        self.tell(record, operation);
    }

    /// What the user should know.
    pub(super) fn notes(self) -> Vec<String> {
        let said = self.ran.into_iter().flat_map(|HookRan { shown, .. }| {
            let plugin = shown.plugin;
            shown.log.into_iter().map(move |line| format!("{plugin}: {line}"))
        });
        self.warnings.into_iter().chain(said).collect()
    }
}
