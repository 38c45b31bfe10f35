//! Serving the host's connections: one request each, but after a program or a copy another one.
//!
//! ```text
//!        Setup done
//!  New ─────────────▶ Ready      New: only Health and Setup are served
//!   ▲ │
//!   │ ▼ Setup begins
//!  Busy (a second Setup is refused; a failed one leads back to New)
//! ```
//!
//! Knows nothing of vsock, mounts or PID 1: connections are any stream, and what the machine itself must
//! do is behind [`Machine`].

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

use self::after::next_request;
pub(super) use self::after::{FAREWELL, farewell};
pub use self::connection::Connection;
pub(super) use self::connection::on_thread;
pub(super) use self::feed::unexpected;
use self::feed::{feed_plan, send_all, take_records};
pub use self::machine::{Clock, Machine};
use super::exec::{self, Detached, login::Login};
use super::failure::{During, Failure, NotTaken};
use super::forward::{self, Forwards};
use super::handshake;
use super::{console, copy, observe, plan, survey, tree, update};
use crate::id::{BootId, ExecId};
use crate::line::Line;
use crate::task;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{Exec, ExecFailure, Health, ReceiveTree, Reply, Request, Setup};
use crate::wire::proof::BootKey;
use crate::wire::survey::{Known, ListedBy};

mod after;
mod connection;
mod feed;
mod machine;

/// How long the host may take to read the reply to a power-off before the power goes.
const POWER_OFF_FAREWELL: Duration = Duration::from_millis(500);

pub(super) type Frames<S> = Framed<S, FrameCodec>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Busy,
    Ready,
}

/// The agent of one boot.
#[derive(Debug)]
pub struct Server<M> {
    key: BootKey,
    boot_id: BootId,
    machine: Arc<M>,
    state: Mutex<State>,
    forwards: Forwards,
    detached: Detached,
}

impl<M: Machine> Server<M> {
    /// An agent that has not been set up.
    pub fn new(key: BootKey, boot_id: BootId, machine: M) -> Self {
        let (machine, state) = (Arc::new(machine), Mutex::new(State::New));
        let (forwards, detached) = (Forwards::default(), Detached::default());
        Self { key, boot_id, machine, state, forwards, detached }
    }

    /// Serves one connection.
    ///
    /// # Errors
    /// When the peer cannot prove itself, breaks the protocol or goes away.
    pub async fn serve(&self, stream: impl Connection) -> io::Result<()> {
        let mut frames = Framed::new(stream, FrameCodec::default());
        let mut request = handshake::accept(&mut frames, &self.key).await?;
        while let Some(mut kept) = self.answer(request, frames).await? {
            let Some(next) = next_request(&mut kept).await? else { break };
            (request, frames) = (next, kept);
        }
        Ok(())
    }

    /// Answers a request. What is returned is the connection, where it is there for another one.
    async fn answer<S: Connection>(
        &self,
        request: Request,
        mut frames: Frames<S>,
    ) -> io::Result<Option<Frames<S>>> {
        let reply = match (self.refusal(&request), request) {
            (Some(refused), Request::Exec(_)) => {
                frames.send(Frame::control(&refused)?).await?;
                return Ok(Some(frames));
            }
            (None, Request::Exec(exec)) => return self.exec(exec, frames).await.map(Some),
            (Some(refused), _) => refused,
            (None, Request::Health) => Reply::Health(Health {
                boot_id: self.boot_id.clone(),
                ready: self.state() == State::Ready,
                uptime_ms: self.machine.uptime_ms(),
            }),
            (None, Request::Setup(setup)) => reply(self.set_up(*setup, &mut frames).await),
            (None, Request::Detach(detach)) => {
                self.detached.start(*detach, self.login().await).await?
            }
            (None, Request::Attach { id }) => return self.attach(&id, frames).await.map(|()| None),
            (None, Request::Detached) => Reply::Detached(self.detached.list()),
            (None, Request::ReceiveTree(tree)) => {
                let received;
                (received, frames) = self.receive_tree(tree, frames).await?;
                taken(received)
            }
            (None, Request::Copy(files)) => {
                return copy::run(files, &self.login().await.home, frames).await;
            }
            (None, Request::Survey { path, by }) => {
                reply(self.survey(&path, by, &mut frames).await)
            }
            (None, Request::Connect { port }) => {
                return self.forward(port, frames).await.map(|()| None);
            }
            (None, Request::Stats) => {
                let (home, uptime_ms) = (self.login().await.home, self.machine.uptime_ms());
                let look = move || observe::stats(home.as_ref(), uptime_ms);
                seen(blocking("look at the guest", look).await, Reply::Stats)
            }
            (None, Request::Listening) => {
                seen(blocking("look for listeners", observe::listening).await, Reply::Listening)
            }
            (None, Request::GrowWorkDisk { bytes }) => {
                let machine = self.machine.clone();
                let grow = move || machine.grow_work_disk(bytes);
                reply(blocking("grow the work disk", grow).await)
            }
            (None, Request::SetClock { unix_ms }) => {
                let machine = self.machine.clone();
                reply(blocking("set the clock", move || machine.set_clock(unix_ms)).await)
            }
            (None, Request::PowerOff) => return self.power_off(frames).await.map(|()| None),
        };
        frames.send(Frame::control(&reply)?).await?;
        farewell(&mut frames, FAREWELL).await;
        Ok(None)
    }

    async fn login(&self) -> Login {
        let machine = self.machine.clone();
        task::blocking(move || machine.login()).await
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and returns the old one, if `allowed` says so of it.
    fn change(&self, allowed: impl Fn(State) -> bool, new: State) -> Result<State, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if allowed(*state) { Ok(std::mem::replace(&mut *state, new)) } else { Err(*state) }
    }

    /// What is answered to a request that is not served now.
    fn refusal(&self, request: &Request) -> Option<Reply> {
        match request {
            Request::Health | Request::Setup(_) => None,
            Request::Exec(_)
            | Request::Detach(_)
            | Request::Attach { .. }
            | Request::Detached
            | Request::ReceiveTree(_)
            | Request::Copy(_)
            | Request::Survey { .. }
            | Request::Connect { .. }
            | Request::Stats
            | Request::Listening
            | Request::GrowWorkDisk { .. }
            | Request::SetClock { .. }
            | Request::PowerOff => self.not_ready(request),
        }
    }

    fn not_ready(&self, request: &Request) -> Option<Reply> {
        let message = "the guest has not been set up".to_owned();
        match (self.state(), request) {
            (State::Ready, _) => None,
            (State::New | State::Busy, Request::Exec(_) | Request::Detach(_)) => {
                Some(Reply::ExecFailed { reason: ExecFailure::Other, message })
            }
            (State::New | State::Busy, _) => {
                Some(Reply::Failed { step: "take a request".to_owned(), message })
            }
        }
    }

    async fn set_up<S: Connection>(
        &self,
        setup: Setup,
        frames: &mut Frames<S>,
    ) -> Result<(), Failure> {
        if let Err(state) = self.change(|state| state == State::New, State::Busy) {
            let why = match state {
                State::Ready => "the guest has been set up already",
                State::New | State::Busy => "the guest is being set up already",
            };
            return Err(Failure::new("set up the guest", why));
        }
        let done = self.apply(setup, frames).await;
        let new = if done.is_ok() { State::Ready } else { State::New };
        self.change(|_| true, new).ok();
        if let Err(failure) = &done {
            console::line(&format!("cove-agent: {failure}: {}", failure.message()));
        }
        done
    }

    async fn apply<S: Connection>(
        &self,
        setup: Setup,
        frames: &mut Frames<S>,
    ) -> Result<(), Failure> {
        let steps = setup.steps;
        let machine = self.machine.clone();
        blocking("identify the guest", move || machine.identify(&setup)).await?;
        let home = self.login().await.home;
        let (pieces, received) = mpsc::channel(plan::QUEUE);
        let applied = blocking("apply the work-disk plan", move || {
            update::finish_at_boot(home.as_ref());
            plan::receive(home.as_ref(), steps, received)
        });
        both(applied, feed_plan(frames, steps, pieces)).await?;
        let machine = self.machine.clone();
        blocking("hand over to the image's init", move || machine.hand_over()).await
    }

    async fn exec<S: Connection>(&self, exec: Exec, frames: Frames<S>) -> io::Result<Frames<S>> {
        let (mut sink, mut stream) = frames.split();
        let machine = self.machine.clone();
        exec::run(exec, move || machine.login(), &mut stream, &mut sink).await?;
        sink.reunite(stream).map_err(io::Error::other)
    }

    async fn attach<S: Connection>(&self, id: &ExecId, frames: Frames<S>) -> io::Result<()> {
        let (mut sink, mut stream) = frames.split();
        self.detached.attach(id, &mut stream, &mut sink).await?;
        let mut frames = sink.reunite(stream).map_err(io::Error::other)?;
        farewell(&mut frames, FAREWELL).await;
        Ok(())
    }

    async fn forward<S: Connection>(&self, port: u16, mut frames: Frames<S>) -> io::Result<()> {
        forward::run(&self.forwards, port, &mut frames).await?;
        farewell(&mut frames, FAREWELL).await;
        Ok(())
    }

    async fn receive_tree<S: Connection>(
        &self,
        tree: ReceiveTree,
        frames: Frames<S>,
    ) -> io::Result<(Result<(), NotTaken>, Frames<S>)> {
        let home = self.login().await.home;
        let unpack = move |line: &mut Line| tree::receive(home.as_ref(), &tree, line.incoming());
        let (unpacked, mut frames) = on_thread(frames, unpack).await?;
        let received = match unpacked {
            Ok(arrived) => {
                let sent = send_all(&mut frames, &arrived).await;
                sent.during("say what has come").map_err(NotTaken::from)
            }
            Err(not_taken) => Err(not_taken),
        };
        Ok((received, frames))
    }

    async fn survey<S: Connection>(
        &self,
        path: &str,
        by: ListedBy,
        frames: &mut Frames<S>,
    ) -> Result<(), Failure> {
        let step = "look at a tree";
        let known = take_records(frames).await.and_then(|known| Known::read_all(&known));
        let (known, login) = (known.during(step)?, self.login().await);
        let folder = Path::new(&login.home).join(path);
        let listed = survey::paths(&folder, by, &login, self.machine.own_folder()).await?;
        let place = folder.clone();
        let looked = blocking(step, move || survey::look(&place, known, listed)).await?;
        send_all(frames, &looked.records).await.during(step)?;
        let (pieces, mut sent) = mpsc::channel(survey::QUEUE);
        let read = blocking("read a tree", move || looked.send(&folder, &pieces));
        both(read, async {
            while let Some(piece) = sent.recv().await {
                frames.send(Frame::Data(piece)).await?;
            }
            Ok(())
        })
        .await?;
        frames.send(Frame::DataEnd).await.during(step)
    }

    async fn power_off<S: Connection>(&self, mut frames: Frames<S>) -> io::Result<()> {
        let machine = self.machine.clone();
        tokio::task::spawn_blocking(move || machine.sync()).await?;
        let told = frames.send(Frame::control(&Reply::Done)?).await;
        farewell(&mut frames, POWER_OFF_FAREWELL).await;
        let machine = self.machine.clone();
        tokio::task::spawn_blocking(move || machine.power_off()).await?;
        told
    }
}

fn reply(done: Result<(), Failure>) -> Reply {
    seen(done, |()| Reply::Done)
}

fn seen<T>(seen: Result<T, Failure>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match seen {
        Ok(seen) => reply(seen),
        Err(failure) => Reply::Failed { message: failure.message(), step: failure.step },
    }
}

/// What is said of a tree.
fn taken(done: Result<(), NotTaken>) -> Reply {
    match done {
        Ok(()) => Reply::Done,
        Err(NotTaken { reason, failure }) => {
            Reply::TreeFailed { reason, message: failure.message(), step: failure.step }
        }
    }
}

/// Runs what blocks beside the runtime.
async fn blocking<T: Send + 'static, E: From<Failure> + Send + 'static>(
    step: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.during(step)?
}

/// Waits for the worker, feeding it meanwhile.
async fn both<T>(
    worker: impl Future<Output = Result<T, Failure>>,
    feed: impl Future<Output = io::Result<()>>,
) -> Result<T, Failure> {
    let (worked, fed) = tokio::join!(worker, feed);
    worked.map_err(|failure| blamed(failure, fed))
}

/// A worker's failure with its cause: that is the worker's own, but for a broken connection, which only shows to the
/// worker as a stream that was cut off.
fn blamed(failure: Failure, fed: io::Result<()>) -> Failure {
    match fed {
        Err(broken) if broken.kind() != io::ErrorKind::BrokenPipe => {
            Failure { step: failure.step, source: broken.into() }
        }
        Ok(()) | Err(_) => failure,
    }
}
