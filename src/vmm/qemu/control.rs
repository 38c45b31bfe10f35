//! QEMU's control socket (QMP).

use std::io;
use std::time::Duration;

use qapi::futures::QmpStreamTokio;
use qapi::qmp::{self, QmpCommand};
use tokio::net::UnixStream;

use crate::vmm::VmmError;

/// How long QEMU may take to answer: it answers in its main loop, which a busy host can hold up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Makes sure that the machine runs.
pub(super) async fn check(socket: UnixStream) -> Result<(), VmmError> {
    match ask(socket, qmp::query_status {}).await?.status {
        qmp::RunState::running => Ok(()),
        other => {
            let source = io::Error::other(format!("the machine is {other:?}, not running"));
            Err(VmmError::Control { source })
        }
    }
}

/// Tells the machine that the file of a drive has so many bytes now.
pub(super) async fn resize(socket: UnixStream, drive: &str, bytes: u64) -> Result<(), VmmError> {
    let size = i64::try_from(bytes).unwrap_or(i64::MAX);
    let resize = qmp::block_resize { device: Some(drive.to_owned()), node_name: None, size };
    ask(socket, resize).await.map(drop)
}

async fn ask<C: QmpCommand>(socket: UnixStream, command: C) -> Result<C::Ok, VmmError> {
    let asked = tokio::time::timeout(ANSWER_DEADLINE, exchange(socket, command)).await;
    let answer = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    answer.map_err(|source| VmmError::Control { source })
}

async fn exchange<C: QmpCommand>(socket: UnixStream, command: C) -> io::Result<C::Ok> {
    let (read, write) = tokio::io::split(socket);
    let stream = QmpStreamTokio::open_split(read, write).await?;
    let stream = stream.negotiate().await?;
    let (service, mut events) = stream.into_parts();
    let answer = service.execute(command);
    // Answers arrive through the stream of events, which must be polled beside the question.
    let pump = async {
        use futures_util::StreamExt as _;
        while events.next().await.is_some() {}
    };
    // Cancel-safe: the connection is dropped with whatever is unread.
    tokio::select! {
        answer = answer => answer.map_err(io::Error::other),
        () = pump => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
