//! The RPC: the only module that imports jsonrpsee.
//!
//! - `client`: the connector for the Unix socket, for the command line and for third parties
//! - `server`: jsonrpsee over the Unix socket, and byte streams beside it
//! - `methods`: every method, tied to the daemon's services

pub mod client;
#[cfg(feature = "daemon")]
mod methods;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(feature = "daemon")]
mod stats;
#[cfg(feature = "daemon")]
mod streams;
#[cfg(all(test, feature = "daemon"))]
mod tests;
