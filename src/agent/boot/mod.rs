//! From the kernel's first process to a served guest.
//!
//! ```text
//! PID 1   early mounts · boot file · modules · disks · overlay root · into it
//!   │
//!   ├─ fork ─▶ the agent: vsock, the host's requests          (a runtime, threads)
//!   │              │ orders over a socket pair: hand over, power off
//!   ▼              ▼
//!  the supervisor: reaps orphans; becomes the image's own init; powers off
//! ```
//!
//! The process that is PID 1 never has threads, so that it can become another program, and it is the
//! only one that waits for strangers: the agent waits for the programs it started, and for nothing
//! else. Design step 5 (the pivot) is done before the host connects rather than after the plan: the
//! result is the same, and only one process has to move.

mod disks;
mod early;
mod guest;
mod modules;
mod power;
mod root;
mod supervisor;

use std::os::unix::net::UnixStream;

use nix::unistd::{ForkResult, fork};

use self::supervisor::Supervisor;
use super::console;
use super::failure::{During, Failure};
use crate::wire::boot::{BootMode, PROBE_OK};

/// Runs the guest. Called as its first process; returns only when that cannot be.
///
/// # Errors
/// When this is not the first process of a machine.
pub fn run() -> Result<(), Failure> {
    if std::process::id() != 1 {
        return Err(Failure::new(
            "start",
            "cove-agent is the first process of a guest and runs nowhere else",
        ));
    }
    let failure = match boot() {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    console::line(&format!("cove-agent: {failure}: {}", failure.message()));
    power::off_now()
}

fn boot() -> Result<std::convert::Infallible, Failure> {
    early::mount()?;
    console::line(concat!("cove-agent ", env!("CARGO_PKG_VERSION"), " started"));
    let boot = early::boot_file()?;
    if boot.mode == BootMode::Probe {
        console::line(PROBE_OK);
        power::off_now();
    }
    super::identity::add_entropy(&boot.seed).during("seed the kernel's random numbers")?;
    modules::load()?;
    let disks = disks::mount()?;
    root::enter(&disks)?;
    let (orders, requests) = UnixStream::pair().during("make the supervisor's socket")?;
    match start_agent().during("start the agent")? {
        ForkResult::Child => {
            drop(orders);
            guest::run(&boot, requests, disks)
        }
        ForkResult::Parent { child } => {
            drop(requests);
            Supervisor::new(orders, child, disks).run()
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the agent must not be PID 1, which may have to become another program"
)]
fn start_agent() -> nix::Result<ForkResult> {
    // SAFETY: this process has no other threads yet.
    unsafe { fork() }
}
