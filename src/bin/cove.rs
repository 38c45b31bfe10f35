//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cove::cli::main(std::env::args_os()))
}
