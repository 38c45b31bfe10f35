//! Giving up every privilege but the one that is needed.
//!
//! `CAP_NET_ADMIN` alone is enough: the kernel grants it over the namespaces of every user, too, so that
//! an interface can be made in one whose descriptor the daemon sends. Nothing is entered, so there is no
//! need for `CAP_SYS_ADMIN`, and no other process is looked into, so there is none for `CAP_SYS_PTRACE`.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// What stays.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN;

/// Leaves the calling thread, and so every one that it starts, with [`KEPT`], for good.
///
/// # Errors
/// When the process has not got it.
pub(super) fn give_up() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if one == KEPT {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient_capability_set()?;
    let sets =
        CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}
