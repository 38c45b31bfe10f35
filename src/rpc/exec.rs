//! `vm.exec.subscribe`: a program for clients that speak JSON-RPC alone.
//!
//! A program is read from as its subscriber takes events: what is not taken is not asked of the guest, and so
//! the program waits. Nothing is dropped. When the subscription ends early the byte stream is closed, as that
//! of a client would be that goes away: a program that was run gets SIGHUP, a detached one goes on.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio_util::codec::Framed;

use super::methods::Context;
use super::subscriptions::Told;
use crate::report::{Kind, Report};
use crate::vm::ports::ByteStream;
use crate::vm::{InUse, StreamTarget};
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{Attached, ExecStatus, Reply};
use crate::wire::rpc::{AttachVm, ExecEvent, ExecStream, ExecVm, SubscribeExec};

/// The longest output in one event, in bytes: of events, jsonrpsee holds about a thousand per connection for
/// a client that reads slowly.
const PIECE_BYTES: usize = 16 * 1024;

/// A program's events.
///
/// # Errors
/// When there is no such VM or program, the VM does not run, or both a program and an id are given.
pub(super) async fn follow(
    context: Arc<Context>,
    wanted: SubscribeExec,
) -> Result<Told<ExecEvent>, Report> {
    let vms = &context.services.vms;
    let SubscribeExec { vm, attach, argv, env, cwd, tty } = wanted;
    let stage = match attach {
        None => Stage::Run(vms.exec(ExecVm { vm, argv, env, cwd, tty }).await?),
        Some(id) if argv.is_empty() && env.is_empty() && cwd.is_none() && tty.is_none() => {
            Stage::Attach(vms.attach(AttachVm { vm, id }).await?)
        }
        Some(_) => {
            let message = "`attach` names a program that runs: give no other one with it";
            return Err(Report::new(Kind::Invalid, message));
        }
    };
    Ok(stream::unfold(Some(stage), async |stage| match stage?.next().await {
        Ok((event, next)) => Some((Ok(event), next)),
        Err(report) => Some((Err(report), None)),
    })
    .boxed())
}

/// How far the telling has come.
enum Stage {
    /// To be run.
    Run(StreamTarget),
    /// To be attached to.
    Attach(StreamTarget),
    /// Its frames are read.
    Open(Program),
}

/// A program whose stream is open.
struct Program {
    frames: Framed<Box<dyn ByteStream>, FrameCodec>,
    /// What was read and not told.
    rest: Option<(ExecStream, Bytes)>,
    _in_use: InUse,
}

impl Stage {
    /// The next event, and what comes after it.
    async fn next(self) -> Result<(ExecEvent, Option<Self>), Report> {
        let mut program = match self {
            Self::Open(program) => program,
            Self::Attach(target) => Program::open(&target).await?,
            Self::Run(target) => {
                let mut program = Program::open(&target).await?;
                // A guest that cannot start the program takes no input; why is what it says instead.
                program.frames.send(Frame::StdinEnd).await.ok();
                program
            }
        };
        let event = program.next().await?;
        let goes_on = match &event {
            ExecEvent::Started { .. } | ExecEvent::Output { .. } => true,
            ExecEvent::Ended { .. } | ExecEvent::Failed { .. } => false,
        };
        Ok((event, goes_on.then_some(Self::Open(program))))
    }
}

impl Program {
    async fn open(target: &StreamTarget) -> Result<Self, Report> {
        let in_use = target.usage.begin();
        let frames = Framed::new(target.open().await?, FrameCodec::default());
        Ok(Self { frames, rest: None, _in_use: in_use })
    }

    async fn next(&mut self) -> Result<ExecEvent, Report> {
        loop {
            if let Some(event) = self.piece() {
                return Ok(event);
            }
            let frame = self.frames.next().await.ok_or_else(|| broken_off(None))?;
            match frame.map_err(|error| broken_off(Some(&error)))? {
                Frame::Stdout(bytes) => self.rest = Some((ExecStream::Stdout, bytes)),
                Frame::Stderr(bytes) => self.rest = Some((ExecStream::Stderr, bytes)),
                message => {
                    let reply = message.message().map_err(|error| broken_off(Some(&error)))?;
                    if let Some(event) = event(reply)? {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// A piece of the output that was read, if there is some left.
    fn piece(&mut self) -> Option<ExecEvent> {
        let (stream, mut bytes) = self.rest.take()?;
        if bytes.is_empty() {
            return None;
        }
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        self.rest = Some((stream, bytes));
        Some(ExecEvent::Output { stream, data: BASE64_STANDARD.encode(piece) })
    }
}

/// What the agent says, as an event; none for what is of no matter to a subscriber.
fn event(reply: Reply) -> Result<Option<ExecEvent>, Report> {
    Ok(Some(match reply {
        Reply::ExecStarted { pid } => ExecEvent::Started { pid, lost: 0 },
        Reply::ExecAttached(Attached { pid, lost, .. }) => ExecEvent::Started { pid, lost },
        Reply::StdinTaken { .. } => return Ok(None),
        Reply::ExecFailed { reason, message } => ExecEvent::Failed { reason, message },
        Reply::ExecEnded(ExecStatus::Exited(status)) => {
            ExecEvent::Ended { status: Some(status), signal: None }
        }
        Reply::ExecEnded(ExecStatus::Signalled(signal)) => {
            ExecEvent::Ended { status: None, signal: Some(signal) }
        }
        Reply::Failed { step, message } => {
            let report = Report::new(Kind::Failed, format!("the guest could not {step}"));
            return Err(report.with_cause(&io::Error::other(message)));
        }
        Reply::Health(_)
        | Reply::Stats(_)
        | Reply::Listening(_)
        | Reply::Done
        | Reply::TreeFailed { .. }
        | Reply::Copying { .. }
        | Reply::Copied(_)
        | Reply::CopyFailed { .. }
        | Reply::Connected
        | Reply::ConnectFailed { .. }
        | Reply::ExecDetached { .. }
        | Reply::Detached(_) => {
            let message = "the guest's agent sent a message out of turn";
            return Err(Report::new(Kind::Failed, message));
        }
    }))
}

fn broken_off(error: Option<&io::Error>) -> Report {
    let report = Report::new(Kind::Unreachable, "the program's stream ended before the program");
    match error {
        Some(error) => report.with_cause(error),
        None => report,
    }
}
