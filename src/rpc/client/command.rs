//! Running a program to its end and keeping what it prints.

use std::io;

use futures_util::{SinkExt as _, Stream, StreamExt as _};

use super::Client;
use crate::report::{Kind, Report};
use crate::wire::frame::Frame;
use crate::wire::guest::{ExecFailure, ExecStatus, Reply};
use crate::wire::rpc::{ExecVm, VmExec};

/// What a program printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// How it ended.
    pub status: ExecStatus,
    /// What it wrote to its standard output. Hostile: escape before showing.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error; with a terminal, that is on standard output.
    pub stderr: Vec<u8>,
}

impl Client {
    /// Runs a program in a guest, with nothing on its standard input, and returns what it printed once it
    /// has ended. `most` bounds both outputs together, in bytes.
    ///
    /// # Errors
    /// When the VM does not run, there is no such program, it prints more than that (it is killed
    /// then), or the connection breaks off.
    pub async fn output(&self, program: ExecVm, most: usize) -> Result<CommandOutput, Report> {
        let ticket = self.call::<VmExec>(program).await?;
        let mut stream = self.open_stream(&ticket).await?;
        // A guest that cannot start the program takes no input; why is what it says instead.
        stream.send(Frame::StdinEnd).await.ok();
        collect(stream, most).await
    }
}

/// Keeps what the program prints until it says how it ended.
async fn collect(
    mut stream: impl Stream<Item = io::Result<Frame>> + Unpin,
    most: usize,
) -> Result<CommandOutput, Report> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(frame) = stream.next().await {
        match frame.map_err(|error| broken_off(&error))? {
            Frame::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Frame::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            control => {
                let reply = control.message().map_err(|error| broken_off(&error))?;
                if let Some(status) = ended(reply)? {
                    return Ok(CommandOutput { status, stdout, stderr });
                }
            }
        }
        // Closing the stream ends the program.
        if stdout.len() + stderr.len() > most {
            let message = format!("the program printed more than {most} bytes");
            return Err(Report::new(Kind::Refused, message));
        }
    }
    Err(Report::new(Kind::Unreachable, "the program's stream ended before the program"))
}

/// How the program ended, if this says so. What the agent says of an input that is closed does not
/// matter.
fn ended(reply: Reply) -> Result<Option<ExecStatus>, Report> {
    match reply {
        Reply::ExecEnded(status) => Ok(Some(status)),
        Reply::ExecFailed { reason, message } => {
            let kind = match reason {
                ExecFailure::NotFound => Kind::NotFound,
                ExecFailure::NotExecutable => Kind::Invalid,
                ExecFailure::Other => Kind::Failed,
            };
            let cause = io::Error::other(message);
            Err(Report::new(kind, "the program could not be started").with_cause(&cause))
        }
        Reply::Failed { step, message } => {
            let cause = io::Error::other(message);
            Err(Report::new(Kind::Failed, format!("{step} failed in the guest")).with_cause(&cause))
        }
        _ => Ok(None),
    }
}

fn broken_off(error: &io::Error) -> Report {
    Report::new(Kind::Unreachable, "the program's stream broke off").with_cause(error)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    async fn check(frames: Vec<Frame>, most: usize) -> Result<CommandOutput, Report> {
        collect(stream::iter(frames.into_iter().map(Ok)), most).await
    }

    fn say(reply: &Reply) -> Frame {
        Frame::control(reply).expect("fits")
    }

    fn started() -> Frame {
        say(&Reply::ExecStarted { pid: 7 })
    }

    fn out(text: &'static str) -> Frame {
        Frame::Stdout(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn what_is_printed_is_kept_apart_until_the_end() {
        let error = Frame::Stderr(Bytes::from_static(b"oh"));
        let end = say(&Reply::ExecEnded(ExecStatus::Exited(3)));
        let output = check(vec![started(), out("a"), error, out("b"), end], 4).await;
        let wanted = CommandOutput {
            status: ExecStatus::Exited(3),
            stdout: b"ab".to_vec(),
            stderr: b"oh".to_vec(),
        };
        assert_eq!(output, Ok(wanted));
    }

    #[tokio::test]
    async fn every_other_end_is_an_error_with_its_kind() {
        let missing =
            Reply::ExecFailed { reason: ExecFailure::NotFound, message: "no such file".to_owned() };
        for (frames, kind) in [
            (vec![say(&missing)], Kind::NotFound),
            (vec![started(), out("too much")], Kind::Refused),
            (vec![started(), out("cut")], Kind::Unreachable),
            (vec![started(), Frame::StdinEnd], Kind::Unreachable),
            (vec![], Kind::Unreachable),
        ] {
            let error = check(frames, 4).await.expect_err("no output");
            assert_eq!(error.kind, kind, "{error:?}");
        }
    }
}
