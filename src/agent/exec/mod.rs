//! One program and the connection it belongs to.
//!
//! ```text
//!  host frames ─▶ feed: stdin (at most a window of it) · signals · resizes
//!                   │ taken                          program
//!  host frames ◀─ relay: ExecStarted · stdout, stderr, StdinTaken … · ExecEnded
//! ```
//!
//! Both directions push back: what the program does not read is not asked of the host (see
//! [`window`](crate::wire::window)), what the host does not read is not taken from the program. What the
//! host says is always read, whatever the program does. When the host's end of the connection closes,
//! the program's group gets SIGHUP. What the host says behind the session is left in the connection.
//!
//! The session ends with the program, not with the last holder of its pipes: a helper left in the
//! background must not keep it open for ever. What the program had written is always sent; after
//! that, output of helpers is still relayed as long as it keeps coming (`LINGER_QUIET`), at most
//! for `LINGER`.
//!
//! A detached program ([`Detached`]) is run in the same way, with the agent itself in the host's place; hosts
//! attach to it and leave it as they like.

mod attach;
mod descriptor;
mod detached;
mod kept;
pub mod login;
mod program;

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::detached::Detached;

use self::descriptor::Descriptor;
use self::login::{Login, Terminal};
use self::program::{PIPE_BYTES, Program};
use crate::task;
use crate::wire::frame::Frame;
use crate::wire::guest::{Exec, ExecInput, ExecStatus, Reply};
use crate::wire::window::STDIN_WINDOW;

/// How much output is read at once, of a program that prints much.
const READ_BYTES: usize = 128 * 1024;

/// How much is read at first: most programs print less, and need no more memory.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// The host is told of input that was taken when it is so much: often enough that it need not stop.
const WORTH_TELLING: usize = STDIN_WINDOW / 4;

/// How long output may pause after the program has ended: enough for a `tee` behind it to finish.
const LINGER_QUIET: Duration = Duration::from_millis(100);

/// How long output is relayed at most after the program has ended.
const LINGER: Duration = Duration::from_secs(2);

/// What a terminal's program reads as the end of its input.
const END_OF_TRANSMISSION: &[u8] = b"\x04";

/// Runs a program to its end, or until the host is gone. `login` may block.
///
/// # Errors
/// When the connection fails, or the host says what does not belong to a program; that has then got SIGHUP.
pub async fn run(
    exec: Exec,
    login: impl FnOnce() -> Login + Send + 'static,
    mut frames: impl Stream<Item = io::Result<Frame>> + Unpin,
    mut sink: impl Sink<Frame, Error = io::Error> + Unpin,
) -> io::Result<()> {
    // All others are served meanwhile: to make a process takes longer than anything else that is done here.
    let started = task::blocking(move || Program::start(&exec, &login())).await;
    let (program, child, input) = match started {
        Ok(started) => started,
        Err(error) => {
            let reply = Reply::ExecFailed { reason: error.reason, message: error.message };
            return sink.send(Frame::control(&reply)?).await;
        }
    };
    let (ended, taken) = (AtomicBool::new(false), Taken::default());
    // Neither is resumed after the other has completed. `feed` has no frame in hand where it waits: none is lost that
    // is for what comes after this program.
    let finished = tokio::select! {
        relayed = relay(&program, child, &ended, &taken, &mut sink) => relayed,
        fed = feed(&program, input, &ended, &taken, &mut frames) => {
            Err(fed.err().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()))
        }
    };
    if finished.is_err() && !ended.load(Ordering::Relaxed) {
        program.signal(Signal::SIGHUP as i32)?;
        // A stopped program must be able to hear of it.
        program.signal(Signal::SIGCONT as i32)?;
    }
    finished
}

/// Takes what the host says, until the host is gone.
async fn feed(
    program: &Program,
    input: Descriptor,
    ended: &AtomicBool,
    taken: &Taken,
    frames: &mut (impl Stream<Item = io::Result<Frame>> + Unpin),
) -> io::Result<()> {
    let mut input = Some(input);
    let (mut waiting, mut held, mut end) = (VecDeque::<Bytes>::new(), 0, false);
    loop {
        if end && waiting.is_empty() {
            input = None;
        }
        let front = waiting.front().cloned();
        // Both are cancel-safe: `next` and `write` lose nothing.
        tokio::select! {
            frame = frames.next() => match frame {
                None => return Ok(()),
                Some(frame) => match frame? {
                    // Nobody reads any more.
                    Frame::Stdin(bytes) if input.is_none() => taken.add(bytes.len()),
                    Frame::Stdin(bytes) if end || held + bytes.len() > STDIN_WINDOW => {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "unasked input"));
                    }
                    Frame::Stdin(bytes) => {
                        held += bytes.len();
                        waiting.extend((!bytes.is_empty()).then_some(bytes));
                    }
                    Frame::StdinEnd => {
                        if program.terminal == Terminal::Yes && !end {
                            waiting.push_back(Bytes::from_static(END_OF_TRANSMISSION));
                        }
                        end = true;
                    }
                    message => steer(program, ended, &message.message()?),
                },
            },
            written = write(input.as_ref(), front.as_ref()), if input.is_some() && front.is_some() => {
                if let (Ok(written), Some(front)) = (written, waiting.front_mut()) {
                    front.advance(written);
                    if front.is_empty() {
                        waiting.pop_front();
                    }
                    if !end {
                        held -= written;
                        taken.add(written);
                    }
                } else {
                    taken.add(held);
                    (input, held) = (None, 0);
                    waiting.clear();
                }
            }
        }
    }
}

/// Input that the host has not been told of yet: taken by the program, or thrown away.
#[derive(Default)]
struct Taken {
    bytes: AtomicUsize,
    enough: Notify,
}

impl Taken {
    fn add(&self, bytes: usize) {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= WORTH_TELLING {
            self.enough.notify_one();
        }
    }

    /// Waits until there is enough to tell, and takes it. Cancel-safe.
    async fn enough(&self) -> Reply {
        loop {
            self.enough.notified().await;
            let bytes = self.bytes.swap(0, Ordering::Relaxed);
            if bytes > 0 {
                // No more than a window is ever on its way.
                return Reply::StdinTaken { bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
            }
        }
    }
}

async fn write(input: Option<&Descriptor>, bytes: Option<&Bytes>) -> io::Result<usize> {
    match (input, bytes) {
        (Some(input), Some(bytes)) => input.write(bytes).await,
        (None, _) | (_, None) => Ok(0),
    }
}

/// A signal or a size. What does not fit the program (no such signal, no terminal) changes nothing:
/// the host has nobody left to tell.
fn steer(program: &Program, ended: &AtomicBool, message: &ExecInput) {
    let done = match message {
        // Once the program has been waited for its id may be somebody else's.
        ExecInput::Signal { .. } if ended.load(Ordering::Relaxed) => Ok(()),
        ExecInput::Signal { signal } => program.signal(*signal),
        ExecInput::Resize { size } => program.resize(*size),
    };
    done.ok();
}

/// Sends what the program prints, and how it ended.
async fn relay(
    program: &Program,
    mut child: Child,
    ended: &AtomicBool,
    taken: &Taken,
    sink: &mut (impl Sink<Frame, Error = io::Error> + Unpin),
) -> io::Result<()> {
    let started = Reply::ExecStarted { pid: program.pid };
    sink.send(Frame::control(&started)?).await?;
    let mut output = Output::new(Some(&program.output), Frame::Stdout);
    let mut errors = Output::new(program.errors.as_ref(), Frame::Stderr);
    let status = loop {
        // All are cancel-safe: reading takes nothing before it completes, and a child can be waited for
        // again.
        tokio::select! {
            frame = output.next(), if output.open() => send(sink, frame?).await?,
            frame = errors.next(), if errors.open() => send(sink, frame?).await?,
            reply = taken.enough() => sink.send(Frame::control(&reply)?).await?,
            status = child.wait() => break status?,
        }
    };
    ended.store(true, Ordering::Relaxed);
    for stream in [&mut output, &mut errors] {
        // Whatever the program wrote is in there.
        let mut left = PIPE_BYTES.unsigned_abs() as usize;
        while left > 0
            && let Some(frame) = stream.next_now()?
        {
            left = left.saturating_sub(length(&frame));
            sink.send(frame).await?;
        }
    }
    let end = Instant::now() + LINGER;
    while (output.open() || errors.open()) && Instant::now() < end {
        let quiet = tokio::time::sleep(LINGER_QUIET);
        // As above.
        tokio::select! {
            frame = output.next(), if output.open() => send(sink, frame?).await?,
            frame = errors.next(), if errors.open() => send(sink, frame?).await?,
            () = quiet => break,
        }
    }
    let ended = Reply::ExecEnded(exec_status(status));
    sink.send(Frame::control(&ended)?).await
}

async fn send(
    sink: &mut (impl Sink<Frame, Error = io::Error> + Unpin),
    frame: Option<Frame>,
) -> io::Result<()> {
    match frame {
        Some(frame) => sink.send(frame).await,
        None => Ok(()),
    }
}

fn length(frame: &Frame) -> usize {
    match frame {
        Frame::Stdout(bytes) | Frame::Stderr(bytes) => bytes.len(),
        _ => 0,
    }
}

fn exec_status(status: ExitStatus) -> ExecStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExecStatus::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        (None, Some(signal)) => ExecStatus::Signalled(signal),
        (None, None) => ExecStatus::Exited(u8::MAX),
    }
}

/// One stream of a program's output.
struct Output<'a> {
    from: Option<&'a Descriptor>,
    buffer: Vec<u8>,
    frame: fn(Bytes) -> Frame,
}

impl<'a> Output<'a> {
    fn new(from: Option<&'a Descriptor>, frame: fn(Bytes) -> Frame) -> Self {
        let buffer = vec![0; if from.is_some() { FIRST_READ_BYTES } else { 0 }];
        Self { from, buffer, frame }
    }

    fn open(&self) -> bool {
        self.from.is_some()
    }

    /// The next piece, or `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        let read = match self.from {
            Some(from) => from.read(&mut self.buffer).await?,
            None => 0,
        };
        Ok(self.take(read))
    }

    /// The next piece if it is there already.
    fn next_now(&mut self) -> io::Result<Option<Frame>> {
        let read = match self.from {
            Some(from) => from.read_now(&mut self.buffer)?,
            None => None,
        };
        Ok(read.and_then(|read| self.take(read)))
    }

    fn take(&mut self, read: usize) -> Option<Frame> {
        if read == 0 {
            self.from = None;
            return None;
        }
        let frame = (self.frame)(Bytes::copy_from_slice(&self.buffer[..read]));
        if read == self.buffer.len() {
            self.buffer.resize(READ_BYTES, 0);
        }
        Some(frame)
    }
}
