//! The host's switch for forwarding. Switched on only where it is off, and then put back.
//!
//! It is IPv4's only; of IPv6 module `ipv6` knows.

use std::{fs, io};

use super::error::BridgeError;

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

fn failed(source: io::Error) -> BridgeError {
    BridgeError::Switch { switch: SWITCH.to_owned(), source }
}

/// Whether the host forwards IPv4.
pub(super) fn is_on() -> Result<bool, BridgeError> {
    Ok(fs::read_to_string(SWITCH).map_err(failed)?.trim() == "1")
}

/// Switches it.
pub(super) fn set(on: bool) -> Result<(), BridgeError> {
    fs::write(SWITCH, if on { "1" } else { "0" }).map_err(failed)
}
