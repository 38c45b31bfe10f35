//! QEMU's control socket (QMP): one connection, on which one thing is asked at a time.
//!
//! QEMU serves one client at a time; [`control_task`](super::control_task) is that client for as long as
//! a machine runs. What QEMU tells unasked here is left unread: whoever keeps a connection asks anew what
//! holds, because the events before it are nobody's.

use std::io;
use std::time::Duration;

use futures_util::StreamExt as _;
use qapi::futures::{QapiEvents, QapiService, QmpStreamTokio};
use qapi::qmp::{self, QmpCommand};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;

use crate::vmm::VmmError;

/// How long QEMU may take to answer: it answers in its main loop, which a busy host can hold up.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// The side on which things are asked.
pub(super) type Questions = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// The side on which answers and events arrive. It must be polled for any answer to arrive.
pub(super) type Arrivals = QapiEvents<QmpStreamTokio<ReadHalf<UnixStream>>>;

/// A connection that QEMU has taken.
pub(super) struct Connection {
    pub(super) questions: Questions,
    pub(super) arrivals: Arrivals,
}

impl Connection {
    /// Waits until QEMU takes the connection, which it does when it serves nobody else.
    pub(super) async fn open(socket: UnixStream) -> Result<Self, VmmError> {
        let open = async {
            let (read, write) = tokio::io::split(socket);
            QmpStreamTokio::open_split(read, write).await?.negotiate().await
        };
        let opened = in_time(open).await.map_err(|source| VmmError::Control { source })?;
        let (questions, arrivals) = opened.into_parts();
        Ok(Self { questions, arrivals })
    }

    /// Makes sure that the machine runs.
    pub(super) async fn check(&mut self) -> Result<(), VmmError> {
        let Self { questions, arrivals } = self;
        let arrive = async { while arrivals.next().await.is_some() {} };
        // Cancel-safe: an event that is dropped here is made up for by asking, once it is listened to.
        let status = tokio::select! {
            status = ask(questions, qmp::query_status {}) => status,
            () = arrive => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let state = status.map_err(|source| VmmError::Control { source })?.status;
        if state == qmp::RunState::running {
            return Ok(());
        }
        let source = io::Error::other(format!("the machine is {state:?}, not running"));
        Err(VmmError::Control { source })
    }
}

/// Asks for something. The arrivals must be polled meanwhile. A connection whose answer did not come in
/// time is of no use any more: the answer may still come.
pub(super) async fn ask<C: QmpCommand>(questions: &Questions, command: C) -> io::Result<C::Ok> {
    in_time(async { Ok(questions.execute(command).await?) }).await
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = tokio::time::timeout(ANSWER_DEADLINE, work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
