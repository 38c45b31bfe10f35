//! Programs that run with nobody there, until their end or the boot's.
//!
//! ```text
//!                          ┌── run ◀── input ◀──┐
//!  program ◀──▶ relay ─────┤                    ├── a client (module `attach`), or nobody
//!                          └─▶ state: kept … ───┘
//! ```
//!
//! A detached program is run as any other; what the host would be told is kept here instead. With nobody
//! attached the oldest output goes when there is too much of it, and how much went is told to the next who
//! attaches. While somebody is attached nothing goes that was not sent to them: the program waits for them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{FutureExt as _, sink, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::kept::{Channel, Kept};
use super::login::Login;
use crate::id::ExecId;
use crate::task::Tasks;
use crate::wire::frame::Frame;
use crate::wire::guest::{
    Detach, DetachedProgram, DetachedPrograms, DetachedState, DetachedStdin, Exec, ExecFailure,
    ExecStatus, MAX_COMMAND, MAX_DETACHED, Reply,
};

/// How many frames of a client wait for a program's input to look at them, which it does at once.
const QUEUE: usize = 4;

/// The detached programs of a guest.
#[derive(Debug, Default)]
pub struct Detached {
    programs: Mutex<Vec<Arc<Entry>>>,
    tasks: Tasks,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Entry {
    id: ExecId,
    command: String,
    pub(super) tty: bool,
    started: Instant,
    /// What clients say to it.
    pub(super) input: mpsc::Sender<Frame>,
    pub(super) state: watch::Sender<State>,
}

/// What changes of a detached program.
#[derive(Debug)]
pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) pid: i32,
    pub(super) kept: Kept,
    /// The number of the client that attached last.
    pub(super) client: u64,
    /// Up to where the output was sent to it; none when it is gone.
    pub(super) shown: Option<u64>,
    /// Bytes of input that were accepted, and not told as taken.
    pub(super) waiting: usize,
    /// How many of those were taken.
    pub(super) taken: usize,
    /// Whether more input is accepted.
    pub(super) input_open: bool,
}

/// How far a detached program has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being started.
    Starting,
    /// It could not be.
    NotStarted {
        reason: ExecFailure,
        message: String,
    },
    Running,
    Ended(ExecStatus),
    /// It can no longer be followed.
    Lost(String),
}

impl Detached {
    /// Starts a program. Returns the answer to who wants it.
    ///
    /// # Errors
    /// When the program's record is gone, which does not happen.
    pub async fn start(&self, detach: Detach, login: Login) -> io::Result<Reply> {
        let (input, said) = mpsc::channel(QUEUE);
        let entry = match self.enter(&detach, &login, input) {
            Ok(entry) => entry,
            Err(message) => return Ok(Reply::ExecFailed { reason: ExecFailure::Other, message }),
        };
        self.tasks.spawn("detached", entry.clone().run(detach.exec, login, said));
        let mut state = entry.state.subscribe();
        let begun = state.wait_for(|state| state.stage != Stage::Starting).await;
        let begun =
            begun.map(|state| (state.stage.clone(), state.pid)).map_err(io::Error::other)?;
        match begun {
            (Stage::NotStarted { reason, message }, _) => {
                self.programs().retain(|other| other.id != entry.id);
                Ok(Reply::ExecFailed { reason, message })
            }
            // It may have ended by now.
            (Stage::Starting | Stage::Running | Stage::Ended(_) | Stage::Lost(_), pid) => {
                Ok(Reply::ExecDetached { id: entry.id.clone(), pid })
            }
        }
    }

    /// All that have been started, oldest first.
    pub fn list(&self) -> DetachedPrograms {
        let programs = self.programs().iter().filter_map(|entry| entry.shown()).collect();
        DetachedPrograms { programs }
    }

    pub(super) fn find(&self, id: &ExecId) -> Option<Arc<Entry>> {
        self.programs().iter().find(|entry| entry.id == *id).cloned()
    }

    fn programs(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the program's record; the oldest that has ended makes room for it.
    fn enter(
        &self,
        detach: &Detach,
        login: &Login,
        input: mpsc::Sender<Frame>,
    ) -> Result<Arc<Entry>, String> {
        let mut programs = self.programs();
        if programs.len() >= MAX_DETACHED {
            let ended = programs.iter().position(|entry| entry.state.borrow().stage.is_over());
            let ended = ended.ok_or_else(|| {
                format!(
                    "{MAX_DETACHED} detached commands run in the guest already: kill one of them"
                )
            })?;
            programs.remove(ended);
        }
        let mut id = ExecId::random();
        while programs.iter().any(|entry| entry.id == id) {
            id = ExecId::random();
        }
        let command = match detach.exec.argv.as_slice() {
            [] => login.shell.clone(),
            argv => argv.join(" "),
        };
        let tty = detach.exec.tty.is_some();
        let input_open = tty || detach.stdin == DetachedStdin::Open;
        if !input_open {
            // The queue is empty: there is room.
            input.try_send(Frame::StdinEnd).ok();
        }
        let entry = Arc::new(Entry {
            id,
            command: command.chars().take(MAX_COMMAND).collect(),
            tty,
            started: Instant::now(),
            input,
            state: watch::Sender::new(State::new(input_open)),
        });
        programs.push(entry.clone());
        Ok(entry)
    }
}

impl State {
    fn new(input_open: bool) -> Self {
        Self {
            stage: Stage::Starting,
            pid: 0,
            kept: Kept::default(),
            client: 0,
            shown: None,
            waiting: 0,
            taken: 0,
            input_open,
        }
    }

    /// Keeps output, unless that would drop what the client who is attached has not been sent.
    fn keep(&mut self, channel: Channel, bytes: &[u8]) -> bool {
        let start = self.kept.start_after(bytes.len());
        let fits = self.shown.is_none_or(|shown| shown >= start);
        if fits {
            self.kept.add(channel, bytes);
        }
        fits
    }
}

impl Stage {
    fn is_over(&self) -> bool {
        match self {
            Self::Starting | Self::Running => false,
            Self::NotStarted { .. } | Self::Ended(_) | Self::Lost(_) => true,
        }
    }
}

impl Entry {
    /// Changes the state and wakes who waits for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state)));
        result.expect("the change was made")
    }

    /// Runs the program to its end.
    async fn run(self: Arc<Self>, exec: Exec, login: Login, mut said: mpsc::Receiver<Frame>) {
        let frames =
            stream::poll_fn(move |context| said.poll_recv(context).map(|said| said.map(Ok)));
        let sink = sink::unfold(self.clone(), |entry: Arc<Self>, frame| {
            async move { entry.take(frame).await.map(|()| entry) }.boxed()
        });
        if let Err(error) = super::run(exec, move || login, frames, sink).await {
            self.change(|state| {
                if !state.stage.is_over() {
                    state.stage = Stage::Lost(error.to_string());
                }
            });
        }
    }

    /// Takes what the host would be told of a program with somebody there.
    async fn take(&self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Stdout(bytes) => self.keep(Channel::Stdout, &bytes).await,
            Frame::Stderr(bytes) => self.keep(Channel::Stderr, &bytes).await,
            message => {
                let reply = message.message()?;
                self.change(|state| state.hear(reply))
            }
        }
    }

    /// Keeps output as soon as there is room for it.
    async fn keep(&self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        // From before the first try on, so that no change is missed.
        let mut changes = self.state.subscribe();
        while !self.state.send_if_modified(|state| state.keep(channel, bytes)) {
            changes.changed().await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// How it is shown, once it has been started.
    fn shown(&self) -> Option<DetachedProgram> {
        let now = self.state.borrow();
        let state = match now.stage {
            Stage::Starting | Stage::NotStarted { .. } => return None,
            Stage::Running => DetachedState::Running,
            Stage::Ended(status) => status.into(),
            Stage::Lost(_) => DetachedState::Lost,
        };
        Some(DetachedProgram {
            id: self.id.clone(),
            command: self.command.clone(),
            pid: now.pid,
            tty: self.tty,
            age_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            attached: now.shown.is_some(),
            state,
        })
    }
}

impl State {
    fn hear(&mut self, reply: Reply) -> io::Result<()> {
        match reply {
            Reply::ExecStarted { pid } => (self.pid, self.stage) = (pid, Stage::Running),
            Reply::ExecFailed { reason, message } => {
                self.stage = Stage::NotStarted { reason, message };
            }
            Reply::StdinTaken { bytes } => self.taken += bytes as usize,
            Reply::ExecEnded(status) => self.stage = Stage::Ended(status),
            Reply::Health(_)
            | Reply::Stats(_)
            | Reply::Listening(_)
            | Reply::Done
            | Reply::TreeFailed { .. }
            | Reply::Copying { .. }
            | Reply::Copied(_)
            | Reply::CopyFailed { .. }
            | Reply::Failed { .. }
            | Reply::Connected
            | Reply::ConnectFailed { .. }
            | Reply::ExecDetached { .. }
            | Reply::ExecAttached(_)
            | Reply::Detached(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message out of turn"));
            }
        }
        Ok(())
    }
}
