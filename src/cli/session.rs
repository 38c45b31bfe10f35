//! A remote command and this process's standard streams, joined over a byte stream of the daemon.
//!
//! ```text
//!  stdin thread ──▶ queue ──┐                     ┌──▶ queue ──▶ stdout thread
//!                           ├─▶ send ═ stream ═ receive
//!  signals ─────────────────┘                     └──▶ queue ──▶ stderr thread
//! ```
//!
//! Both directions run at once, so that a command that does not read cannot keep its own output from
//! being read. Of stdin no more is sent than the command takes (see [`window`](crate::wire::window)),
//! so signals never wait behind it. What arrives was made by a guest: anything out of turn ends the session.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nix::libc;
use tokio::sync::{Notify, mpsc};

use crate::report::{Kind, Report};
use crate::rpc::client::ByteStream;
use crate::wire::frame::Frame;
use crate::wire::guest::{Attached, ExecFailure, ExecStatus, Reply};
use crate::wire::window::StdinWindow;

use super::output;
use super::signals::Signals;
use super::stdio::{CHUNK, Writer, read_stdin};
use super::terminal::{self, RawMode};
use super::typing::{DetachKeys, Typing};

mod signal;

use signal::{is_request_to_end, leaves, signal_frame};

/// So many requests to end in a row, with no word from the guest in between, end the session on this
/// side: the way out of a guest that hangs.
const PATIENCE: u32 = 3;

/// How many frames wait to be sent; signals beyond it are dropped, as the kernel does with signals that
/// are pending already.
const MAX_WAITING: usize = 32;

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The command ended, and all of its output has been written.
    Ended(ExecStatus),
    /// The command could not be started.
    NotStarted {
        /// Why.
        reason: ExecFailure,
        /// What the guest says about it.
        message: String,
    },
    /// Nobody reads stdout or stderr any more.
    OutputClosed,
    /// The keys were typed that leave a detached command where it is.
    Detached,
    /// A signal made this process leave; the command gets SIGHUP, unless it is detached.
    Left {
        /// The signal.
        signal: i32,
    },
}

/// Whether the command has a pseudo-terminal, and so this process's terminal is in raw mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pty {
    /// It has one.
    Yes,
    /// Its output streams are apart.
    No,
}

/// What is at the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joining {
    /// A command that is started for it.
    Started(Pty),
    /// A detached command.
    Attached,
}

/// What the two directions know of each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Requests to end since the guest's last word.
    asked_to_end: Cell<u32>,
    /// How much of stdin may be sent.
    window: Cell<StdinWindow>,
    /// The window has opened.
    opened: Notify,
}

/// Joins the command at the other end of `stream` to this process's standard streams until it ends.
///
/// # Errors
/// When the stream breaks or carries what it should not, or output cannot be written.
pub(super) async fn join(
    stream: ByteStream,
    joining: Joining,
    signals: &mut Signals,
) -> Result<Ending, Report> {
    let no_streams = |error| output::failed("cannot use the standard streams", &error);
    let mut stdout = Writer::stdout().map_err(no_streams)?;
    let mut stderr = Writer::stderr().map_err(no_streams)?;
    let (sink, mut source) = stream.split();
    let begun = started(&mut source, signals).await?;
    let (pty, shared) = match (joining, begun) {
        (_, Begun::Not(ending)) => return Ok(ending),
        (Joining::Started(pty), Begun::Started) => (pty, Shared::default()),
        (Joining::Attached, Begun::Attached(found)) => attached(found)?,
        (Joining::Started(_), Begun::Attached(_)) | (Joining::Attached, Begun::Started) => {
            return Err(out_of_turn());
        }
    };
    let stdin = read_stdin().map_err(no_streams)?;
    let raw_mode = match pty {
        Pty::Yes => Some(RawMode::enter()?),
        Pty::No => None,
    };
    let keys = match (joining, pty) {
        (Joining::Attached, Pty::Yes) => Some(DetachKeys::default()),
        (Joining::Attached, Pty::No) | (Joining::Started(_), _) => None,
    };
    let typing = Typing::new(stdin, keys);
    let ending = tokio::select! {
        // Whichever direction ends first ends the session; the other has nothing left to do.
        ending = receive(&mut source, &mut stdout, &mut stderr, &shared) => ending?,
        ending = send(sink, typing, (joining, pty), signals, &shared) => ending,
    };
    let flushed = async {
        stdout.finish().await?;
        stderr.finish().await
    };
    let flushed = tokio::select! {
        // The writers go on in their threads when a signal ends the wait for them.
        flushed = flushed => flushed,
        signal = signals.interruption() => return Ok(Ending::Left { signal }),
    };
    drop(raw_mode);
    match flushed {
        Ok(()) => Ok(ending),
        Err(error) => unwritten(&error),
    }
}

/// The guest's first word.
enum Begun {
    /// The command runs.
    Started,
    /// It ran already, and is so.
    Attached(Attached),
    /// Neither.
    Not(Ending),
}

/// Waits for the guest's word that the command runs.
async fn started(
    source: &mut SplitStream<ByteStream>,
    signals: &mut Signals,
) -> Result<Begun, Report> {
    let frame = tokio::select! {
        // Leaving here closes the stream, and the command gets SIGHUP if it was started after all.
        frame = source.next() => frame,
        signal = signals.interruption() => return Ok(Begun::Not(Ending::Left { signal })),
    };
    match message(frame)? {
        Reply::ExecStarted { .. } => Ok(Begun::Started),
        Reply::ExecAttached(found) => Ok(Begun::Attached(found)),
        Reply::ExecFailed { reason, message } => {
            Ok(Begun::Not(Ending::NotStarted { reason, message }))
        }
        Reply::Failed { step, message } => Err(guest_failure(&step, message)),
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
        | Reply::Detached(_)
        | Reply::StdinTaken { .. }
        | Reply::ExecEnded(_) => Err(out_of_turn()),
    }
}

/// What a session with a detached command begins with; says what is missing of its output.
fn attached(found: Attached) -> Result<(Pty, Shared), Report> {
    if found.lost > 0 {
        output::say(&format!("note: {} bytes of earlier output are no longer kept", found.lost));
    }
    let pty = match found.tty && terminal::is_interactive() {
        true => Pty::Yes,
        false => Pty::No,
    };
    let window = StdinWindow::behind(found.stdin_waiting);
    let window = window.map_err(|error| out_of_turn().with_cause(&error))?;
    Ok((pty, Shared { window: Cell::new(window), ..Shared::default() }))
}

/// Hands the command's output on until it ends.
async fn receive(
    source: &mut SplitStream<ByteStream>,
    stdout: &mut Writer,
    stderr: &mut Writer,
    shared: &Shared,
) -> Result<Ending, Report> {
    loop {
        let frame = tokio::select! {
            biased;
            // All arms are cancel-safe: a frame stays in the stream, a failure is waited for by
            // reference.
            error = stdout.failure() => return unwritten(&error),
            error = stderr.failure() => return unwritten(&error),
            frame = source.next() => frame,
        };
        shared.asked_to_end.set(0);
        let written = match frame {
            Some(Ok(Frame::Stdout(bytes))) => stdout.write(bytes).await,
            Some(Ok(Frame::Stderr(bytes))) => stderr.write(bytes).await,
            other => {
                return match message(other)? {
                    Reply::StdinTaken { bytes } => {
                        shared.open(bytes)?;
                        continue;
                    }
                    Reply::ExecEnded(status) => Ok(Ending::Ended(status)),
                    Reply::Failed { step, message } => Err(guest_failure(&step, message)),
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
                    | Reply::ExecStarted { .. }
                    | Reply::ExecDetached { .. }
                    | Reply::ExecAttached(_)
                    | Reply::Detached(_)
                    | Reply::ExecFailed { .. } => Err(out_of_turn()),
                };
            }
        };
        if let Err(error) = written {
            return unwritten(&error);
        }
    }
}

/// Sends stdin, signals and sizes; returns only when a signal or the user makes this process leave.
async fn send(
    mut sink: SplitSink<ByteStream, Frame>,
    mut typing: Typing,
    (joining, pty): (Joining, Pty),
    signals: &mut Signals,
    shared: &Shared,
) -> Ending {
    let mut waiting = VecDeque::new();
    if typing.leaves_by_keys() {
        // Its terminal has the size of another one.
        waiting.extend(signal_frame(libc::SIGWINCH, pty));
    }
    let (mut unsent, mut broken) = (!waiting.is_empty(), false);
    loop {
        if typing.is_leaving() && !unsent {
            return Ending::Detached;
        }
        let sent = tokio::select! {
            biased;
            // All arms are cancel-safe: signals and chunks stay where they are until received, frames
            // until the stream has room for them.
            signal = signals.next() => {
                if is_request_to_end(signal) {
                    let asked_to_end = shared.asked_to_end.get() + 1;
                    shared.asked_to_end.set(asked_to_end);
                    if leaves(signal, joining, pty, asked_to_end) {
                        return Ending::Left { signal };
                    }
                }
                if waiting.len() < MAX_WAITING && let Some(frame) = signal_frame(signal, pty) {
                    unsent = true;
                    waiting.push_back(frame);
                }
                Ok(())
            }
            pushed = push(&mut sink, &mut waiting), if unsent && !broken => pushed.map(|pushed| {
                unsent = pushed == Pushed::OneFrame;
            }),
            chunk = shared.next_chunk(&mut typing.stdin), if typing.is_open() && !unsent => {
                waiting.extend(typing.frame(chunk));
                unsent = !waiting.is_empty();
                Ok(())
            }
        };
        // The other direction finds out why.
        broken |= sent.is_err();
    }
}

impl Shared {
    /// The next chunk of stdin that may be sent; `None` at the end of stdin. Cancel-safe.
    pub(super) async fn next_chunk(&self, stdin: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
        while !self.window.get().fits(CHUNK) {
            self.opened.notified().await;
        }
        let chunk = stdin.recv().await?;
        let mut window = self.window.get();
        window.sent(chunk.len());
        self.window.set(window);
        Some(chunk)
    }

    /// Notes that the command has taken so many bytes of its input.
    pub(super) fn open(&self, bytes: u32) -> Result<(), Report> {
        let mut window = self.window.get();
        window.taken(bytes).map_err(|error| out_of_turn().with_cause(&error))?;
        self.window.set(window);
        self.opened.notify_one();
        Ok(())
    }
}

/// How far sending came.
#[derive(Debug, PartialEq, Eq)]
enum Pushed {
    /// A frame was handed to the stream.
    OneFrame,
    /// No frame waits, and all that were handed over are on their way.
    Everything,
}

/// Hands the next frame to the stream, or flushes the stream when none waits. Cancel-safe.
async fn push(
    sink: &mut SplitSink<ByteStream, Frame>,
    waiting: &mut VecDeque<Frame>,
) -> io::Result<Pushed> {
    std::future::poll_fn(|context| sink.poll_ready_unpin(context)).await?;
    match waiting.pop_front() {
        Some(frame) => sink.start_send_unpin(frame).map(|()| Pushed::OneFrame),
        None => sink.flush().await.map(|()| Pushed::Everything),
    }
}

/// The reply in a frame that must be one.
pub(super) fn message(frame: Option<io::Result<Frame>>) -> Result<Reply, Report> {
    let broken = || {
        let message = "the connection to the guest ended before the command did";
        Report::new(Kind::Failed, message).with_hint("see `cove list` for the VM's state")
    };
    match frame {
        None => Err(broken()),
        Some(Err(error)) => Err(broken().with_cause(&error)),
        Some(Ok(frame)) => frame.message().map_err(|error| out_of_turn().with_cause(&error)),
    }
}

/// What is said of a message that fits nowhere.
pub(super) fn out_of_turn() -> Report {
    Report::new(Kind::Failed, "the guest's agent sent a message out of turn")
}

/// What is said of a failure that the guest's agent tells.
pub(super) fn guest_failure(step: &str, message: String) -> Report {
    let mut report = Report::new(Kind::Failed, format!("the guest failed at {step}"));
    report.cause.push(message);
    report
}

fn unwritten(error: &io::Error) -> Result<Ending, Report> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(Ending::OutputClosed),
        _ => Err(output::failed("cannot write the command's output", error)),
    }
}
