//! A client that is attached to a detached program: one at a time, who comes last takes the place.
//!
//! A client that goes away leaves the program as it is. Its input that the program has not taken yet stays
//! with the program, and takes room in the window of the next client.

use std::io;
use std::sync::Arc;

use futures_util::{Sink, SinkExt, Stream, StreamExt};

use super::detached::{Detached, Entry, Stage, State};
use crate::id::ExecId;
use crate::wire::frame::Frame;
use crate::wire::guest::{Attached, ExecInput, Reply};
use crate::wire::window::STDIN_WINDOW;

/// What failed, in replies that say so.
const STEP: &str = "attach to a command";

impl Detached {
    /// Carries the connection of a client to a program until the program ends or the client is gone.
    ///
    /// # Errors
    /// When the connection fails; the program goes on.
    pub async fn attach(
        &self,
        id: &ExecId,
        mut frames: impl Stream<Item = io::Result<Frame>> + Unpin,
        mut sink: impl Sink<Frame, Error = io::Error> + Unpin,
    ) -> io::Result<()> {
        let Some(entry) = self.find(id) else {
            let reply = failed(format!("there is no detached command `{id}` in this boot"));
            return sink.send(Frame::control(&reply)?).await;
        };
        let (place, found) = Place::take(entry);
        sink.send(Frame::control(&Reply::ExecAttached(found))?).await?;
        // Neither is resumed after the other has completed, so nothing needs to be cancel-safe here.
        tokio::select! {
            shown = place.show(&mut sink) => shown,
            passed = place.pass(&mut frames) => {
                Err(passed.err().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }
}

fn failed(message: String) -> Reply {
    Reply::Failed { step: STEP.to_owned(), message }
}

/// The place of the client at a program.
struct Place {
    entry: Arc<Entry>,
    number: u64,
}

/// What the client is told next.
enum Next {
    /// This.
    Frame(Frame),
    /// This, and nothing more.
    Last(Reply),
    /// Nothing yet.
    Nothing,
}

/// Whether a frame of the client is the program's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// It is.
    On,
    /// Nobody reads it.
    No,
}

impl Place {
    /// Takes the place from whoever has it.
    fn take(entry: Arc<Entry>) -> (Self, Attached) {
        let tty = entry.tty;
        let (number, found) = entry.change(|state| {
            state.client += 1;
            state.shown = Some(state.kept.start());
            state.waiting = state.waiting.saturating_sub(state.taken);
            state.taken = 0;
            let found = Attached {
                pid: state.pid,
                tty,
                lost: state.kept.start(),
                // No more than a window.
                stdin_waiting: u32::try_from(state.waiting).unwrap_or(u32::MAX),
            };
            (state.client, found)
        });
        (Self { entry, number }, found)
    }

    /// Sends what is kept, what follows, and how it ended.
    async fn show(
        &self,
        sink: &mut (impl Sink<Frame, Error = io::Error> + Unpin),
    ) -> io::Result<()> {
        // From before the first look on, so that no change is missed.
        let mut changes = self.entry.state.subscribe();
        loop {
            match self.next()? {
                Next::Frame(frame) => sink.send(frame).await?,
                Next::Last(reply) => return sink.send(Frame::control(&reply)?).await,
                Next::Nothing => changes.changed().await.map_err(io::Error::other)?,
            }
        }
    }

    fn next(&self) -> io::Result<Next> {
        let mut next = Ok(Next::Nothing);
        self.entry.state.send_if_modified(|state| {
            next = self.advance(state);
            matches!(next, Ok(Next::Frame(_)))
        });
        next
    }

    fn advance(&self, state: &mut State) -> io::Result<Next> {
        let (Some(shown), true) = (state.shown, state.client == self.number) else {
            return Ok(Next::Last(failed("another client has attached to it".to_owned())));
        };
        if state.taken > 0 {
            let bytes = u32::try_from(state.taken).unwrap_or(u32::MAX);
            state.waiting = state.waiting.saturating_sub(state.taken);
            state.taken = 0;
            return Ok(Next::Frame(Frame::control(&Reply::StdinTaken { bytes })?));
        }
        if let Some((frame, position)) = state.kept.after(shown) {
            state.shown = Some(position);
            return Ok(Next::Frame(frame));
        }
        Ok(match &state.stage {
            Stage::Starting | Stage::Running => Next::Nothing,
            Stage::Ended(status) => Next::Last(Reply::ExecEnded(*status)),
            Stage::Lost(message) | Stage::NotStarted { message, .. } => {
                Next::Last(failed(message.clone()))
            }
        })
    }

    /// Takes what the client says, until it is gone.
    async fn pass(
        &self,
        frames: &mut (impl Stream<Item = io::Result<Frame>> + Unpin),
    ) -> io::Result<()> {
        while let Some(frame) = frames.next().await {
            let frame = frame?;
            // Room first: what is accounted for is handed over in the same moment. A program that has ended needs
            // no input.
            let Ok(room) = self.entry.input.reserve().await else { continue };
            let pass = match &frame {
                Frame::Stdin(bytes) => self.accept(bytes.len())?,
                Frame::StdinEnd => self.end_input(),
                // A message that is none must not reach the program's own task, which it would end.
                message => message.message::<ExecInput>().map(|_| self.steer())?,
            };
            if pass == Pass::On {
                room.send(frame);
            }
        }
        Ok(())
    }

    /// Signals and sizes are heard of the one who has the place.
    fn steer(&self) -> Pass {
        match self.entry.state.borrow().client == self.number {
            true => Pass::On,
            false => Pass::No,
        }
    }

    /// Accounts for input.
    fn accept(&self, bytes: usize) -> io::Result<Pass> {
        self.entry.change(|state| {
            if state.client != self.number {
                return Ok(Pass::No);
            }
            if state.waiting + bytes > STDIN_WINDOW {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "unasked input"));
            }
            state.waiting += bytes;
            if state.input_open {
                return Ok(Pass::On);
            }
            state.taken += bytes;
            Ok(Pass::No)
        })
    }

    /// The end of a client's input is the end of the program's, unless that is a terminal: others will attach
    /// to it.
    fn end_input(&self) -> Pass {
        let tty = self.entry.tty;
        self.entry.change(|state| {
            if tty || !state.input_open || state.client != self.number {
                return Pass::No;
            }
            state.input_open = false;
            Pass::On
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entry.change(|state| {
            if state.client == self.number {
                state.shown = None;
            }
        });
    }
}
