//! Running a program of the guest to its end, whose output is wanted here.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::codec::Framed;

use crate::report::{Kind, Report};
use crate::vm::ports::Guest;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{Exec, ExecStatus, Reply};

/// How much of what a program complains of is told.
const COMPLAINT: usize = 4096;

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of output.
    pub(super) bytes: u64,
    /// Time.
    pub(super) deadline: Duration,
}

/// What a small question to the guest may take.
pub(super) const QUESTION: Bounds = Bounds { bytes: 1 << 20, deadline: Duration::from_secs(30) };

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    status: ExecStatus,
    /// The beginning of what it said on stderr.
    pub(super) complaint: String,
}

impl Ended {
    pub(super) fn is_success(&self) -> bool {
        self.status == ExecStatus::Exited(0)
    }

    /// Whether it ended as programs do that say no: with 1, or with 2 as `ls` does.
    pub(super) fn says_no(&self) -> bool {
        matches!(self.status, ExecStatus::Exited(1 | 2))
    }
}

/// Where the output of a program goes.
pub(super) trait Sink: AsyncWrite + Send + Unpin {}
impl<T: AsyncWrite + Send + Unpin> Sink for T {}

/// Runs it, and writes its output to `sink`.
///
/// # Errors
/// When it cannot be started, prints too much, takes too long, or the sink fails.
pub(super) async fn run(
    guest: &dyn Guest,
    exec: &Exec,
    sink: &mut dyn Sink,
    bounds: Bounds,
) -> Result<Ended, Report> {
    let program = exec.argv.first().map_or("a program", String::as_str);
    let failed = |error: &io::Error| {
        Report::new(Kind::Failed, format!("cannot run `{program}` in the guest")).with_cause(error)
    };
    let stream = guest.exec(exec).await?;
    let frames = Framed::new(stream, FrameCodec::default());
    match tokio::time::timeout(bounds.deadline, take(frames, sink, bounds.bytes)).await {
        Ok(ended) => ended.map_err(|error| failed(&error)),
        Err(_) => {
            let seconds = bounds.deadline.as_secs();
            let message = format!("`{program}` in the guest did not end within {seconds} s");
            Err(Report::new(Kind::TimedOut, message))
        }
    }
}

/// What a program prints that runs in the workspace at `folder` and ends well; nothing when it says no.
///
/// # Errors
/// When it ends in any other way: what it was asked for may be there all the same.
pub(super) async fn ask(
    guest: &dyn Guest,
    folder: &str,
    words: &[&str],
) -> Result<Option<String>, Report> {
    let exec = Exec {
        argv: words.iter().map(ToString::to_string).collect(),
        // The repository may belong to another user of the guest.
        env: [
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        cwd: Some(folder.to_owned()),
        tty: None,
    };
    let mut printed = Vec::new();
    let ended = run(guest, &exec, &mut printed, QUESTION).await?;
    if ended.says_no() {
        return Ok(None);
    }
    let failed = |error: &dyn std::error::Error| {
        let message = format!("cannot ask `{}` in the guest", words.join(" "));
        Report::new(Kind::Failed, message).with_cause(error)
    };
    if !ended.is_success() {
        return Err(failed(&io::Error::other(ended.complaint)));
    }
    String::from_utf8(printed).map(Some).map_err(|error| failed(&error))
}

async fn take(
    mut frames: Framed<Box<dyn crate::vm::ports::ByteStream>, FrameCodec>,
    sink: &mut dyn Sink,
    limit: u64,
) -> io::Result<Ended> {
    let (mut taken, mut complaint) = (0_u64, Vec::new());
    loop {
        let frame = frames.next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
        match frame? {
            Frame::Stdout(bytes) => {
                taken += bytes.len() as u64;
                if taken > limit {
                    return Err(io::Error::other(format!("it printed more than {limit} bytes")));
                }
                sink.write_all(&bytes).await?;
            }
            Frame::Stderr(bytes) => {
                let room = COMPLAINT - complaint.len();
                complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            frame @ Frame::Control(_) => match frame.message()? {
                Reply::ExecEnded(status) => {
                    sink.flush().await?;
                    let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
                    return Ok(Ended { status, complaint });
                }
                Reply::ExecFailed { message, .. } => return Err(io::Error::other(message)),
                _ => {}
            },
            Frame::Stdin(_)
            | Frame::StdinEnd
            | Frame::Data(_)
            | Frame::DataEnd
            | Frame::Request(_) => {}
        }
    }
}
