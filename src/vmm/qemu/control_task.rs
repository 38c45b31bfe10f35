//! The client of one machine's control socket, for as long as the machine runs.
//!
//! ```text
//!  Line::ask ──▶ ┌──────┐ ──▶ resize, cont, query-status ──▶ QEMU
//!                │ task │
//!  Line::stall ◀─└──────┘ ◀── events STOP, RESUME ◀───────── QEMU
//! ```
//!
//! An event says that something has changed; what holds now is asked (`query-status`, `query-block`). So
//! a machine that stalled while nobody listened is found like any other. A connection that breaks is made
//! anew; the task ends when the monitor has ended.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use qapi::qmp;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::command::QMP_SOCKET;
use super::control::{ANSWER_DEADLINE, Connection, Questions, ask};
use super::servants::connect;
use crate::id::VmId;
use crate::process::Process;
use crate::vm::ports::Stall;
use crate::vmm::VmmError;

/// How many questions may wait. The owner of a VM asks one at a time.
const QUEUE: usize = 8;

/// How long until a connection that broke is made again.
const RETRY: Duration = Duration::from_secs(1);

/// How long whoever asks waits: as long as for the question before, and for this one.
const PATIENCE: Duration = ANSWER_DEADLINE.saturating_mul(2);

/// What can be asked of a machine that runs.
#[derive(Debug)]
pub(super) enum Question {
    /// See that the file of a drive has so many bytes now.
    Resize { drive: &'static str, bytes: u64 },
    /// Go on, and try again what could not be written.
    GoOn,
}

type Asked = (Question, oneshot::Sender<io::Result<()>>);

/// The way to a machine's task. Clones are the same way.
#[derive(Debug, Clone)]
pub(super) struct Line {
    asked: mpsc::Sender<Asked>,
    pub(super) stall: watch::Receiver<Option<Stall>>,
}

impl Line {
    /// Asks, and waits until it is done.
    pub(super) async fn ask(&self, question: Question) -> Result<(), VmmError> {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            self.asked.send((question, answer)).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        let done = tokio::time::timeout(PATIENCE, ask).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        done.map_err(|source| VmmError::Control { source })
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection to it is gone")
}

/// The task's side.
pub(super) struct Keeper {
    vm: VmId,
    folder: PathBuf,
    program: PathBuf,
    process: Process,
    asked: mpsc::Receiver<Asked>,
    stall: watch::Sender<Option<Stall>>,
    /// Told when it is known for the first time whether the machine stands still.
    known: Option<oneshot::Sender<()>>,
}

impl Keeper {
    /// The client of this monitor, the way to it, and when it first knows how the machine is.
    pub(super) fn new(
        vm: VmId,
        folder: PathBuf,
        program: PathBuf,
        process: Process,
    ) -> (Self, Line, oneshot::Receiver<()>) {
        let (to_ask, asked) = mpsc::channel(QUEUE);
        let (stall, stalls) = watch::channel(None);
        let (known, first) = oneshot::channel();
        let known = Some(known);
        let line = Line { asked: to_ask, stall: stalls };
        (Self { vm, folder, program, process, asked, stall, known }, line, first)
    }

    /// Runs until the monitor has ended.
    pub(super) async fn run(mut self, first: Option<Connection>) {
        let mut connection = first;
        loop {
            let broke = match connection.take() {
                Some(connection) => VmmError::Control { source: self.serve(connection).await },
                None => match self.connect().await {
                    Ok(made) => {
                        connection = Some(made);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            // Both arms are cancel-safe: readiness is not consumed.
            tokio::select! {
                _ = self.process.ended() => return,
                () = tokio::time::sleep(RETRY) => {
                    let cause = std::error::Error::source(&broke).map(ToString::to_string);
                    tracing::warn!(vm = %self.vm, error = %broke, cause, "connecting again");
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, VmmError> {
        let (program, folder) = (&self.program, &self.folder);
        let socket = connect(program, folder, QMP_SOCKET, &self.process, None).await?;
        Connection::open(socket).await
    }

    /// Listens and asks on one connection until it breaks, and says how.
    async fn serve(&mut self, connection: Connection) -> io::Error {
        let Connection { questions, mut arrivals } = connection;
        let changed = Notify::new();
        changed.notify_one();
        let listen = async {
            loop {
                match arrivals.next().await {
                    Some(Ok(qmp::Event::STOP { .. } | qmp::Event::RESUME { .. })) => {
                        changed.notify_one();
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error,
                    None => return io::ErrorKind::UnexpectedEof.into(),
                }
            }
        };
        // Whatever is dropped here, its connection is gone: who asked hears that.
        tokio::select! {
            broke = listen => broke,
            broke = self.answer(&questions, &changed) => broke,
        }
    }

    /// Does what is asked, and looks how the machine is whenever that has changed.
    async fn answer(&mut self, questions: &Questions, changed: &Notify) -> io::Error {
        loop {
            // Both arms are cancel-safe: a question is taken or not, a change stays until it is seen.
            let done = tokio::select! {
                biased;
                () = changed.notified() => self.look(questions).await,
                Some((question, answer)) = self.asked.recv() => {
                    let done = self.carry_out(questions, question).await;
                    let broke = done.as_ref().err().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
                    // Somebody who has gone away does not need the answer.
                    answer.send(done).ok();
                    if broke { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
                }
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn carry_out(&self, questions: &Questions, question: Question) -> io::Result<()> {
        match question {
            Question::Resize { drive, bytes } => {
                let size = i64::try_from(bytes).unwrap_or(i64::MAX);
                let device = Some(drive.to_owned());
                let resize = qmp::block_resize { device, node_name: None, size };
                ask(questions, resize).await.map(drop)
            }
            Question::GoOn => {
                ask(questions, qmp::cont {}).await?;
                // Who asked is not told the state before.
                self.stall.send_replace(stall(questions).await?);
                Ok(())
            }
        }
    }

    async fn look(&mut self, questions: &Questions) -> io::Result<()> {
        let now = stall(questions).await?;
        self.stall.send_if_modified(|before| std::mem::replace(before, now) != now);
        if let Some(known) = self.known.take() {
            // Nobody waits for it when the machine has just been started.
            known.send(()).ok();
        }
        Ok(())
    }
}

/// Whether the machine stands still because of its disks, and why.
async fn stall(questions: &Questions) -> io::Result<Option<Stall>> {
    if ask(questions, qmp::query_status {}).await?.status != qmp::RunState::io_error {
        return Ok(None);
    }
    let disks = ask(questions, qmp::query_block {}).await?;
    let full = disks.iter().any(|disk| disk.io_status == Some(qmp::BlockDeviceIoStatus::nospace));
    Ok(Some(if full { Stall::NoRoom } else { Stall::Failed }))
}
