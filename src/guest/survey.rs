//! Looking at a tree in the guest.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::upload::Upload;
use super::{Agent, Frames, GuestError, STALL, next, timed_out, unexpected, unless_failed};
use crate::wire::frame::{Frame, MAX_PAYLOAD};
use crate::wire::guest::{Reply, Request};
use crate::wire::survey::{ListedBy, MAX_RECORDS};

/// How long the guest may take until it says what it sees: it may have to read the whole tree, emulated.
const LOOK: Duration = Duration::from_secs(600);

/// What an agent says of a tree.
pub struct Survey {
    /// The records, as they came ([`wire::survey`](crate::wire::survey)).
    pub records: Vec<u8>,
    /// The contents of what is new or otherwise.
    pub contents: Contents,
}

/// The contents that follow the records: one after the other, as long as the records say.
pub struct Contents {
    frames: Frames,
}

impl Agent {
    /// Has the agent look at the tree at `path` (relative to the home or absolute), of which `known` is known, in
    /// records; other files of it are found `by` this.
    ///
    /// # Errors
    /// When the agent does not answer in time, or the tree cannot be looked at.
    pub async fn survey(
        &self,
        path: &str,
        by: ListedBy,
        known: Vec<u8>,
    ) -> Result<Survey, GuestError> {
        let request = Request::Survey { path: path.to_owned(), by };
        let mut upload = Upload(self.request(&request).await?);
        let mut known = Bytes::from(known);
        while !known.is_empty() {
            let piece = known.split_to(known.len().min(MAX_PAYLOAD));
            upload.send(Frame::Data(piece)).await?;
        }
        upload.send(Frame::DataEnd).await?;
        let Upload(mut frames) = upload;
        let records = take_records(&mut frames, LOOK).await?;
        Ok(Survey { records, contents: Contents { frames } })
    }
}

impl Contents {
    /// The contents for a thread that may block. What they end with is the agent's word that they are whole.
    #[must_use]
    pub fn into_blocking(self, runtime: Handle) -> ContentReader {
        ContentReader { contents: self, runtime, rest: Bytes::new(), ended: false, failure: None }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, GuestError> {
        if let Some(bytes) = data(&mut self.frames, STALL).await? {
            return Ok(Some(bytes));
        }
        match super::reply(&mut self.frames, "say that this is all", STALL).await? {
            Reply::Done => Ok(None),
            other => Err(unexpected(&other)),
        }
    }
}

/// [`Contents`] that block. They must not be read on a thread of the runtime.
pub struct ContentReader {
    contents: Contents,
    runtime: Handle,
    rest: Bytes,
    ended: bool,
    failure: Option<GuestError>,
}

impl ContentReader {
    /// Why a read failed, in the guest's words.
    #[must_use]
    pub fn into_failure(self) -> Option<GuestError> {
        self.failure
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.runtime.block_on(self.contents.next()) {
                Ok(Some(bytes)) => self.rest = bytes,
                Ok(None) => self.ended = true,
                Err(failure) => {
                    let error = io::Error::other(failure.to_string());
                    self.failure = Some(failure);
                    return Err(error);
                }
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The agent's records, up to the frame that ends them. The first may take so long.
pub(super) async fn take_records(
    frames: &mut Frames,
    mut deadline: Duration,
) -> Result<Vec<u8>, GuestError> {
    let mut records = Vec::new();
    while let Some(bytes) = data(frames, deadline).await? {
        if records.len() + bytes.len() > MAX_RECORDS {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it sees too many files");
            return Err(GuestError::Connection(error));
        }
        records.extend_from_slice(&bytes);
        deadline = STALL;
    }
    Ok(records)
}

/// The next bytes, or nothing at their end.
async fn data(frames: &mut Frames, deadline: Duration) -> Result<Option<Bytes>, GuestError> {
    let frame = timeout(deadline, next(frames))
        .await
        .map_err(|_| timed_out("say what is in its tree", deadline))?
        .map_err(GuestError::Connection)?;
    match frame {
        Frame::Data(bytes) => Ok(Some(bytes)),
        Frame::DataEnd => Ok(None),
        other => {
            let said = other.message().map_err(GuestError::Connection)?;
            Err(unexpected(&unless_failed(said)?))
        }
    }
}
