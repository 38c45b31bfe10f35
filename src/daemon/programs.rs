//! Programs in a guest, for hooks after a start: over the guest's agent, as any command.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

use crate::hooks::limits::{GUEST_OUTPUT_BYTES, PIECE_BYTES};
use crate::hooks::{GuestOutput, GuestProgram, GuestPrograms};
use crate::report::Report;
use crate::vm::ports::HookedGuest;
use crate::wire::frame::{Frame, FrameCodec, MAX_PAYLOAD};
use crate::wire::guest::{Exec, Reply};
use crate::wire::window::STDIN_WINDOW;

// All input is sent before any output is read, and the agent takes that much of it without a word.
const _: () = assert!(PIECE_BYTES <= STDIN_WINDOW, "the input of a program fits the window");

/// Runs programs in one guest.
pub(super) struct Programs(pub(super) HookedGuest);

impl GuestPrograms for Programs {
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        let HookedGuest { guest, env } = &self.0;
        async move {
            let GuestProgram { program, arguments, folder, environment, input } = program;
            let mut env = env.clone();
            env.extend(environment);
            let argv = std::iter::once(program.clone()).chain(arguments).collect();
            let exec = Exec { argv, env: env.into_iter().collect(), cwd: folder, tty: None };
            let stream = guest.exec(&exec).await.map_err(|error: Report| error.one_line())?;
            let ended = follow(Framed::new(stream, FrameCodec::default()), input).await;
            ended.map_err(|reason| format!("`{program}`: {reason}"))
        }
        .boxed()
    }
}

/// Gives a program its input and waits for its end. The program gets SIGHUP when this is dropped, because its
/// connection is.
async fn follow(
    mut frames: Framed<impl AsyncRead + AsyncWrite + Unpin, FrameCodec>,
    input: Vec<u8>,
) -> Result<GuestOutput, String> {
    let mut input = Some(Bytes::from(input));
    let (mut stdout, mut stderr) = (Tail::default(), Tail::default());
    while let Some(frame) = frames.next().await {
        let reply = match frame.map_err(|error| error.to_string())? {
            Frame::Stdout(bytes) => {
                stdout.keep(&bytes);
                continue;
            }
            Frame::Stderr(bytes) => {
                stderr.keep(&bytes);
                continue;
            }
            message => message.message().map_err(|error| error.to_string())?,
        };
        match reply {
            Reply::ExecStarted { .. } => {
                // A program that has ended by now takes none, and its end is on its way.
                feed(&mut frames, input.take().unwrap_or_default()).await.ok();
            }
            Reply::StdinTaken { .. } => {}
            Reply::ExecFailed { message, .. } => return Err(message),
            Reply::ExecEnded(status) => {
                return Ok(GuestOutput {
                    status: status.shell_status().into(),
                    truncated: stdout.dropped || stderr.dropped,
                    stdout: stdout.bytes.into(),
                    stderr: stderr.bytes.into(),
                });
            }
            other => return Err(format!("the guest answers something else: {other:?}")),
        }
    }
    Err("the guest does not say how it ended".to_owned())
}

async fn feed(
    frames: &mut Framed<impl AsyncRead + AsyncWrite + Unpin, FrameCodec>,
    mut input: Bytes,
) -> std::io::Result<()> {
    while !input.is_empty() {
        let piece = input.split_to(input.len().min(MAX_PAYLOAD));
        frames.feed(Frame::Stdin(piece)).await?;
    }
    frames.send(Frame::StdinEnd).await
}

/// The end of what a program prints.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    dropped: bool,
}

impl Tail {
    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(GUEST_OUTPUT_BYTES);
        self.bytes.drain(..over);
        self.dropped |= over > 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream};

    use super::*;
    use crate::wire::guest::{ExecFailure, ExecStatus};

    type Agent = Framed<DuplexStream, FrameCodec>;

    fn pair() -> (Agent, Agent) {
        let (ours, theirs) = tokio::io::duplex(4 << 20);
        (Framed::new(ours, FrameCodec::default()), Framed::new(theirs, FrameCodec::default()))
    }

    async fn say(agent: &mut Agent, reply: Reply) {
        agent.send(Frame::control(&reply).expect("JSON")).await.expect("sent");
    }

    /// What comes of a program that prints these frames and ends so.
    async fn ran(printed: Vec<Frame>, end: Reply) -> Result<GuestOutput, String> {
        let (ours, mut agent) = pair();
        say(&mut agent, Reply::ExecStarted { pid: 7 }).await;
        for frame in printed {
            agent.send(frame).await.expect("sent");
        }
        say(&mut agent, end).await;
        follow(ours, Vec::new()).await
    }

    #[tokio::test]
    async fn a_program_ends_as_it_ended_with_what_it_said() {
        let frames = || {
            let stdout = |text: &'static str| Frame::Stdout(text.into());
            vec![stdout("one "), Frame::Stderr("oh".into()), stdout("two")]
        };
        let output = ran(frames(), Reply::ExecEnded(ExecStatus::Exited(3))).await.expect("ended");
        let expected = GuestOutput {
            status: 3,
            stdout: b"one two".to_vec(),
            stderr: b"oh".to_vec(),
            truncated: false,
        };
        assert_eq!(output, expected);
        let output = ran(frames(), Reply::ExecEnded(ExecStatus::Signalled(15))).await;
        assert_eq!(output.expect("ended").status, 143);
        let failed = Reply::ExecFailed {
            reason: ExecFailure::NotFound,
            message: "no such program".to_owned(),
        };
        assert_eq!(ran(Vec::new(), failed).await, Err("no such program".to_owned()));
        ran(Vec::new(), Reply::Done).await.expect_err("that is no end of a program");
    }

    #[tokio::test]
    async fn the_end_of_a_long_output_is_kept() {
        let mut all = vec![b'a'; GUEST_OUTPUT_BYTES];
        all.extend(b"the end");
        let printed = all.chunks(64 << 10).map(|piece| Frame::Stdout(piece.to_vec().into()));
        let end = Reply::ExecEnded(ExecStatus::Exited(0));
        let output = ran(printed.collect(), end).await.expect("ended");
        assert!(output.truncated && output.stdout == all[7..], "{}", output.stdout.len());
        let exactly = vec![Frame::Stderr(all[7..].to_vec().into())];
        let output = ran(exactly, end_well()).await.expect("ended");
        assert!(!output.truncated && output.stderr == all[7..]);
    }

    fn end_well() -> Reply {
        Reply::ExecEnded(ExecStatus::Exited(0))
    }

    #[tokio::test]
    async fn input_arrives_whole_and_ends() {
        let (ours, mut agent) = pair();
        let input: Vec<u8> =
            (0..PIECE_BYTES).map(|at| u8::try_from(at % 251).expect("fits")).collect();
        let give_back = async {
            say(&mut agent, Reply::ExecStarted { pid: 7 }).await;
            let mut taken = Vec::new();
            loop {
                match agent.next().await.expect("more comes").expect("a frame") {
                    Frame::Stdin(piece) => taken.extend(piece),
                    Frame::StdinEnd => break,
                    other => panic!("{other:?}"),
                }
            }
            say(&mut agent, end_well()).await;
            taken
        };
        let (output, taken) = tokio::join!(follow(ours, input.clone()), give_back);
        output.expect("ended");
        assert!(taken == input);
    }

    #[tokio::test]
    async fn a_guest_that_goes_away_is_an_error_and_so_is_nonsense() {
        let (ours, mut agent) = pair();
        say(&mut agent, Reply::ExecStarted { pid: 7 }).await;
        drop(agent);
        let error = follow(ours, Vec::new()).await.expect_err("it never ended");
        assert_eq!(error, "the guest does not say how it ended");
        let error = ran(vec![Frame::DataEnd], end_well()).await.expect_err("no message");
        assert!(error.contains("data-end"), "{error}");
    }

    #[tokio::test]
    async fn the_connection_ends_with_the_future() {
        let (ours, mut agent) = pair();
        say(&mut agent, Reply::ExecStarted { pid: 7 }).await;
        assert!(follow(ours, Vec::new()).now_or_never().is_none(), "it runs");
        let mut rest = Vec::new();
        let mut stream = agent.into_inner();
        stream.read_to_end(&mut rest).await.expect("the end");
    }
}
