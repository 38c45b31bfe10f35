//! Programs in guests in memory, named by their first word, and detached ones.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::DuplexStream;
use tokio_util::codec::Framed;

use super::guests::{STREAM, SimGuest};
use super::ports::Sim;
use crate::id::ExecId;
use crate::vm::ports::{ByteStream, GuestDetached, PortResult};
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{
    Attached, Detach, DetachOutcome, DetachedProgram, DetachedPrograms, DetachedState, Exec,
    ExecFailure, ExecStatus, Reply,
};

/// A piece of what `print` prints.
pub(crate) const PIECE: usize = 64 * 1024;

#[async_trait]
impl GuestDetached for SimGuest {
    async fn detach(&self, detach: Detach) -> PortResult<DetachOutcome> {
        let detach = async {
            self.monitor().await?;
            if detach.exec.argv.first().is_some_and(|program| program == "missing") {
                let (reason, message) = (ExecFailure::NotFound, "no such file".to_owned());
                return Ok(DetachOutcome::NotStarted { reason, message });
            }
            let mut host = self.sim.world.host();
            let id: ExecId = format!("{:06x}", host.detached.len() + 1).parse().expect("an id");
            host.detached.push(DetachedProgram {
                id: id.clone(),
                command: detach.exec.argv.join(" "),
                pid: 7,
                tty: detach.exec.tty.is_some(),
                age_ms: 1000,
                attached: false,
                state: DetachedState::Running,
            });
            Ok(DetachOutcome::Started { id, pid: 7 })
        };
        self.sim.call("guest.detach", detach).await
    }

    async fn attach(&self, _: &ExecId) -> PortResult<Box<dyn ByteStream>> {
        let attach = async {
            self.monitor().await?;
            let (ours, theirs) = tokio::io::duplex(STREAM);
            let found = Attached { pid: 7, tty: false, lost: 5, stdin_waiting: 0 };
            let frames = vec![
                say(&Reply::ExecAttached(found)),
                Frame::Stdout(Bytes::from_static(b"kept\n")),
                say(&Reply::ExecEnded(ExecStatus::Signalled(9))),
            ];
            self.sim.play(theirs, frames);
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        };
        self.sim.call("guest.attach", attach).await
    }

    async fn detached(&self) -> PortResult<DetachedPrograms> {
        let detached = async {
            self.monitor().await?;
            Ok(DetachedPrograms { programs: self.sim.world.host().detached.clone() })
        };
        self.sim.call("guest.detached", detached).await
    }
}

fn say(reply: &Reply) -> Frame {
    Frame::control(reply).expect("fits")
}

impl Sim {
    /// Runs a program at the other end of its stream.
    pub(super) fn program(&self, exec: &Exec, stream: DuplexStream) {
        let started = say(&Reply::ExecStarted { pid: 7 });
        let ended = say(&Reply::ExecEnded(ExecStatus::Exited(0)));
        let argv: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
        match argv.as_slice() {
            // The login shell.
            [] => self.play(stream, vec![started, Frame::Stdout(Bytes::from_static(b"$ ")), ended]),
            ["missing"] => {
                let (reason, message) = (ExecFailure::NotFound, "no such file".to_owned());
                self.play(stream, vec![say(&Reply::ExecFailed { reason, message })]);
            }
            ["print", pieces] => {
                let pieces = pieces.parse().expect("a number");
                let piece = Frame::Stderr(vec![b'x'; PIECE].into());
                let all = [started].into_iter().chain(std::iter::repeat_n(piece, pieces));
                self.play(stream, all.chain([ended]).collect());
            }
            ["wait"] => self.wait(stream, started),
            // Gives back what it gets.
            _ => self.echo(stream),
        }
    }

    /// Sends frames as they are taken, and counts them.
    fn play(&self, stream: DuplexStream, frames: Vec<Frame>) {
        let world = self.world.clone();
        crate::task::Tasks::default().spawn("program", async move {
            let mut stream = Framed::new(stream, FrameCodec::default());
            for frame in frames {
                if stream.send(frame).await.is_err() {
                    return;
                }
                world.host().told += 1;
            }
        });
    }

    /// Waits until nobody is at the other end any more.
    fn wait(&self, stream: DuplexStream, started: Frame) {
        let world = self.world.clone();
        crate::task::Tasks::default().spawn("program", async move {
            let mut stream = Framed::new(stream, FrameCodec::default());
            stream.send(started).await.ok();
            while let Some(Ok(_)) = stream.next().await {}
            world.host().hung_up += 1;
        });
    }
}
