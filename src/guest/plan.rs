//! Sending a work-disk plan.

use std::io;
use std::sync::Arc;

use super::upload::Upload;
use super::{Frames, GuestError};
use crate::vm::plan::{Content, PlannedStep, WorkDiskPlan};
use crate::wire::frame::{Frame, MAX_PAYLOAD};
use crate::wire::guest::PlanStep;

/// Sends the steps with their contents and waits until the guest has applied them.
pub(super) async fn send(frames: Frames, plan: WorkDiskPlan) -> Result<(), GuestError> {
    let mut upload = Upload(frames);
    for PlannedStep { step, content } in plan.steps {
        let step = sized(step, content.size());
        upload.send(Frame::control(&step).map_err(GuestError::Connection)?).await?;
        if step.content_size().is_some() {
            let path = step.path().to_owned();
            send_content(&mut upload, path, content).await?;
        }
    }
    upload.finish("finish its set-up").await
}

async fn send_content(
    upload: &mut Upload,
    path: String,
    content: Content,
) -> Result<(), GuestError> {
    let content = Arc::new(content);
    let mut offset = 0;
    while offset < content.size() {
        let source = content.clone();
        // Files of the host may lie on slow disks.
        let piece = tokio::task::spawn_blocking(move || read(&source, offset)).await;
        let piece = piece
            .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
            .map_err(|source| GuestError::Content { path: path.clone(), source })?;
        offset += piece.len() as u64;
        upload.send(Frame::Data(piece.into())).await?;
    }
    upload.send(Frame::DataEnd).await
}

fn read(content: &Content, offset: u64) -> io::Result<Vec<u8>> {
    let left = usize::try_from(content.size() - offset).unwrap_or(MAX_PAYLOAD);
    let mut buffer = vec![0; left.min(MAX_PAYLOAD)];
    let read = content.read_at(offset, &mut buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// The step with its content's size: what is announced is what is sent.
fn sized(mut step: PlanStep, content: u64) -> PlanStep {
    match &mut step {
        PlanStep::WriteFile { size, .. } | PlanStep::EnsureBlock { size, .. } => *size = content,
        PlanStep::MakeDirectory { .. } | PlanStep::Symlink { .. } | PlanStep::Remove { .. } => {}
    }
    step
}
