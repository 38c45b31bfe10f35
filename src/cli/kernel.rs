//! `cove kernel`: the kernels that VMs boot.

use crate::wire::rpc::{Kernel, KernelList};

use super::connect::list_all;
use super::failure::Failure;
use super::output::{Format, table};

/// The commands of `cove kernel`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List kernels
    List {
        #[command(flatten)]
        format: Format,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::List { format } => list_all::<KernelList, _>(format, render).await,
        }
    }
}

fn render(kernels: &[Kernel]) -> String {
    let row = |kernel: &Kernel| [kernel.digest.as_str()[..12].to_owned(), kernel.release.clone()];
    table(["DIGEST", "RELEASE"], kernels.iter().map(row))
}
