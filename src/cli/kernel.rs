//! `cove kernel`: the kernels that VMs boot.

use crate::wire::rpc::{Kernel, KernelList, Nothing};

use super::connect::connect;
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
            Self::List { format } => {
                let kernels = connect().await?.call::<KernelList>(Nothing {}).await?;
                format.print(&kernels, |kernels| render(kernels))?;
                Ok(0)
            }
        }
    }
}

fn render(kernels: &[Kernel]) -> String {
    let row = |kernel: &Kernel| [kernel.digest.as_str()[..12].to_owned(), kernel.release.clone()];
    table(["DIGEST", "RELEASE"], kernels.iter().map(row))
}
