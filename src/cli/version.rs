//! `cove version`.

use serde_json::json;

use super::failure::Failure;
use super::output::Format;

/// Arguments of `cove version`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        let value = json!({ "version": version });
        self.format.print(&value, |_| format!("cove {version}"))?;
        Ok(0)
    }
}
