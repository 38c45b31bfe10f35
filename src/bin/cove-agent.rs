//! The guest agent: `/init` of cove's initramfs.

use cove::agent::{boot, console};

fn main() -> std::process::ExitCode {
    if let Err(failure) = boot::run() {
        console::line(&format!("cove-agent: {failure}: {}", failure.message()));
    }
    std::process::ExitCode::FAILURE
}
