//! Cove's side of a benchmark: a client of the daemon like any other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::process::Process;
use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::frame::Frame;
use crate::wire::guest::{ExecStatus, Reply};
use crate::wire::rpc::{
    CreateVm, DeleteVm, ExecVm, Operation, OperationEnd, VmCreate, VmDelete, VmExec, VmRef, VmStop,
};

use super::super::connect::client_context;
use super::super::output::failed;

/// What is run in guests: a program that does nothing.
pub(super) const TRUE: &str = "true";

/// One start.
pub(super) struct Started {
    /// From the request to the end of the first command.
    pub(super) took: Duration,
    /// The first command alone.
    pub(super) exec: Duration,
    /// The operation, with its stages.
    pub(super) operation: Operation,
}

/// Makes a VM under a lease, waits until it runs, and runs the first command in it.
pub(super) async fn start(client: &Client, wanted: CreateVm) -> Result<Started, Report> {
    let wanted = CreateVm { lease: true, wait: true, client: client_context(), ..wanted };
    let began = Instant::now();
    let operation = client.call::<VmCreate>(wanted).await?;
    if let Some(OperationEnd::Failed { error, .. }) = operation.end {
        return Err(error);
    }
    let created = began.elapsed();
    run_true(client, operation.vm.as_str()).await?;
    let took = began.elapsed();
    Ok(Started { took, exec: took - created, operation })
}

/// One stop of a VM that is well.
pub(super) struct Stopped {
    /// From the request to the answer.
    pub(super) took: Duration,
    /// From the end of its monitor to the answer.
    pub(super) after_end: Duration,
}

/// Stops the VM that was started.
pub(super) async fn stop(client: &Client, started: &Operation) -> Result<Stopped, Report> {
    let pid = match &started.end {
        Some(OperationEnd::Done { vm }) => vm.pid,
        Some(OperationEnd::Failed { .. }) | None => None,
    };
    let cannot = |error: &std::io::Error| failed("cannot watch a monitor", error);
    let monitor = Process::open_any(pid.unwrap_or(0)).map_err(|error| cannot(&error))?;
    let monitor = monitor.ok_or_else(|| {
        Report::new(Kind::Failed, format!("`{}` ended by itself", started.vm_name))
    })?;
    let began = Instant::now();
    let stopped = async {
        client.call::<VmStop>(VmRef { vm: started.vm.to_string() }).await?;
        Ok::<_, Report>(began.elapsed())
    };
    let ended = async {
        monitor.ended().await.map_err(|error| cannot(&error))?;
        Ok(began.elapsed())
    };
    let (took, ended) = tokio::try_join!(stopped, ended)?;
    Ok(Stopped { took, after_end: took.saturating_sub(ended) })
}

/// Deletes a VM.
pub(super) async fn delete(client: &Client, vm: &str) -> Result<(), Report> {
    client.call::<VmDelete>(DeleteVm::whatever(vm)).await.map(drop)
}

/// Runs a program that does nothing, the way `cove exec` does.
pub(super) async fn run_true(client: &Client, vm: &str) -> Result<(), Report> {
    let exec = ExecVm {
        vm: vm.to_owned(),
        argv: vec![TRUE.to_owned()],
        env: BTreeMap::new(),
        cwd: None,
        tty: None,
    };
    let ticket = client.call::<VmExec>(exec).await?;
    let mut frames = client.open_stream(&ticket).await?;
    ended(&mut frames).await
}

/// Waits until the program of these frames has ended well.
pub(super) async fn ended(
    frames: &mut (impl StreamExt<Item = std::io::Result<Frame>> + Unpin),
) -> Result<(), Report> {
    let broken = |said: String| Err(Report::new(Kind::Failed, format!("`{TRUE}` {said}")));
    while let Some(frame) = frames.next().await {
        let reply = frame.and_then(|frame| match frame {
            Frame::Stdout(_) | Frame::Stderr(_) => Ok(None),
            other => other.message::<Reply>().map(Some),
        });
        match reply {
            Ok(None | Some(Reply::ExecStarted { .. })) => {}
            Ok(Some(Reply::ExecEnded(ExecStatus::Exited(0)))) => return Ok(()),
            Ok(Some(other)) => return broken(format!("did not run: {other:?}")),
            Err(error) => return broken(format!("did not run: {error}")),
        }
    }
    broken("did not end before its connection did".to_owned())
}
