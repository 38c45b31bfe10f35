//! Sending many bytes to an agent that may say at any time that it has failed.

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

use super::{Frames, GuestError, LONG, STALL, reply, timed_out, unexpected, unless_failed};
use crate::wire::frame::Frame;
use crate::wire::guest::Reply;

/// A connection on which bytes are sent.
pub(super) struct Upload(pub(super) Frames);

impl Upload {
    /// Sends a frame. When the agent has given up meanwhile, what it says is the error.
    pub(super) async fn send(&mut self, frame: Frame) -> Result<(), GuestError> {
        let sent = {
            let (mut sink, mut stream) = (&mut self.0).split();
            timeout(STALL, async {
                // Nothing is said before the end but that it failed; then the rest is not sent.
                tokio::select! {
                    said = stream.next() => Err(said),
                    sent = sink.send(frame) => Ok(sent),
                }
            })
            .await
        };
        match sent {
            Err(_) => Err(timed_out("take more bytes", STALL)),
            Ok(Ok(Ok(()))) => Ok(()),
            // It may have said why before it closed the connection.
            Ok(Ok(Err(error))) => match reply(&mut self.0, "say why", STALL).await {
                Err(failed @ (GuestError::Failed { .. } | GuestError::NotTaken { .. })) => {
                    Err(failed)
                }
                Ok(_) | Err(_) => Err(GuestError::Connection(error)),
            },
            Ok(Err(said)) => Err(early(said)),
        }
    }

    /// Waits for the agent to say that it is done.
    pub(super) async fn finish(mut self, doing: &'static str) -> Result<(), GuestError> {
        match reply(&mut self.0, doing, LONG).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// What the agent said before everything was sent.
fn early(said: Option<std::io::Result<Frame>>) -> GuestError {
    let closed = || Err(std::io::ErrorKind::UnexpectedEof.into());
    match said.unwrap_or_else(closed).and_then(|frame| frame.message()).map(unless_failed) {
        Ok(Ok(other)) => unexpected(&other),
        Ok(Err(failed)) => failed,
        Err(error) => GuestError::Connection(error),
    }
}
