//! Copies out of the disks of VMs that do not run.
//!
//! The daemon looks at no byte of the disk: it opens the file, hands it to a process that can do nothing but
//! read it ([`reader`](super::reader)), and passes on what that says, frame by frame. A reader that dies, says
//! nothing for too long or takes too long in all is ended, and why is told in its place.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use nix::libc;
use tokio::io::{AsyncReadExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::process::ChildStdout;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::DiskError;
use super::reader::{ADDRESS_SPACE, ARGUMENT, PROCESSOR_SECONDS, WHOLE};
use crate::process::Producer;
use crate::task::Tasks;
use crate::vm::ports::{ByteStream, DiskCopy, WORK_DISK};
use crate::wire::frame::{Frame, FrameCodec, MAX_PAYLOAD};
use crate::wire::guest::{CopyFailure, Reply};

/// How long the reader may take for its next word: the host's disk may be busy.
const STALL: Duration = Duration::from_secs(90);

/// How long the client may pause in the middle of a copy: its user may have suspended it for a while.
const PAUSE: Duration = Duration::from_secs(600);

/// How long the reader may take to end after its last word.
const END: Duration = Duration::from_secs(10);

/// Readers of disks.
#[derive(Debug, Clone)]
pub struct Readers {
    /// The program that becomes one.
    pub program: PathBuf,
    /// The home in guests, where the work disk is.
    pub home: String,
    /// Where the tasks are that pass on what they say.
    pub tasks: Tasks,
}

impl Readers {
    /// Begins a copy: the stream says what a guest's agent would.
    pub(super) async fn begin(&self, wanted: DiskCopy) -> Result<Box<dyn ByteStream>, DiskError> {
        let DiskCopy { vm, folder, path, in_use } = wanted;
        let disk = folder.join(WORK_DISK);
        let place = disk.clone();
        let opened = tokio::task::spawn_blocking(move || File::open(place)).await;
        let opened = opened.expect("opening a file does not panic");
        let file = opened.map_err(|source| DiskError::Look { path: disk, source })?;
        let arguments = [ARGUMENT, vm.as_str(), &self.home, &path];
        let started = Producer::start(&self.program, arguments, file);
        let program = self.program.clone();
        let (reader, output) = started.map_err(|source| DiskError::Reader { program, source })?;
        let (ours, theirs) = tokio::io::duplex(MAX_PAYLOAD);
        let vm = vm.as_str().to_owned();
        self.tasks.spawn_until_shutdown("disk copy", async move {
            let (mut client, ours) = tokio::io::split(ours);
            // Dropping either is right: the reader is killed, and nobody is there to be told.
            tokio::select! {
                () = carry(&vm, reader, output, ours) => {}
                () = gone(&mut client) => {}
            }
            drop(in_use);
        });
        Ok(Box::new(theirs))
    }
}

/// Waits until the client has gone. It has nothing to say at such a copy.
async fn gone(client: &mut ReadHalf<DuplexStream>) {
    let mut nothing = [0; 64];
    while client.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}

/// Passes on what a reader says, and says how it ended where it does not do so itself.
async fn carry(vm: &str, reader: Producer, output: ChildStdout, client: WriteHalf<DuplexStream>) {
    let mut client = FramedWrite::new(client, FrameCodec::default());
    let passed = timeout(WHOLE, pass_on(output, &mut client)).await;
    let why = match passed.unwrap_or_else(|_| Passed::Failed(too_long(WHOLE))) {
        Passed::ClientGone => return,
        Passed::Failed(why) => {
            // Killed before the client is waited for.
            drop(reader);
            Some(why)
        }
        Passed::All => match timeout(END, reader.ended()).await {
            Ok(Ok((status, said))) => ended(status, &said),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(too_long(END)),
        },
    };
    let Some(why) = why else { return };
    tracing::warn!(vm, why, "the reader of a disk failed");
    let message = format!("the disk of `{vm}` cannot be read: {why}");
    let last = Reply::CopyFailed { reason: CopyFailure::Other, message };
    if let Ok(frame) = Frame::control(&last) {
        // Nobody may be listening any more.
        timeout(PAUSE, client.send(frame)).await.unwrap_or(Ok(())).ok();
    }
}

/// How passing on came to its end.
enum Passed {
    /// The reader has said all it wants to say.
    All,
    /// It does not speak as it should.
    Failed(String),
    ClientGone,
}

async fn pass_on(
    output: ChildStdout,
    client: &mut FramedWrite<WriteHalf<DuplexStream>, FrameCodec>,
) -> Passed {
    let mut frames = FramedRead::with_capacity(output, FrameCodec::default(), MAX_PAYLOAD);
    loop {
        let frame = match timeout(STALL, frames.next()).await {
            Ok(Some(Ok(frame))) => frame,
            // What is cut off in the middle of a frame is told by how the reader ended.
            Ok(None | Some(Err(_))) => return Passed::All,
            Err(_) => return Passed::Failed(too_long(STALL)),
        };
        match timeout(PAUSE, client.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Passed::ClientGone,
        }
    }
}

fn too_long(deadline: Duration) -> String {
    format!("its reader took longer than {} s", deadline.as_secs())
}

/// Why a reader has not said its last word; none where it has.
fn ended(status: ExitStatus, said: &str) -> Option<String> {
    if status.success() {
        return None;
    }
    Some(match status.signal() {
        // Giving up for want of memory takes a system call that it does not have.
        Some(libc::SIGABRT | libc::SIGSYS) if said.contains("memory allocation") => {
            format!("its reader took more than {} MiB of memory", ADDRESS_SPACE >> 20)
        }
        Some(libc::SIGSYS) => "its reader did what a reader may not, and was killed".to_owned(),
        Some(libc::SIGXCPU) => {
            format!("its reader took more than {PROCESSOR_SECONDS} s of processor time")
        }
        Some(libc::SIGKILL) => "its reader was killed (is the host short of memory?)".to_owned(),
        Some(_) | None => {
            let first = said.lines().next().unwrap_or_default();
            format!("its reader failed ({status}): {}", first.escape_debug())
        }
    })
}

#[cfg(test)]
mod tests;
