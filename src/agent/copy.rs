//! Copies of files and trees on a connection of the host: frames on one side, a thread that packs or unpacks on
//! the other, and a short queue between them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::handshake::next;
use super::server::{Connection, Frames, give, unexpected};
use super::tree;
use crate::archive::{ArchiveError, Buffers, Piece, QUEUE};
use crate::wire::frame::{Frame, MAX_PAYLOAD};
use crate::wire::guest::{CopyDirection, CopyFiles, Reply, Skipped};

/// How long the host may pause in the middle of a copy, whose user may have suspended it for a while, or of a tree:
/// before its end the host waits until git there has written down all that went in.
pub(super) const PAUSE: Duration = Duration::from_secs(600);

/// Makes a copy. What is returned is the last reply.
pub(super) async fn run<S: Connection>(
    files: CopyFiles,
    home: &str,
    frames: &mut Frames<S>,
) -> Reply {
    let (home, path) = (PathBuf::from(home), files.path);
    let copied = match files.direction {
        CopyDirection::Out => send_out(home, path, frames).await,
        CopyDirection::In(incoming) => {
            let (pieces, received) = mpsc::channel(QUEUE);
            let taken = blocking(move || tree::take_in(&home, &path, &incoming, received));
            both(taken, feed(frames, pieces, PAUSE)).await.map(|()| Skipped::default())
        }
    };
    match copied {
        Ok(skipped) => Reply::Copied(skipped),
        Err(error) => failed(&error),
    }
}

async fn send_out<S: Connection>(
    home: PathBuf,
    path: String,
    frames: &mut Frames<S>,
) -> Result<Skipped, ArchiveError> {
    let source = blocking(move || tree::open(&home, &path)).await?;
    let begin = async {
        let kind = source.kind();
        frames.send(Frame::control(&Reply::Copying { kind })?).await
    };
    begin.await.map_err(ArchiveError::Stream)?;
    let (pieces, mut packed) = mpsc::channel(QUEUE);
    let packing = blocking(move || tree::send_out(source, pieces));
    let sending = async move {
        // Leaving here drops the queue, which ends the packing.
        while let Some(piece) = packed.recv().await {
            timeout(PAUSE, frames.send(Frame::Data(piece))).await??;
        }
        Ok::<_, io::Error>(frames)
    };
    let (skipped, sent) = tokio::join!(packing, sending);
    let frames = sent.map_err(ArchiveError::Stream)?;
    let skipped = skipped?;
    frames.send(Frame::DataEnd).await.map_err(ArchiveError::Stream)?;
    Ok(skipped)
}

/// Hands a stream's frames to the worker; ends early, as a broken pipe, when the worker has failed.
pub(super) async fn feed<S: Connection>(
    frames: &mut Frames<S>,
    worker: mpsc::Sender<Piece>,
    pause: Duration,
) -> io::Result<()> {
    // The codec uses its buffer again as well, if a frame leaves room behind it and is gone when the next comes.
    frames.read_buffer_mut().reserve(2 * MAX_PAYLOAD);
    let mut buffers = Buffers::default();
    loop {
        match timeout(pause, next(frames)).await?? {
            Frame::Data(bytes) => {
                let piece = buffers.copy(&bytes);
                drop(bytes);
                give(&worker, Piece::Data(piece)).await?;
            }
            Frame::DataEnd => return give(&worker, Piece::End).await,
            other => return Err(unexpected(&other)),
        }
    }
}

/// Waits for the worker, feeding it meanwhile. A stream that was cut off shows to the worker as well, but the
/// feeder knows why.
async fn both(
    worker: impl Future<Output = Result<(), ArchiveError>>,
    feed: impl Future<Output = io::Result<()>>,
) -> Result<(), ArchiveError> {
    match tokio::join!(worker, feed) {
        (Err(ArchiveError::Stream(_)), Err(broken)) => Err(ArchiveError::Stream(broken)),
        (worked, _) => worked,
    }
}

/// Runs what blocks beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| ArchiveError::Stream(io::Error::other(error)))?
}

fn failed(error: &ArchiveError) -> Reply {
    Reply::CopyFailed { reason: error.reason(), message: error.message() }
}
