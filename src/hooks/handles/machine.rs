//! `machine`: what the machine is that a hook runs for.

use wasmtime::component::Resource;

use crate::hooks::inputs::MachineView;
use crate::hooks::state::State;

/// A machine, to look at.
#[derive(Debug)]
pub struct Machine(pub(in crate::hooks) MachineView);

impl State {
    /// The machine behind a handle.
    pub(in crate::hooks) fn machine(
        &mut self,
        machine: &Resource<Machine>,
    ) -> wasmtime::Result<&MachineView> {
        Ok(&self.look(machine)?.0)
    }
}
