//! The whole product, end to end: the real `cove`, the real daemon, real guests, real repositories.
//!
//! Booting a guest takes seconds of processor time under emulation, so a test looks at many things of
//! one guest. Every test has a [`harness::World`] of its own and ends with `world.finish()`, which fails
//! when anything of the test's VMs is left on the host.
//!
//! Everything works as an ordinary user as well as as root: [`harness::as_everybody`] makes two tests of
//! each, and a test that is there once says why.

mod bad_input;
mod bench;
mod bridge;
mod client;
mod commands;
#[path = "../hostile/corpus/mod.rs"]
mod corpus;
mod cp;
mod crowd;
mod cuts;
mod database;
mod egress;
mod export;
mod files;
mod foreign;
mod forward;
mod full_disk;
mod harness;
mod hook_points;
mod hook_runs;
mod hooks;
mod hostile;
mod hostile_plugins;
#[path = "../support/internet.rs"]
mod internet;
mod kill_walk;
mod lifecycle;
mod modes;
mod network;
mod parallel;
mod plugins;
mod prepare;
mod recovery;
mod run;
mod spares;
mod ssh;
mod ssh_tools;
mod stalled;
mod still;
mod streams;
mod user;
mod watch;
mod workspace;
