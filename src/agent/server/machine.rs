//! The machine that an agent runs in, as far as it is not the same everywhere: pretended ones have none of it.

use std::path::PathBuf;

use super::super::exec::login::Login;
use super::super::failure::Failure;
use crate::wire::guest::Setup;

/// Its clocks.
pub trait Clock {
    /// Milliseconds since the kernel started.
    fn uptime_ms(&self) -> u64;

    /// Sets the wall clock to so many milliseconds since 1970, UTC. Blocks.
    ///
    /// # Errors
    /// When the kernel does not take it.
    fn set_clock(&self, unix_ms: u64) -> Result<(), Failure>;
}

/// What not every place the agent runs in can do: identity, the hand-over to the image's init, power.
pub trait Machine: Clock + Send + Sync + 'static {
    /// Gives the guest its identity. Blocks.
    ///
    /// # Errors
    /// Names what could not be done.
    fn identify(&self, setup: &Setup) -> Result<(), Failure>;

    /// Hands over to the image's own init, where there is one. Blocks.
    ///
    /// # Errors
    /// When it is there but does not start.
    fn hand_over(&self) -> Result<(), Failure>;

    /// The login user. Blocks.
    fn login(&self) -> Login;

    /// A folder for what is needed for a moment, in which nobody else writes. It need not be there yet.
    fn own_folder(&self) -> PathBuf;

    /// Grows the work disk's file system to its device of at least so many bytes. Blocks.
    ///
    /// # Errors
    /// When the device or the file system does not grow.
    fn grow_work_disk(&self, bytes: u64) -> Result<(), Failure>;

    /// Syncs the disks. Blocks.
    fn sync(&self);

    /// Ends the machine. Blocks.
    fn power_off(&self);
}
