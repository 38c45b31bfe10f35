//! The host side of the agent connection.
//!
//! An [`Agent`] is the way to one boot of one guest. Every request has a connection to itself as long as it lasts, so
//! requests never wait for each other. A connection is opened with the mutual proof; that of a program that has ended,
//! or of a copy that was made, is kept for a while ([`Proven`]), and the next of these goes over it:
//!
//! ```text
//!                    ┌────────────── kept ◀──────────────┐
//!                    ▼ none: as the others               │ its end was read
//!  exec, copy ──▶ Request ──────────────────────▶ FrameStream ──▶ closed, wherever else it ends
//!  others ──▶ dial, proof, Request ──▶ their own exchange ──▶ closed
//! ```
//!
//! The others never take a kept one: some are about whether the guest can be reached, and none gives one back, so
//! that the next program or copy would pay.
//!
//! Everything a guest says is hostile input: frames are bounded by the codec, texts are cut, and every
//! wait has a deadline. This module knows nothing of VMs, monitors or the RPC.

mod detached;
mod dial;
mod error;
mod exec;
mod passing;
mod plan;
mod proven;
mod ready;
mod survey;
mod system;
mod tree;
mod upload;

#[cfg(all(test, feature = "agent"))]
pub(crate) mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_util::codec::Framed;

pub use self::dial::{Dial, Stream, Transport};
pub use self::error::GuestError;
pub use self::exec::FrameStream;
use self::passing::Sends;
pub use self::proven::Proven;
use self::ready::Announcement;
pub use self::survey::{ContentReader, Contents, Survey};
pub use self::tree::{BlockingSink, TreeSink, TreeWriter};
use crate::id::BootId;
use crate::task::Tasks;
use crate::vm::plan::WorkDiskPlan;
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{
    AgentHello, Health, HostHello, HostProof, ReceiveTree, Reply, Request, Setup, VERSION,
};
use crate::wire::proof::{BootKey, Role, nonce};

/// How long one attempt to connect may take. A listening agent answers in milliseconds.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the mutual proof may take, or a request on a connection that was kept: two messages at most, but the guest
/// may be emulated and busy.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a short request may take.
const SHORT: Duration = Duration::from_secs(10);

/// How long the guest may take to do a set-up or to finish a tree after the last byte was sent: it
/// writes all of it to its disk.
const LONG: Duration = Duration::from_secs(120);

/// How long the guest may refuse to take more bytes.
const STALL: Duration = Duration::from_secs(60);

/// The way to the agent of one boot. Clones share it.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Way>);

#[derive(Debug)]
struct Way {
    dial: Dial,
    key: BootKey,
    boot_id: BootId,
    proven: Proven,
}

type Frames = Framed<Stream, FrameCodec>;

impl Agent {
    /// The agent that is reached by `dial` and holds `key`.
    #[must_use]
    pub fn new(dial: Dial, key: BootKey, boot_id: BootId) -> Self {
        Self::sharing(dial, key, boot_id, Proven::new(Tasks::default()))
    }

    /// The same, with connections to use again that others have as well.
    #[must_use]
    pub fn sharing(dial: Dial, key: BootKey, boot_id: BootId, proven: Proven) -> Self {
        Self(Arc::new(Way { dial, key, boot_id, proven }))
    }

    /// Waits until the agent answers, at most `deadline`. To be called when the guest is started: it
    /// knocks when the agent announces itself. Nobody else should connect meanwhile (see module `ready`).
    ///
    /// # Errors
    /// When it does not answer, or another machine does.
    pub async fn wait_answering(&self, deadline: Duration) -> Result<Health, GuestError> {
        let mut announcement = Announcement::expect(&self.0.dial).map_err(GuestError::Connect)?;
        let mut last = timed_out("answer", deadline);
        let knock = async {
            loop {
                announcement.worth_a_knock().await;
                match self.health().await {
                    Err(GuestError::AnotherMachine) => return Err(GuestError::AnotherMachine),
                    Err(wrong @ GuestError::Version { .. }) => return Err(wrong),
                    Err(error) => last = error,
                    Ok(health) => return Ok(health),
                }
            }
        };
        match timeout(deadline, knock).await {
            Ok(answered) => answered,
            Err(_) => Err(GuestError::NotAnswering { waited: deadline, source: Box::new(last) }),
        }
    }

    /// How the guest is.
    ///
    /// # Errors
    /// When the agent does not answer, or is that of another boot.
    pub async fn health(&self) -> Result<Health, GuestError> {
        let mut frames = self.request(&Request::Health).await?;
        match reply(&mut frames, "say how it is", SHORT).await? {
            Reply::Health(health) if health.boot_id == self.0.boot_id => Ok(health),
            Reply::Health(_) => Err(GuestError::AnotherMachine),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives the guest its identity and applies the plan. `steps` of `setup` is filled in here.
    ///
    /// # Errors
    /// When a step fails (named), a host file cannot be read, or the guest does not take it.
    pub async fn set_up(&self, mut setup: Setup, plan: WorkDiskPlan) -> Result<(), GuestError> {
        setup.steps = u32::try_from(plan.steps.len()).unwrap_or(u32::MAX);
        let frames = self.request(&Request::Setup(Box::new(setup))).await?;
        plan::send(frames, plan).await
    }

    /// Asks the agent to connect to a port of the guest. What comes back is a stream of frames that begins
    /// with the agent's [`Reply::Connected`] or [`Reply::ConnectFailed`].
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn connect(&self, port: u16) -> Result<FrameStream, GuestError> {
        Ok(FrameStream::once(self.request(&Request::Connect { port }).await?, Sends::Data))
    }

    /// Asks the agent to unpack a tree. The stream goes into the sink.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn receive_tree(&self, request: ReceiveTree) -> Result<TreeSink, GuestError> {
        Ok(TreeSink::of(self.request(&Request::ReceiveTree(request)).await?))
    }

    /// Has the guest sync its disks and power off. Returns when the disks are synced; the monitor's
    /// end shows when the power is off.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn power_off(&self) -> Result<(), GuestError> {
        let mut frames = self.request(&Request::PowerOff).await?;
        match reply(&mut frames, "sync its disks", LONG).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a connection, proves both sides to each other and sends the request.
    async fn request(&self, request: &Request) -> Result<Frames, GuestError> {
        let stream = timeout(CONNECT, self.0.dial.connect())
            .await
            .map_err(|_| timed_out("take a connection", CONNECT))?
            .map_err(GuestError::Connect)?;
        let frames = Framed::new(stream, FrameCodec::default());
        timeout(HANDSHAKE, self.handshake(frames, request))
            .await
            .map_err(|_| timed_out("prove itself", HANDSHAKE))?
    }

    async fn handshake(&self, mut frames: Frames, request: &Request) -> Result<Frames, GuestError> {
        let own = nonce();
        let hello = HostHello { version: VERSION, nonce: own.clone() };
        send(&mut frames, Frame::control(&hello)).await?;
        let agent: AgentHello = next(&mut frames)
            .await
            .and_then(|frame| frame.message())
            .map_err(GuestError::Connection)?;
        if agent.version != VERSION {
            return Err(GuestError::Version { theirs: agent.version, ours: VERSION });
        }
        let key = &self.0.key;
        if !key.verify(Role::Agent, &own, &agent.nonce, &agent.proof) {
            return Err(GuestError::AnotherMachine);
        }
        let proof = HostProof { proof: key.prove(Role::Host, &own, &agent.nonce) };
        let feed = async {
            frames.feed(Frame::control(&proof)?).await?;
            frames.send(Frame::control(request)?).await
        };
        feed.await.map_err(GuestError::Connection)?;
        Ok(frames)
    }
}

async fn send(frames: &mut Frames, frame: io::Result<Frame>) -> Result<(), GuestError> {
    match frame {
        Ok(frame) => frames.send(frame).await,
        Err(error) => Err(error),
    }
    .map_err(GuestError::Connection)
}

async fn next(frames: &mut Frames) -> io::Result<Frame> {
    frames.next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
}

/// The agent's reply, which must come in time. A failure it reports is an error here.
async fn reply(
    frames: &mut Frames,
    doing: &'static str,
    deadline: Duration,
) -> Result<Reply, GuestError> {
    let reply = timeout(deadline, next(frames))
        .await
        .map_err(|_| timed_out(doing, deadline))?
        .and_then(|frame| frame.message())
        .map_err(GuestError::Connection)?;
    unless_failed(reply)
}

/// A reply, unless it is a failure.
fn unless_failed(reply: Reply) -> Result<Reply, GuestError> {
    match reply {
        Reply::Failed { step, message } => Err(GuestError::failed(&step, &message)),
        Reply::TreeFailed { reason, step, message } => {
            Err(GuestError::not_taken(reason, &step, &message))
        }
        other => Ok(other),
    }
}

fn unexpected(reply: &Reply) -> GuestError {
    let name = match reply {
        Reply::Health(_) => "its health",
        Reply::Stats(_) | Reply::Listening(_) => "something about its system",
        Reply::Done => "that it is done",
        Reply::Failed { .. } | Reply::TreeFailed { .. } => "a failure",
        Reply::Copying { .. } | Reply::Copied(_) | Reply::CopyFailed { .. } => {
            "something about a copy"
        }
        Reply::Connected | Reply::ConnectFailed { .. } => "something about a connection",
        Reply::ExecStarted { .. }
        | Reply::ExecDetached { .. }
        | Reply::ExecAttached(_)
        | Reply::Detached(_)
        | Reply::StdinTaken { .. }
        | Reply::ExecFailed { .. }
        | Reply::ExecEnded(_) => "something about a program",
    };
    GuestError::Connection(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the agent answered {name}, which was not asked"),
    ))
}

fn timed_out(doing: &'static str, deadline: Duration) -> GuestError {
    GuestError::TimedOut { doing, deadline }
}
