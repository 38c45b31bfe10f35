//! The hook host: runs plugins, which are WebAssembly components, within what they are granted.
//!
//! The only module that imports wasmtime. It knows neither the VM service nor the configuration's file:
//! it is handed folders, grants and inputs, and hands back a plan that nobody has carried out yet.
//!
//! ```text
//! plugin folders ─▶ files ─▶ manifest, needs ─▶ plugin (compiler, cache) ─▶ order
//!                                                                            │
//! inputs ─▶ run: state (limits) + handles (rights, sources, staging)  ◀──────┘
//!                     │ through the adapter of its contract's version (contract);
//!                     │ plan and wishes of each plugin are dropped on any failure
//!                     ▼
//!                   merge ─▶ WorkDiskPlan, Asked
//! ```
//!
//! Rules that hold here:
//! - A plugin in the standard folder has what its manifest asks for. A plugin in the user's folder has
//!   what the configuration grants to exactly its component. Without a grant it does not run, is not
//!   even compiled, and, unless its manifest says `failure = "optional"`, no VM starts: leaving out in
//!   silence what somebody put in would be worse. The same holds for a broken plugin. Either is switched
//!   off by name (`disabled`) or by removing its folder.
//! - Everything a plugin may use up is in [`limits`].
//! - Authority is in the Rust values behind the handles, below every version of the contract.

mod cache;
mod catalog;
pub mod compiler;
mod contract;
mod engine;
mod error;
mod files;
mod guest;
mod handles;
mod host;
mod inputs;
mod journal;
pub mod limits;
mod log;
mod manifest;
mod memory;
mod merge;
mod needs;
mod occupied;
mod order;
mod outcome;
mod paths;
mod plugin;
mod refusal;
mod run;
mod source;
mod staging;
mod state;
#[cfg(test)]
mod tests_host;
#[cfg(test)]
mod tests_limits;
#[cfg(test)]
mod tests_points;
#[cfg(test)]
mod tests_programs;
#[cfg(test)]
mod tests_standard;
#[cfg(test)]
mod tests_support;
mod wishes;

pub use contract::Finding;
pub use error::{BoxError, Failure, HookError, Problem};
pub use guest::{GuestOutput, GuestProgram, GuestPrograms};
pub use host::HookHost;
pub use inputs::{GitValues, HookInputs, HookSettings, MachineView, Purpose};
pub use journal::Read;
pub use log::{LogLevel, LogLine};
pub use needs::Grant;
pub use outcome::{HookOutcome, HookRun};
pub use source::{HostFilesSource, HostPath, VirtualFile};
pub use state::Used;
pub use wishes::Asked;
