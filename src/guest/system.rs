//! What the agent does to the guest's system, and tells of it.

use super::{Agent, GuestError, LONG, reply, unexpected};
use crate::wire::guest::{Reply, Request};

impl Agent {
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
}
