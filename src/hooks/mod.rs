//! The hook host: runs plugins, which are WebAssembly components, within what they are granted.
//!
//! The only module that imports wasmtime. It knows neither the VM service nor the configuration's file:
//! it is handed folders, grants and inputs, and hands back a plan that nobody has carried out yet.
//!
//! ```text
//! path ─▶ package ─▶ registry ─▶ standing (what was decided)
//!                                   │
//! standard folder ─▶ files ─▶ manifest, needs ─▶ plugin (compiler, cache) ─▶ order
//!                                                                             │
//! inputs ─▶ run: state (limits) + handles (rights, sources, staging)  ◀───────┘
//!                     │ through the adapter of its contract's version (contract);
//!                     │ plan and wishes of each plugin are dropped on any failure
//!                     ▼
//!                   merge ─▶ WorkDiskPlan, Asked
//! ```
//!
//! Rules that hold here:
//! - A plugin that came with cove has what its manifest asks for, but what was revoked. Others are installed
//!   ([`registry`](self::InstallError)) and have what was granted to exactly their files. Nobody gets more
//!   than the daemon's ceiling.
//! - What was never granted does not take part, and is listed. What was granted and is now broken or replaced
//!   is in the way of starts, unless its manifest says `failure = "optional"`: leaving out in silence what
//!   somebody relies on would be worse.
//! - An optional plugin that fails three times in a row at one point is switched off, and somebody hears of it.
//! - Everything a plugin may use up is in [`limits`].
//! - Authority is in the Rust values behind the handles, below every version of the contract.

mod advice;
mod audit;
pub mod bench;
mod cache;
mod catalog;
mod ceiling;
pub mod compiler;
mod contract;
mod engine;
mod error;
mod failure;
mod files;
mod granting;
mod guest;
mod handles;
mod host;
mod inputs;
mod installing;
mod journal;
pub mod kit;
pub mod limits;
mod listing;
mod log;
mod manifest;
mod memory;
mod merge;
mod needs;
mod occupied;
mod order;
mod outcome;
mod package;
mod paths;
mod phase;
mod plugin;
mod problem;
mod refusal;
mod registry;
mod run;
mod series;
mod signature;
mod slots;
mod source;
mod staging;
mod standing;
mod state;
mod telling;
#[cfg(test)]
mod tests_advice;
#[cfg(test)]
mod tests_audit;
#[cfg(test)]
mod tests_decisions;
#[cfg(test)]
mod tests_host;
#[cfg(test)]
mod tests_installing;
#[cfg(test)]
mod tests_mise;
#[cfg(test)]
mod tests_optional;
#[cfg(test)]
mod tests_points;
#[cfg(test)]
mod tests_programs;
#[cfg(test)]
mod tests_registry;
#[cfg(test)]
mod tests_standard;
#[cfg(test)]
mod tests_support;
mod wishes;
mod words;

pub use ceiling::Ceiling;
pub use contract::Finding;
pub use error::{BoxError, HookError};
pub use failure::Failure;
pub use guest::{GuestOutput, GuestProgram, GuestPrograms};
pub use host::HookHost;
pub use inputs::{GitValues, HookInputs, HookSettings, MachineView, Purpose, SignatureRules};
pub use journal::{Import, Read};
pub use log::{LogLevel, LogLine};
pub use needs::Grant;
pub use outcome::{HookOutcome, HookRun, shown_step};
pub use problem::Problem;
pub use registry::{FAILURES, GrantError, InstallError};
pub use source::{HostFilesSource, HostPath, VirtualFile};
pub use state::Used;
pub use wishes::Asked;
