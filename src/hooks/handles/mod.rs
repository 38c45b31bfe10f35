//! The Rust values behind the handles of the contract, and what can be done with them.
//!
//! Each value carries what its plugin may do with it, so that no adapter for a version of the contract
//! (`contract`) can forget to ask: adapters only translate names and types. Functions count as host calls,
//! return refusals, and trap only when a limit is exceeded or a handle is forged.

#![expect(unreachable_pub, reason = "the generated bindings name these types in a `pub use`")]

mod files;
mod git;
mod guest;
mod machine;
mod request;
mod settings;
mod store;
mod work_disk;

pub use files::{HostFile, HostFiles};
pub use git::GitConfig;
pub use guest::GuestHandle;
pub use machine::Machine;
pub use request::MachineRequest;
pub use settings::Settings;
pub use store::PluginState;
pub(super) use store::Remembered;
pub use work_disk::{FileWriter, WorkDisk};

use wasmtime::component::{Resource, ResourceTableError};

use super::log::LogLevel;
use super::refusal::Refusal;
use super::state::State;

/// How a host call fails.
#[derive(Debug)]
pub enum CallError {
    /// The plugin gets an error and goes on.
    Refused(Refusal),
    /// The plugin is ended.
    Trap(wasmtime::Error),
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<wasmtime::Error> for CallError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<ResourceTableError> for CallError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl State {
    /// Ends a failed host call: what is refused is noted down and goes to the plugin.
    pub(super) fn refuse(&mut self, error: CallError) -> wasmtime::Result<Refusal> {
        match error {
            CallError::Refused(refusal) => {
                self.journal.refused(&refusal);
                Ok(refusal)
            }
            CallError::Trap(error) => Err(error),
        }
    }

    /// Writes a line of the log.
    pub(super) fn write_log(&mut self, level: LogLevel, message: &str) -> wasmtime::Result<()> {
        self.count_call()?;
        self.log.push(level, message);
        Ok(())
    }

    /// What is behind a handle. One that the plugin made up, or has dropped, ends it.
    pub(super) fn look<T: 'static>(&mut self, handle: &Resource<T>) -> wasmtime::Result<&T> {
        self.count_call()?;
        Ok(self.table.get(handle)?)
    }

    /// The plugin lets go of a handle.
    pub(super) fn let_go<T: 'static>(&mut self, handle: Resource<T>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
