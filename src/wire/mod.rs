//! The only serde contract types: what crosses a socket, in either direction.
//!
//! This module knows neither the daemon nor the guest agent; both, and clients, depend on it.
//!
//! - [`boot`]: what a guest finds in its initramfs
//! - [`guest`]: messages between host and guest agent, [`frame`], the frames that carry them, and
//!   [`window`], how much of a program's input may be on its way; [`relay`], a forwarded connection in frames
//! - [`proof`]: how host and agent prove themselves to each other
//! - [`rpc`]: methods, parameters and results of the daemon's JSON-RPC

pub mod boot;
#[cfg(feature = "guest-protocol")]
pub mod frame;
pub mod guest;
#[cfg(feature = "guest-protocol")]
pub mod proof;
#[cfg(any(feature = "client", feature = "agent"))]
pub mod relay;
pub mod rpc;
#[cfg(feature = "guest-protocol")]
pub mod survey;
#[cfg(feature = "guest-protocol")]
pub mod window;
