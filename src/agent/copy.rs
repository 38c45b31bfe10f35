//! Copies of files and trees on a connection of the host, which a thread has for itself meanwhile.

use std::io;
use std::path::PathBuf;

use super::server::{Connection, Frames, on_thread};
use super::tree;
use crate::archive::{ArchiveError, LargeFiles, Source};
use crate::line::Line;
use crate::wire::frame::FrameKind;
use crate::wire::guest::{CopyDirection, CopyFiles, Reply, Skipped};

/// Makes a copy. What is returned is the last reply.
///
/// # Errors
/// When nothing more can be said on the connection.
pub(super) async fn run<S: Connection>(
    files: CopyFiles,
    home: &str,
    frames: Frames<S>,
) -> io::Result<(Reply, Frames<S>)> {
    let (home, path) = (PathBuf::from(home), files.path);
    let copy = move |line: &mut Line| match files.direction {
        CopyDirection::Out => send_out(tree::open(&home, &path)?, line),
        CopyDirection::In(incoming) => {
            let taken = tree::take_in(&home, &path, &incoming, line.incoming());
            taken.map(|()| Skipped::default())
        }
    };
    let (copied, frames) = on_thread(frames, copy).await?;
    let reply = match copied {
        Ok(skipped) => Reply::Copied(skipped),
        Err(error) => failed(&error),
    };
    Ok((reply, frames))
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
