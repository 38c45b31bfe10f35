//! The guest side: what runs inside a VM.
//!
//! Small and static; it knows the wire types and nothing else of cove. The parts that do not need a
//! guest to run are tested on the host.
//!
//! - [`boot`]: PID 1, from the kernel's first process to the image's root
//! - [`server`]: the host's connections, after the [`handshake`]
//! - [`identity`], [`network`], [`plan`], [`skeleton`]: what a guest is given at start
//! - [`exec`], [`tree`], [`copy`], [`update`], [`survey`], [`forward`]: programs, trees in and out, and
//!   connections; [`index`]: git's indexes in trees that came; [`grow`]: the work disk; [`observe`]: what is seen
//!   of the guest
//! - [`beneath`]: the folder that no path can leave

pub mod beneath;
pub mod boot;
pub mod console;
pub mod copy;
pub mod exec;
pub mod failure;
pub mod forward;
pub mod grow;
pub mod handshake;
pub mod identity;
pub mod index;
pub mod network;
pub mod observe;
pub mod plan;
pub mod server;
pub mod skeleton;
pub mod survey;
pub mod tree;
pub mod update;
