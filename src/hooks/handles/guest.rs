//! `guest`: runs granted programs in a guest that is up.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::guest::{GuestOutput, GuestProgram, GuestPrograms};
use crate::hooks::limits;
use crate::hooks::needs::Rights;
use crate::hooks::paths;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;
use crate::hooks::wishes::check_variable;

/// The guest of one run.
pub struct GuestHandle {
    pub(in crate::hooks) rights: Arc<Rights>,
    pub(in crate::hooks) programs: Arc<dyn GuestPrograms>,
    /// How many programs the plugin has run.
    pub(in crate::hooks) ran: usize,
}

impl State {
    /// Runs a program and waits for its end. The plugin's processor time stands still meanwhile; its wall
    /// time does not.
    pub(in crate::hooks) async fn guest_run(
        &mut self,
        guest: &Resource<GuestHandle>,
        program: GuestProgram,
    ) -> Result<GuestOutput, CallError> {
        self.count_failable()?;
        let guest = self.table.get_mut(guest)?;
        check(guest, &program)?;
        guest.ran += 1;
        let programs = Arc::clone(&guest.programs);
        let output = programs.run(program).await;
        Ok(output.map_err(|error| Refusal::new("io", error))?)
    }
}

fn check(guest: &GuestHandle, program: &GuestProgram) -> Result<(), Refusal> {
    if !guest.rights.may_run(&program.program) {
        return Err(Refusal::not_granted(&format!("guest.run:{}", program.program)));
    }
    if guest.ran >= limits::GUEST_PROGRAMS {
        let message = format!("a plugin runs at most {} programs", limits::GUEST_PROGRAMS);
        return Err(Refusal::new("too-many", message));
    }
    if let Some(folder) = &program.folder {
        paths::check(folder)?;
    }
    let GuestProgram { arguments, environment, input, .. } = program;
    let texts = arguments.iter().chain(environment.keys()).chain(environment.values());
    environment.keys().try_for_each(|name| check_variable(name))?;
    if texts.clone().any(|text| text.contains('\0')) {
        let message = "an argument or a variable has a NUL in it";
        return Err(Refusal::new("bad-argument", message));
    }
    let bytes: usize = texts.map(String::len).sum();
    if bytes > limits::GUEST_ARGUMENT_BYTES || input.len() > limits::PIECE_BYTES {
        return Err(Refusal::new("too-large", "so much cannot be handed to a program"));
    }
    Ok(())
}

impl GuestProgram {
    /// The program as a plugin names it.
    pub(in crate::hooks) fn new(
        program: String,
        arguments: Vec<String>,
        folder: Option<String>,
        environment: Vec<(String, String)>,
        input: Vec<u8>,
    ) -> Self {
        let environment: BTreeMap<_, _> = environment.into_iter().collect();
        Self { program, arguments, folder, environment, input }
    }
}
