//! QEMU's control socket (QMP).

use std::io;
use std::time::Duration;

use qapi::futures::QmpStreamTokio;
use qapi::qmp;
use tokio::net::UnixStream;

use crate::vmm::VmmError;

/// How long QEMU may take to answer: it answers in its main loop, which a busy host can hold up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Makes sure that the machine runs.
pub(super) async fn check(socket: UnixStream) -> Result<(), VmmError> {
    let asked = tokio::time::timeout(ANSWER_DEADLINE, status(socket)).await;
    let status = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match status {
        Ok(qmp::RunState::running) => Ok(()),
        Ok(other) => {
            let source = io::Error::other(format!("the machine is {other:?}, not running"));
            Err(VmmError::Control { source })
        }
        Err(source) => Err(VmmError::Control { source }),
    }
}

async fn status(socket: UnixStream) -> io::Result<qmp::RunState> {
    let (read, write) = tokio::io::split(socket);
    let stream = QmpStreamTokio::open_split(read, write).await?;
    let stream = stream.negotiate().await?;
    let (service, mut events) = stream.into_parts();
    let answer = service.execute(qmp::query_status {});
    // Answers arrive through the stream of events, which must be polled beside the question.
    let pump = async {
        use futures_util::StreamExt as _;
        while events.next().await.is_some() {}
    };
    // Cancel-safe: the connection is dropped with whatever is unread.
    tokio::select! {
        answer = answer => Ok(answer.map_err(io::Error::other)?.status),
        () = pump => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
