//! Starting servants, and reaching the sockets that they make.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::process::{Process, Servant, ServantOutput, ShortFolder};
use crate::report::escape_control;
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vmm::VmmError;

/// How long a servant may take to open its socket. QEMU needs some 100 ms; ten at once on a busy
/// machine need seconds.
const SOCKET_DEADLINE: Duration = Duration::from_secs(30);

/// How often a socket that is not there yet is tried again.
const SOCKET_RETRY: Duration = Duration::from_millis(2);

/// Starts a servant with a row before and after.
pub(super) async fn start_servant(
    servant: Servant,
    kind: ResourceKind,
    ledger: &dyn Ledger,
) -> Result<(Process, ServantOutput), VmmError> {
    ledger.intend(kind).await.map_err(VmmError::Ledger)?;
    let program = servant.program.clone();
    let (process, output) =
        servant.spawn().map_err(|source| VmmError::Spawn { program, source })?;
    // Whoever called tears down what the row says when this fails.
    ledger.made(kind, process.id()).await.map_err(VmmError::Ledger)?;
    Ok((process, output))
}

/// Connects to a servant's socket as soon as it is there.
pub(super) async fn connect(
    program: &Path,
    folder: &Path,
    socket: &'static str,
    process: &Process,
    output: Option<&ServantOutput>,
) -> Result<UnixStream, VmmError> {
    let failed = |source| VmmError::Control { source };
    let short = ShortFolder::open(folder).map_err(failed)?;
    let path = short.path_of(socket);
    let attempts = async {
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return Ok(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) => {}
                Err(error) => return Err(failed(error)),
            }
            tokio::time::sleep(SOCKET_RETRY).await;
        }
    };
    while_alive(program, socket, process, output, attempts).await
}

/// Waits until a servant has made its socket, without connecting: it serves one connection only.
pub(super) async fn wait_for_socket(
    program: &Path,
    folder: &Path,
    socket: &'static str,
    process: &Process,
    output: &ServantOutput,
) -> Result<(), VmmError> {
    let path = folder.join(socket);
    let there = async {
        while !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            tokio::time::sleep(SOCKET_RETRY).await;
        }
        Ok(())
    };
    while_alive(program, socket, process, Some(output), there).await
}

/// Bounds attempts by the deadline and by the servant's life. There is no event that tells of a socket,
/// so attempts are made every few milliseconds.
async fn while_alive<T>(
    program: &Path,
    socket: &'static str,
    process: &Process,
    output: Option<&ServantOutput>,
    attempts: impl Future<Output = Result<T, VmmError>>,
) -> Result<T, VmmError> {
    let program = program.to_owned();
    // Both arms are cancel-safe: an unfinished connection is dropped, readiness is not consumed.
    tokio::select! {
        connected = tokio::time::timeout(SOCKET_DEADLINE, attempts) => match connected {
            Ok(connected) => connected,
            Err(_) => Err(VmmError::NoSocket { program, socket, deadline: SOCKET_DEADLINE }),
        },
        _ = process.ended() => {
            let said = output.map(ServantOutput::text).unwrap_or_default();
            Err(VmmError::Ended { program, said: escape_control(&said) })
        }
    }
}
