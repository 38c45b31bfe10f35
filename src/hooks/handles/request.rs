//! `machine-request`: stages what a plugin asks the machine to be.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;
use crate::hooks::wishes::Wishes;

/// The wishes of one run.
#[derive(Debug)]
pub struct MachineRequest(pub(in crate::hooks) Arc<Mutex<Wishes>>);

impl State {
    fn wishing(
        &mut self,
        request: &Resource<MachineRequest>,
        what: impl FnOnce(&mut Wishes) -> Result<(), Refusal>,
    ) -> Result<(), CallError> {
        let request = self.look(request)?;
        Ok(what(&mut request.0.lock().unwrap_or_else(PoisonError::into_inner))?)
    }

    pub(in crate::hooks) fn request_env(
        &mut self,
        request: &Resource<MachineRequest>,
        name: String,
        value: String,
    ) -> Result<(), CallError> {
        self.wishing(request, |wishes| wishes.env(name, value))
    }

    pub(in crate::hooks) fn request_label(
        &mut self,
        request: &Resource<MachineRequest>,
        name: String,
        value: String,
    ) -> Result<(), CallError> {
        self.wishing(request, |wishes| wishes.label(name, value))
    }

    pub(in crate::hooks) fn request_forward(
        &mut self,
        request: &Resource<MachineRequest>,
        host_port: u16,
        guest_port: u16,
    ) -> Result<(), CallError> {
        self.wishing(request, |wishes| wishes.forward(host_port, guest_port))
    }

    pub(in crate::hooks) fn request_egress(
        &mut self,
        request: &Resource<MachineRequest>,
        name: &str,
    ) -> Result<(), CallError> {
        self.wishing(request, |wishes| wishes.egress(name))
    }
}
