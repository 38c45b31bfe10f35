//! The frames of plans and records on their way between the host and the workers.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::mpsc;

use super::{Connection, Frames};
use crate::agent::handshake::next;
use crate::agent::plan;
use crate::wire::frame::{Frame, MAX_PAYLOAD};
use crate::wire::guest::PlanStep;
use crate::wire::survey::MAX_RECORDS;

/// How long the host may pause in the middle of a plan or of records: it reads its own disk meanwhile.
const PAUSE: Duration = Duration::from_secs(60);

/// Hands a plan's frames to the worker; ends early, as a broken pipe, when the worker has failed.
pub(super) async fn feed_plan<S: Connection>(
    frames: &mut Frames<S>,
    steps: u32,
    worker: mpsc::Sender<plan::Piece>,
) -> io::Result<()> {
    for _ in 0..steps {
        let step: PlanStep = soon(frames).await?.message()?;
        let mut content = step.content_size().is_some();
        give(&worker, plan::Piece::Step(step)).await?;
        while content {
            let piece = match soon(frames).await? {
                Frame::Data(bytes) => plan::Piece::Content(bytes),
                Frame::DataEnd => plan::Piece::End,
                other => return Err(unexpected(&other)),
            };
            content = !matches!(piece, plan::Piece::End);
            give(&worker, piece).await?;
        }
    }
    Ok(())
}

/// The host's records, which end with a frame.
pub(super) async fn take_records<S: Connection>(frames: &mut Frames<S>) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    loop {
        match soon(frames).await? {
            Frame::Data(bytes) if records.len() + bytes.len() <= MAX_RECORDS => {
                records.extend_from_slice(&bytes);
            }
            Frame::DataEnd => return Ok(records),
            other => return Err(unexpected(&other)),
        }
    }
}

/// Sends records, and the frame that ends them.
pub(super) async fn send_all<S: Connection>(
    frames: &mut Frames<S>,
    bytes: &[u8],
) -> io::Result<()> {
    for piece in bytes.chunks(MAX_PAYLOAD) {
        frames.feed(Frame::Data(Bytes::copy_from_slice(piece))).await?;
    }
    frames.send(Frame::DataEnd).await
}

/// Hands a piece to a worker.
async fn give<T>(worker: &mpsc::Sender<T>, piece: T) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    worker.send(piece).await.map_err(gone)
}

async fn soon<S: Connection>(frames: &mut Frames<S>) -> io::Result<Frame> {
    tokio::time::timeout(PAUSE, next(frames)).await?
}

/// That a frame came which was not due.
pub(in crate::agent) fn unexpected(frame: &Frame) -> io::Error {
    let why = format!("a {} frame was not due", frame.name());
    io::Error::new(io::ErrorKind::InvalidData, why)
}
