//! Sending a tree as a tar stream.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::survey::take_records;
use super::upload::Upload;
use super::{Frames, GuestError, LONG};
use crate::archive::{PieceSink, PieceWriter};
use crate::wire::frame::{Frame, MAX_PAYLOAD};

/// Where the bytes of a tar stream go. Dropped before [`TreeSink::finish`], the guest throws away what
/// it got.
pub struct TreeSink(Upload);

impl TreeSink {
    pub(super) fn of(frames: Frames) -> Self {
        Self(Upload(frames))
    }

    /// Sends bytes of the stream. Waits while the guest does not take them.
    ///
    /// # Errors
    /// When the guest has given up (with its reason), or takes nothing for a minute.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), GuestError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(MAX_PAYLOAD));
            self.0.send(Frame::Data(piece)).await?;
        }
        Ok(())
    }

    /// Ends the stream and waits until the tree is in its place. What is returned are the agent's records, by which
    /// it knows files of it again.
    ///
    /// # Errors
    /// When the guest could not make the tree.
    pub async fn finish(mut self) -> Result<Vec<u8>, GuestError> {
        self.0.send(Frame::DataEnd).await?;
        let Self(Upload(mut frames)) = self;
        let records = take_records(&mut frames, LONG).await?;
        Upload(frames).finish("unpack the tree").await?;
        Ok(records)
    }

    /// The sink for a thread that may block, such as one that runs a `tar::Builder`.
    #[must_use]
    pub fn into_blocking(self, runtime: Handle) -> TreeWriter {
        PieceWriter::new(BlockingSink { sink: self, runtime, failure: None }, MAX_PAYLOAD)
    }
}

/// A [`TreeSink`] that blocks. It must not be used on a thread of the runtime.
pub type TreeWriter = PieceWriter<BlockingSink>;

/// Where what is written to a [`TreeWriter`] goes.
pub struct BlockingSink {
    sink: TreeSink,
    runtime: Handle,
    failure: Option<GuestError>,
}

impl TreeWriter {
    /// Ends the stream and waits until the tree is in its place. What is returned are the agent's records, by which
    /// it knows files of it again.
    ///
    /// # Errors
    /// When the guest could not make the tree; also the error behind an earlier failed write.
    pub fn finish(mut self) -> Result<Vec<u8>, GuestError> {
        let broken = self.flush().err().map(GuestError::Connection);
        let BlockingSink { sink, runtime, failure } = self.into_sink();
        match failure.or(broken) {
            Some(failure) => Err(failure),
            None => runtime.block_on(sink.finish()),
        }
    }

    /// Why a write failed, in the guest's words.
    #[must_use]
    pub fn into_failure(self) -> Option<GuestError> {
        self.into_sink().failure
    }
}

impl PieceSink for BlockingSink {
    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let sent = self.runtime.block_on(self.sink.send(piece));
        sent.map_err(|failure| {
            let error = io::Error::other(failure.to_string());
            self.failure = Some(failure);
            error
        })
    }
}
