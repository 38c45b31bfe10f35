//! The network helper: bridge, uplinks and rules on the host, for a daemon that is not root.

use std::process::ExitCode;

fn main() -> ExitCode {
    cove::net::bridge::server::main(std::env::args_os().skip(1))
}
