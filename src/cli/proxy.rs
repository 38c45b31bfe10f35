//! `cove proxy`: ssh's way to a VM. Joins stdin and stdout, which are ssh's, with an ssh server in the guest
//! that is there for this connection alone.
//!
//! ```text
//!  ssh ══ stdin, stdout ══ cove proxy ══ daemon ══ agent ══ sshd -i
//!    └─ KnownHostsCommand: cove proxy --known-hosts, which says what key that sshd is to show
//! ```
//!
//! When ssh is gone its pipe ends, and the server has a moment to end by itself; a signal ends this process at
//! once, and the server with it. What the server prints besides is shown only when it never began to talk to
//! ssh: after that ssh says what is wrong.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::report::{Kind, Report, escape_control};
use crate::rpc::client::{ByteStream, Client};
use crate::wire::frame::Frame;
use crate::wire::guest::{ExecStatus, Reply};
use crate::wire::rpc::{SshVm, StreamTicket, VmRef, VmShow, VmSsh};

use super::completion::vm_names;
use super::connect::{connect, paths};
use super::failure::Failure;
use super::output::{failed, print, say};
use super::session::{Shared, guest_failure, message, out_of_turn};
use super::ssh::{OwnKey, SUFFIX};
use super::stdio::{Writer, read_stdin};

/// How long the server may take to end when ssh is gone.
const GRACE: Duration = Duration::from_secs(2);

/// How much of what the server prints is kept, in bytes.
const MAX_WORDS: usize = 4 * 1024;

/// What a shell ends with when there is no such program, or it cannot be executed.
const NO_PROGRAM: [u8; 2] = [126, 127];

/// Arguments of `cove proxy`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id; `.cove` may follow
    #[arg(add = vm_names())]
    vm: String,
    /// Print the VM's host key as a line of a known_hosts file, and do nothing else
    #[arg(long)]
    known_hosts: bool,
    /// Let the VM use the agent that ssh forwards; `cove ssh --ssh-agent` says which of its keys
    #[arg(long, conflicts_with = "known_hosts")]
    forward_agent: bool,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let vm = self.vm.strip_suffix(SUFFIX).unwrap_or(&self.vm).to_owned();
        let client = connect().await?;
        match self.known_hosts {
            true => known_hosts(&client, vm).await,
            false => {
                let forward_agent = self.forward_agent;
                carry(&client, SshVm { vm, authorized_key: None, forward_agent }).await
            }
        }
    }
}

/// Prints the line. It is for whatever name ssh has for the VM: it asked for this one alone.
async fn known_hosts(client: &Client, vm: String) -> Result<u8, Failure> {
    let vm = client.call::<VmShow>(VmRef { vm }).await?;
    let key = vm.ssh_host_key.ok_or_else(|| {
        Report::new(Kind::Conflict, "the daemon is older than this program, and tells no host keys")
            .with_hint("`cove daemon stop`; the next command starts the new one")
    })?;
    print(&format!("* {key}"))?;
    Ok(0)
}

async fn carry(client: &Client, wanted: SshVm) -> Result<u8, Failure> {
    let key = OwnKey::ensure(&paths()?)?;
    let vm = wanted.vm.clone();
    let wanted = SshVm { authorized_key: Some(key.public), ..wanted };
    let given = client.call::<VmSsh>(wanted).await?;
    if !given.env_left_out.is_empty() {
        let names = escape_control(&given.env_left_out.join(", "));
        say(&format!("warning: too long together, and not in ssh sessions: {names}"));
    }
    let stream = client.open_stream(&StreamTicket { ticket: given.ticket }).await?;
    let end = join(stream).await?;
    end.judged(&vm)?;
    Ok(0)
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody is left to talk to the server.
    SshGone,
    /// The server ended after it had said something to ssh, which knows the rest.
    AfterWords,
    /// The server ended without a word to ssh.
    Silent {
        /// How it ended.
        status: ExecStatus,
        /// What it printed.
        printed: String,
    },
    /// Not even its shell could be started.
    NotStarted {
        /// What the guest says about it.
        message: String,
    },
}

impl End {
    fn judged(self, vm: &str) -> Result<(), Report> {
        let (status, printed) = match self {
            Self::SshGone | Self::AfterWords => return Ok(()),
            Self::Silent { status, printed } => (status, printed),
            Self::NotStarted { message } => {
                let text = format!("the ssh server of `{vm}` cannot be started");
                let mut report = Report::new(Kind::Failed, text);
                report.cause.push(message);
                return Err(report);
            }
        };
        let missing = matches!(status, ExecStatus::Exited(code) if NO_PROGRAM.contains(&code));
        let mut report = if missing {
            Report::new(Kind::NotFound, format!("there is no ssh server in `{vm}`")).with_hint(
                format!("install `openssh-server` in it (/usr/sbin/sshd), or use `cove exec {vm}`"),
            )
        } else {
            let how = match status {
                ExecStatus::Exited(code) => format!("with status {code}"),
                ExecStatus::Signalled(signal) => format!("by signal {signal}"),
            };
            Report::new(Kind::Failed, format!("the ssh server of `{vm}` ended {how} at once"))
        };
        report.cause.extend((!printed.is_empty()).then_some(printed));
        Err(report)
    }
}

/// Joins the server to this process's stdin and stdout until one of both ends.
async fn join(stream: ByteStream) -> Result<End, Report> {
    let no_streams = |error| failed("cannot use the standard streams", &error);
    let mut stdout = Writer::stdout().map_err(no_streams)?;
    let stdin = read_stdin().map_err(no_streams)?;
    let (sink, source) = stream.split();
    let (shared, gone) = (Shared::default(), Cell::new(false));
    let end = tokio::select! {
        // Whichever ends first ends the connection.
        end = receive(source, &mut stdout, &shared, &gone) => end?,
        left = send(sink, stdin, &shared, &gone) => {
            left.map_err(|error| failed("cannot listen to signals", &error))?;
            End::SshGone
        }
    };
    match tokio::time::timeout(GRACE, stdout.finish()).await {
        Ok(Ok(())) => Ok(end),
        // It does not read to the end.
        Ok(Err(_)) | Err(_) => Ok(End::SshGone),
    }
}

/// Hands what the server says on to ssh, until the server ends or ssh is `gone`.
async fn receive(
    mut source: SplitStream<ByteStream>,
    stdout: &mut Writer,
    shared: &Shared,
    gone: &Cell<bool>,
) -> Result<End, Report> {
    let (mut spoken, mut printed) = (false, Vec::new());
    loop {
        let frame = tokio::select! {
            biased;
            // Both arms are cancel-safe: a failure is waited for by reference, a frame stays in the stream.
            _ = stdout.failure() => return Ok(End::SshGone),
            frame = source.next() => frame,
        };
        match frame {
            Some(Ok(Frame::Stdout(bytes))) => {
                spoken = true;
                if stdout.write(bytes).await.is_err() {
                    return Ok(End::SshGone);
                }
            }
            Some(Ok(Frame::Stderr(bytes))) => {
                let room = MAX_WORDS.saturating_sub(printed.len());
                printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            // The VM may go right after the last session.
            None | Some(Err(_)) if gone.get() => return Ok(End::SshGone),
            other => match message(other)? {
                Reply::ExecStarted { .. } => {}
                Reply::StdinTaken { bytes } => shared.open(bytes)?,
                Reply::ExecEnded(_) if spoken => return Ok(End::AfterWords),
                Reply::ExecEnded(status) => {
                    let printed = String::from_utf8_lossy(&printed).trim().to_owned();
                    return Ok(End::Silent { status, printed });
                }
                Reply::ExecFailed { message, .. } => return Ok(End::NotStarted { message }),
                Reply::Failed { step, message } => return Err(guest_failure(&step, message)),
                Reply::Health(_)
                | Reply::Stats(_)
                | Reply::Listening(_)
                | Reply::Done
                | Reply::TreeFailed { .. }
                | Reply::Copying { .. }
                | Reply::Copied(_)
                | Reply::CopyFailed { .. }
                | Reply::ExecDetached { .. }
                | Reply::ExecAttached(_)
                | Reply::Detached(_)
                | Reply::Connected
                | Reply::ConnectFailed { .. } => return Err(out_of_turn()),
            },
        }
    }
}

/// Hands what ssh says on to the server; notes when ssh is `gone`, and returns a moment later.
async fn send(
    mut sink: SplitSink<ByteStream, Frame>,
    mut stdin: mpsc::Receiver<Bytes>,
    shared: &Shared,
    gone: &Cell<bool>,
) -> std::io::Result<()> {
    // So ssh says that it ends. Its pipe ends at the same time, and what is in that is still handed on.
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut carry = std::pin::pin!(async {
        loop {
            let chunk = shared.next_chunk(&mut stdin).await;
            let last = chunk.is_none();
            gone.set(gone.get() || last);
            let sent = sink.send(chunk.map_or(Frame::StdinEnd, Frame::Stdin)).await;
            // Why sending failed is found out by the other direction.
            if last || sent.is_err() {
                return;
            }
        }
    });
    let hung_up = tokio::select! {
        // Carrying goes on where it was.
        () = &mut carry => false,
        _ = hang_up.recv() => true,
    };
    let over = Instant::now() + GRACE;
    if hung_up {
        gone.set(true);
        tokio::time::timeout_at(over, carry).await.ok();
    }
    tokio::time::sleep_until(over).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: ExecStatus, printed: &str) -> Report {
        let end = End::Silent { status, printed: printed.to_owned() };
        end.judged("web").expect_err("a failure")
    }

    #[test]
    fn a_server_without_a_word_is_explained_and_one_that_spoke_is_not() {
        for quiet in [End::SshGone, End::AfterWords] {
            quiet.judged("web").expect("ssh says what there is to say");
        }
        for status in [126, 127] {
            let report = judged(ExecStatus::Exited(status), "sh: not found");
            assert_eq!(
                (report.kind, &report.cause[..]),
                (Kind::NotFound, &["sh: not found".into()][..])
            );
            assert!(report.hint.is_some_and(|hint| hint.contains("cove exec web")));
        }
        let report = judged(ExecStatus::Exited(1), "");
        assert_eq!(report.one_line(), "the ssh server of `web` ended with status 1 at once");
        let report = judged(ExecStatus::Signalled(9), "no room");
        assert_eq!(report.one_line(), "the ssh server of `web` ended by signal 9 at once: no room");
        let not_started = End::NotStarted { message: "no `sh`".to_owned() };
        let report = not_started.judged("web").expect_err("a failure");
        assert_eq!(report.one_line(), "the ssh server of `web` cannot be started: no `sh`");
    }
}
