//! `cove daemon`: start, stop and look at the daemon. VMs go on without it.

use std::time::Duration;

use crate::process::Process;
use crate::report::{Kind, Report};
use crate::wire::rpc::{DaemonShutdown, DaemonStatus, DaemonStatusReply, Nothing};

use super::connect::{connect, connect_if_running};
use super::failure::Failure;
use super::output::{self, Format, pairs, say};

/// How long a daemon may take to end: it drains its tasks.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The commands of `cove daemon`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Start it, if it does not run
    Start {
        #[command(flatten)]
        format: Format,
    },
    /// End it, if it runs; VMs go on
    Stop,
    /// Show how it is
    Status {
        #[command(flatten)]
        format: Format,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Start { format } => {
                let status = connect().await?.call::<DaemonStatus>(Nothing {}).await?;
                format.print(&status, render)?;
                Ok(0)
            }
            Self::Stop => stop().await,
            Self::Status { format } => {
                let Some(client) = connect_if_running().await? else {
                    return Err(Report::new(Kind::Unreachable, "the daemon does not run")
                        .with_hint("start it with `cove daemon start`")
                        .into());
                };
                let status = client.call::<DaemonStatus>(Nothing {}).await?;
                format.print(&status, render)?;
                Ok(0)
            }
        }
    }
}

async fn stop() -> Result<u8, Failure> {
    let Some(client) = connect_if_running().await? else {
        say("the daemon does not run");
        return Ok(0);
    };
    let status = client.call::<DaemonStatus>(Nothing {}).await?;
    let pid = i32::try_from(status.pid).unwrap_or(0);
    let process = Process::open_any(pid);
    let process = process.map_err(|error| output::failed("cannot watch the daemon end", &error))?;
    match client.call::<DaemonShutdown>(Nothing {}).await {
        Ok(Nothing {}) => {}
        // It may be gone before its answer is through.
        Err(report) if report.kind == Kind::Unreachable => {}
        Err(report) => return Err(report.into()),
    }
    // An open connection would keep it waiting.
    drop(client);
    let Some(process) = process else {
        return Ok(0);
    };
    match tokio::time::timeout(STOP_DEADLINE, process.ended()).await {
        Ok(Ok(())) => Ok(0),
        Ok(Err(error)) => Err(output::failed("cannot watch the daemon end", &error).into()),
        Err(_) => {
            let seconds = STOP_DEADLINE.as_secs();
            let message = format!("process {pid} did not end within {seconds} s");
            let hint = format!("see its log at `{}`", status.log);
            Err(Report::new(Kind::TimedOut, message).with_hint(hint).into())
        }
    }
}

/// The status as names and values.
pub(super) fn render(status: &DaemonStatusReply) -> String {
    pairs(&[
        ("pid", status.pid.to_string()),
        ("version", status.version.clone()),
        ("socket", status.socket.clone()),
        ("database", status.database.clone()),
        ("log", status.log.clone()),
        ("started", status.started_at.clone()),
        ("vms", status.vms.to_string()),
        ("resident memory", format!("{} KiB", status.resident_kib)),
    ])
}
