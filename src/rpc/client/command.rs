//! Running a program to its end and keeping what it prints.

use futures_util::{SinkExt as _, StreamExt as _};

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
        stream.send(Frame::StdinEnd).await.map_err(|error| broken_off(&error))?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(frame) = stream.next().await {
            let frame = frame.map_err(|error| broken_off(&error))?;
            match frame {
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
            let cause = std::io::Error::other(message);
            Err(Report::new(kind, "the program could not be started").with_cause(&cause))
        }
        Reply::Failed { step, message } => {
            let cause = std::io::Error::other(message);
            Err(Report::new(Kind::Failed, format!("{step} failed in the guest")).with_cause(&cause))
        }
        _ => Ok(None),
    }
}

fn broken_off(error: &std::io::Error) -> Report {
    Report::new(Kind::Unreachable, "the program's stream broke off").with_cause(error)
}
