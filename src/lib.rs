//! cove: private Linux machines for developers and coding agents.

pub mod id;
pub mod report;
pub mod wire;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod task;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod disk;
#[cfg(feature = "daemon")]
pub mod doctor;
#[cfg(feature = "daemon")]
pub mod guest;
#[cfg(feature = "daemon")]
pub mod hooks;
#[cfg(feature = "daemon")]
pub mod image;
#[cfg(feature = "daemon")]
pub mod net;
#[cfg(feature = "daemon")]
pub mod process;
#[cfg(feature = "client")]
pub mod rpc;
#[cfg(feature = "daemon")]
pub mod size;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod vm;
#[cfg(feature = "daemon")]
pub mod vmm;
#[cfg(feature = "daemon")]
pub mod workspace;
