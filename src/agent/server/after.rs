//! What becomes of a connection whose request has been answered: it ends, or waits for the next one.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;

use super::{Connection, Frames, unexpected};
use crate::wire::frame::Frame;
use crate::wire::guest::Request;

/// How long a connection is kept for the host to take the last reply. Closing at once would throw
/// away what the host has not read, when bytes of the host are still on their way.
pub(in crate::agent) const FAREWELL: Duration = Duration::from_secs(10);

/// Waits until the host has closed the connection, and drops what it still sends, which may begin in the middle of a
/// frame.
pub(in crate::agent) async fn farewell<S: Connection>(frames: &mut Frames<S>, deadline: Duration) {
    let mut nowhere = tokio::io::sink();
    let closed = tokio::io::copy(frames.get_mut(), &mut nowhere);
    tokio::time::timeout(deadline, closed).await.ok();
}

/// Waits for the next request on the connection of a program or a copy that has ended, as long as the host keeps it,
/// and throws away what the host has said to that. None when the host has closed the connection.
///
/// # Errors
/// When the host says anything else, or is gone in the middle of it.
pub(super) async fn next_request<S: Connection>(
    frames: &mut Frames<S>,
) -> io::Result<Option<Request>> {
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Stdin(_)
            | Frame::StdinEnd
            | Frame::Data(_)
            | Frame::DataEnd
            | Frame::Control(_) => {}
            Frame::Request(request) => return Ok(Some(serde_json::from_slice(&request)?)),
            other @ (Frame::Stdout(_) | Frame::Stderr(_)) => return Err(unexpected(&other)),
        }
    }
    Ok(None)
}
