//! The Rust values behind the handles of the contract.
//!
//! Each value carries what its plugin may do with it, so that no adapter for a version of the contract
//! can forget to ask. Functions count as host calls, return refusals as the contract's error record, and
//! trap only when a limit is exceeded or a handle is forged.

#![expect(unreachable_pub, reason = "the generated bindings name these types in a `pub use`")]

mod files;
mod git;
mod settings;
mod work_disk;

pub use files::{HostFile, HostFiles};
pub use git::GitConfig;
pub use settings::Settings;
pub use work_disk::{FileWriter, WorkDisk};

use wasmtime::component::ResourceTableError;

use super::bindings::{log, types};
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

impl types::Host for State {
    fn convert_error(&mut self, error: CallError) -> wasmtime::Result<types::Error> {
        match error {
            CallError::Refused(Refusal { code, message }) => {
                Ok(types::Error { code: code.to_owned(), message, retryable: false })
            }
            CallError::Trap(error) => Err(error),
        }
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warning => LogLevel::Warning,
            log::Level::Error => LogLevel::Error,
        };
        self.log.push(level, &message);
        Ok(())
    }
}
