//! Cove's side of a benchmark: a client of the daemon like any other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::frame::Frame;
use crate::wire::guest::{ExecStatus, Reply};
use crate::wire::rpc::{
    CreateVm, DeleteVm, ExecVm, Operation, OperationEnd, VmCreate, VmDelete, VmExec,
};

use super::super::connect::client_context;

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
