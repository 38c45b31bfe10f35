//! Copies of files and trees on a connection of the host, which a thread has for itself meanwhile.

use std::io;
use std::path::PathBuf;

use futures_util::SinkExt as _;

use super::server::{Connection, FAREWELL, Frames, farewell, on_thread};
use super::tree;
use crate::archive::{ArchiveError, LargeFiles, Source};
use crate::line::Line;
use crate::wire::frame::{Frame, FrameKind};
use crate::wire::guest::{CopyDirection, CopyFiles, Reply, Skipped};

/// Makes a copy, and says how it ended. What is returned is the connection, where it is there for another request:
/// behind a copy that was made it is between two frames.
///
/// # Errors
/// When nothing more can be said on the connection.
pub(super) async fn run<S: Connection>(
    files: CopyFiles,
    home: &str,
    frames: Frames<S>,
) -> io::Result<Option<Frames<S>>> {
    let (home, path) = (PathBuf::from(home), files.path);
    let copy = move |line: &mut Line| match files.direction {
        CopyDirection::Out => send_out(tree::open(&home, &path)?, line),
        CopyDirection::In(incoming) => {
            let taken = tree::take_in(&home, &path, &incoming, line.incoming());
            taken.map(|()| Skipped::default())
        }
    };
    let (copied, mut frames) = on_thread(frames, copy).await?;
    match copied {
        Ok(skipped) => {
            frames.send(Frame::control(&Reply::Copied(skipped))?).await?;
            Ok(Some(frames))
        }
        Err(error) => {
            frames.send(Frame::control(&failed(&error))?).await?;
            farewell(&mut frames, FAREWELL).await;
            Ok(None)
        }
    }
}

fn send_out(source: Source, line: &mut Line) -> Result<Skipped, ArchiveError> {
    let copying = serde_json::to_vec(&Reply::Copying { kind: source.kind() });
    let said =
        copying.map_err(io::Error::from).and_then(|said| line.send(FrameKind::Control, &said));
    said.map_err(ArchiveError::Stream)?;
    let skipped = source.pack(line.outgoing(), LargeFiles::Direct)?;
    line.send(FrameKind::DataEnd, &[]).map_err(ArchiveError::Stream)?;
    Ok(skipped)
}

fn failed(error: &ArchiveError) -> Reply {
    Reply::CopyFailed { reason: error.reason(), message: error.message() }
}
