//! Programs that run in a guest with nobody there.

use super::error::cut;
use super::passing::Sends;
use super::{Agent, FrameStream, GuestError, SHORT, reply, unexpected};
use crate::id::ExecId;
use crate::wire::guest::{Detach, DetachOutcome, DetachedPrograms, Reply, Request};

impl Agent {
    /// Has the agent run a program with nobody there.
    ///
    /// # Errors
    /// When the agent does not answer. That the program could not be started is an outcome.
    pub async fn detach(&self, detach: Detach) -> Result<DetachOutcome, GuestError> {
        let mut frames = self.request(&Request::Detach(Box::new(detach))).await?;
        match reply(&mut frames, "start a program", SHORT).await? {
            Reply::ExecDetached { id, pid } => Ok(DetachOutcome::Started { id, pid }),
            Reply::ExecFailed { reason, message } => {
                Ok(DetachOutcome::NotStarted { reason, message: cut(&message) })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the agent to attach to such a program. What comes back is a stream of frames that begins with the
    /// agent's [`Reply::ExecAttached`] or [`Reply::Failed`].
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn attach(&self, id: &ExecId) -> Result<FrameStream, GuestError> {
        let request = Request::Attach { id: id.clone() };
        Ok(FrameStream::once(self.request(&request).await?, Sends::Input))
    }

    /// The programs that run, or have run, with nobody there; bounded.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn detached(&self) -> Result<DetachedPrograms, GuestError> {
        let mut frames = self.request(&Request::Detached).await?;
        match reply(&mut frames, "list its detached commands", SHORT).await? {
            Reply::Detached(programs) => Ok(programs.bounded()),
            other => Err(unexpected(&other)),
        }
    }
}
