//! What the agent does to the guest's system, and tells of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Agent, GuestError, LONG, SHORT, reply, unexpected};
use crate::wire::guest::{GuestStats, Listening, Reply, Request};

impl Agent {
    /// How busy and how full the guest is.
    ///
    /// # Errors
    /// When the agent does not answer, or cannot tell.
    pub async fn stats(&self) -> Result<GuestStats, GuestError> {
        let mut frames = self.request(&Request::Stats).await?;
        match reply(&mut frames, "say how busy it is", SHORT).await? {
            Reply::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// The sockets in the guest that wait for others, bounded.
    ///
    /// # Errors
    /// When the agent does not answer, or cannot tell.
    pub async fn listening(&self) -> Result<Listening, GuestError> {
        let mut frames = self.request(&Request::Listening).await?;
        match reply(&mut frames, "say who listens", SHORT).await? {
            Reply::Listening(listening) => Ok(listening.bounded()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the guest grow its work disk's file system to the device, which is about to have so many
    /// bytes.
    ///
    /// # Errors
    /// When the agent does not answer, or the device or the file system does not grow.
    pub async fn grow_work_disk(&self, bytes: u64) -> Result<(), GuestError> {
        let mut frames = self.request(&Request::GrowWorkDisk { bytes }).await?;
        match reply(&mut frames, "grow its work disk", LONG).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets the guest's wall clock to the host's, but for the time that the way there takes.
    ///
    /// # Errors
    /// When the agent does not answer, or its kernel does not take it.
    pub async fn set_clock(&self) -> Result<(), GuestError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut frames = self.request(&Request::SetClock { unix_ms }).await?;
        match reply(&mut frames, "set its clock", SHORT).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
