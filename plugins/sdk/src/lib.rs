//! Plugins for cove in Rust: a hook is a function, and what it is handed is all that it can do.
//!
//! ```ignore
//! use cove_plugin_sdk::{PrepareWorkDisk, Result, info, plugin};
//!
//! plugin! { prepare_work_disk = quiet }
//!
//! fn quiet(call: &PrepareWorkDisk) -> Result<()> {
//!     let path = call.settings.text("path")?.unwrap_or_else(|| ".hushlogin".to_owned());
//!     call.disk.write_file(&path, 0o644, b"")?;
//!     info!("logins of `{}` are quiet", call.machine.name());
//!     Ok(())
//! }
//! ```
//!
//! The crate of a plugin is a `cdylib`, built with `cargo build --release --target wasm32-wasip2`; what
//! comes out is the component. Beside it lies its manifest, `plugin.toml`; `plugins/README.md` is the way
//! from there to a machine.
//!
//! - [`plugin!`] exports hook points. A component has those that are named there and no others, and it
//!   imports what its functions really call: the import list of a component is its list of wishes.
//! - [`Preflight`], [`ConfigureMachine`], [`PrepareWorkDisk`], [`PostStart`], [`PreStop`], [`Cleanup`] and
//!   [`Doctor`] are what a function is called with. Their fields are the handles of the contract,
//!   `wit/0.2.0/reference.md`.
//! - [`Error`] is what goes wrong, on either side. `?` and `into()` make one of a text, and [`Context`] says
//!   what was being done.
//! - [`debug!`], [`info!`], [`warning!`] and [`error!`] write to the log of the run.
//! - [`HostFiles::single`], [`HostFile::bytes`], [`HostFile::text`] and [`Command`] are the short ways for
//!   what many plugins do.
//!
//! A plugin that panics fails like one that returns an error, and the panic's text is kept for its log.

#[doc(hidden)]
pub mod bindings;
mod calls;
mod error;
mod export;
mod files;
mod log;
mod program;

pub use bindings::doctor::exports::cove::hooks::doctor::{Finding, Verdict};
pub use bindings::handles::cove::hooks::git_config::GitConfig;
pub use bindings::handles::cove::hooks::guest::{GuestSystem as Guest, Output};
pub use bindings::handles::cove::hooks::host_files::{HostFile, HostFiles, Kind};
pub use bindings::handles::cove::hooks::machine::Machine;
pub use bindings::handles::cove::hooks::machine_request::MachineRequest;
pub use bindings::handles::cove::hooks::settings::Settings;
pub use bindings::handles::cove::hooks::state::State;
pub use bindings::handles::cove::hooks::types::Error;
pub use bindings::handles::cove::hooks::work_disk::{FileWriter, Place, WorkDisk};
pub use calls::{
    Cleanup, ConfigureMachine, Doctor, PostStart, PreStop, Preflight, PrepareWorkDisk,
};
pub use error::{Context, Result};
pub use log::{Level, log};
pub use program::Command;
