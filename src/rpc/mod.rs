//! The RPC: the only module that imports jsonrpsee.
//!
//! - `client`: the connector for the Unix socket, for the command line and for third parties
//! - `server`: what the daemon listens on; `loopback`: a port beside the Unix socket
//! - `front`: HTTP, WebSocket and byte streams on one connection, and what jsonrpsee does not do:
//!   `ids` (by HTTP), `frames` and `connection` (the same on a WebSocket), `notifications`
//! - `limits`: how much clients may ask for
//! - `methods`: every method, tied to the daemon's services; `subscriptions`: what goes
//!   on after its answer, `exec` and `stats` among it; `discover`: all of them described
//! - `bare`: what a benchmark measures the rest with

#[cfg(feature = "daemon")]
pub mod bare;
pub mod client;
#[cfg(feature = "daemon")]
mod connection;
#[cfg(feature = "daemon")]
mod discover;
#[cfg(feature = "daemon")]
mod exec;
#[cfg(feature = "daemon")]
mod frames;
#[cfg(feature = "daemon")]
mod front;
#[cfg(feature = "daemon")]
mod hook_runs;
#[cfg(feature = "daemon")]
mod ids;
#[cfg(feature = "daemon")]
mod limits;
#[cfg(feature = "daemon")]
mod loopback;
#[cfg(feature = "daemon")]
mod methods;
#[cfg(feature = "daemon")]
mod net;
#[cfg(feature = "daemon")]
mod notifications;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(feature = "daemon")]
mod stats;
#[cfg(feature = "daemon")]
mod streams;
#[cfg(feature = "daemon")]
mod subscriptions;
#[cfg(all(test, feature = "daemon"))]
mod tests;
#[cfg(feature = "daemon")]
mod workspaces;
