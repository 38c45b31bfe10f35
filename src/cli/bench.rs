//! `cove bench`: how fast cove is here, beside a floor that cannot be passed.
//!
//! Every number stands beside its floor, measured in the same run and taking turns with it, so that a
//! busy or slow host slows both: what counts is the ratio of the medians. The floor of a start is the
//! bare monitor with the same programs, arguments, kernel, initramfs, image and fresh disks, started in
//! this process. The floor of a command is the guest's own protocol over the vsock of such a machine. The
//! floor of the RPC is a bare server of the library that it is made with.
//!
//! Everything that a benchmark makes is named `bench-…` and gone at its end, also after Ctrl-C.

use std::path::Path;

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{DeleteVm, VmDelete};

use super::batch;
use super::connect::connect;
use super::failure::Failure;
use super::output;
use super::signals::Signals;

mod cove;
mod exec;
mod floor;
mod rpc;
mod spread;
mod start;

/// The commands of `cove bench`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Cold starts: from the request to the end of the first command, beside the bare monitor
    Start(start::Arguments),
    /// Round trips of a command in a running VM, beside the guest's own protocol
    Exec(exec::Arguments),
    /// Round trips and long lists of the RPC beside a bare server, and a daemon that has nothing to do
    Rpc(rpc::Arguments),
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Start(arguments) => arguments.run().await,
            Self::Exec(arguments) => arguments.run().await,
            Self::Rpc(arguments) => arguments.run().await,
        }
    }
}

/// How often something is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Runs {
    /// Measure so many times, after one round that does not count
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
}

/// Names that only one benchmark gives.
#[derive(Debug)]
struct Names(String);

impl Names {
    fn new() -> Self {
        Self(format!("bench-{}-", crate::id::VmId::random()))
    }

    fn name(&self, number: u32) -> String {
        format!("{}{number}", self.0)
    }
}

/// Does `work` with a client, and deletes what it made in VMs however it ends.
async fn with_client<T>(
    work: impl AsyncFnOnce(&Client, &Names) -> Result<T, Report>,
) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    let client = signals.unless_interrupted(connect()).await?;
    let names = Names::new();
    let done = signals.unless_interrupted(work(&client, &names)).await;
    if let Err(left) = delete_all(&client, &names).await {
        // Their leases end with this connection: the daemon deletes them then.
        output::say(&format!("a VM of the benchmark could not be deleted: {}", left.one_line()));
    }
    done
}

async fn delete_all(client: &Client, names: &Names) -> Result<(), Report> {
    for vm in batch::all(client).await? {
        if vm.name.as_str().starts_with(&names.0) {
            match client.call::<VmDelete>(DeleteVm::whatever(vm.id.to_string())).await {
                Ok(_) => {}
                Err(report) if report.kind == Kind::NotFound => {}
                Err(report) => return Err(report),
            }
        }
    }
    Ok(())
}

/// A failure of this process with a file.
fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Report {
    output::failed(&format!("cannot {action} `{}`", path.display()), error)
}
