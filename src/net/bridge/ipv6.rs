//! What the host does with IPv6, as its switches say. Hosts can have it switched off, as a whole or for new
//! interfaces.
//!
//! VMs reach each other through the host, which has to forward for that. The switch for all of IPv6 makes a
//! host deaf to its router's announcements, so that one is left as the operator has it. Kernels from 6.17 on
//! have one for what comes from a single interface: the bridge has it on, and goes with it.

use std::{fs, io};

use super::error::BridgeError;

/// The settings of interfaces.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// A setting of new interfaces.
const NEW: &str = "default";

/// The switch of kernels from 6.17 on.
const FORWARD_FROM: &str = "force_forwarding";

/// A switch of an interface; none without IPv6, or where the kernel has no such switch or interface.
fn switch(device: &str, name: &str) -> Option<bool> {
    let value = fs::read_to_string(format!("{SETTINGS}/{device}/{name}")).ok()?;
    Some(value.trim() != "0")
}

/// Whether an interface takes IPv6 addresses.
pub(super) fn is_on(device: &str) -> bool {
    switch(device, "disable_ipv6") == Some(false)
}

/// Whether the bridge has an IPv6 address, or will have one when it comes.
pub(super) fn is_on_bridge(bridge: &str) -> bool {
    let off = switch(bridge, "disable_ipv6").or_else(|| switch(NEW, "disable_ipv6"));
    off == Some(false)
}

/// Whether the host carries IPv6 from one VM of the bridge to another.
pub(super) fn is_carried() -> bool {
    switch(NEW, FORWARD_FROM).is_some() || switch("all", "forwarding") == Some(true)
}

/// Has the host forward what comes from the bridge, where the kernel can do that alone.
pub(super) fn forward_from(bridge: &str) -> Result<(), BridgeError> {
    let switch = format!("{SETTINGS}/{bridge}/{FORWARD_FROM}");
    match fs::write(&switch, "1") {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BridgeError::Switch { switch, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
