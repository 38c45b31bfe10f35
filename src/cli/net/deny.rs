//! `cove net deny`: take back a rule of what a VM may reach.

use crate::egress::Rule;
use crate::wire::rpc::{NetDeny, NetRule};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::machine::rule;
use super::super::output::Format;
use super::{show, warn};

/// Arguments of `cove net deny`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// The rule, as `cove net show` has it
    #[arg(value_parser = rule)]
    rule: Rule,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let wanted = NetRule { vm: self.vm, rule: self.rule };
        let shown = client.call::<NetDeny>(wanted).await?;
        self.format.print(&shown, show::render)?;
        warn(&shown);
        Ok(0)
    }
}
