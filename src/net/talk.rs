//! The conversation with a keeper: the host's addresses as they change, and questions in between.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use super::KILL_DEADLINE;
use super::bridged::Bridged;
use super::control::{Channel, Reply, Request, SOCKET};
use super::error::{NetError, Said};
use super::hosts::HostAddresses;
use super::ranges::Prefix;
use crate::id::VmId;
use crate::process::{Process, ProcessId, ShortFolder};
use crate::report::{Kind, Report};

/// One change of the firewall takes milliseconds.
const UPDATE_DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait before a keeper that lives but did not answer is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// Connects to the keeper in `folder`. A Unix socket's queue answers, so this needs no deadline.
pub(super) async fn connect(folder: &Path) -> Result<Channel, NetError> {
    let connect = async {
        let short = ShortFolder::open(folder)?;
        UnixStream::connect(short.path_of(SOCKET)).await.map(Channel::new)
    };
    let connected = connect.await;
    connected.map_err(|source| NetError::Socket { folder: folder.to_owned(), source })
}

/// Asks one question.
pub(super) async fn ask(channel: &mut Channel, request: &Request) -> io::Result<Reply> {
    channel.send(request, None).await?;
    channel.receive().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A keeper that answers another question than it was asked.
pub(super) fn another_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question")
}

/// Asks one question over a connection of its own. `step` is what it is for, `wait` how long the keeper
/// may take on purpose.
pub(super) async fn ask_once(
    folder: &Path,
    request: &Request,
    step: &'static str,
    wait: Duration,
) -> Result<Reply, NetError> {
    let mut channel = connect(folder).await?;
    let deadline = UPDATE_DEADLINE + wait;
    match tokio::time::timeout(deadline, ask(&mut channel, request)).await {
        Ok(Ok(Reply::Failed { why })) => Err(NetError::Keeper { step, said: Said::chain(why) }),
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(NetError::Connection(error)),
        Err(_) => Err(NetError::Silent { step, deadline }),
    }
}

/// What carries a VM's traffic.
#[derive(Clone)]
pub(super) enum Uplink {
    /// A process.
    Pasta(ProcessId),
    /// A port of the bridge.
    Port(Arc<Bridged>),
}

impl Uplink {
    /// Logs that a process which carries a VM's traffic has ended. Never done: the VM goes on without.
    async fn tell_its_end(&self, vm: &VmId) {
        if let Self::Pasta(pasta) = self {
            let ended = match Process::open(*pasta) {
                Ok(Some(process)) => process.ended().await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            // Whoever stops the VM ends its keeper next, and with that this waiting.
            tokio::time::sleep(RETRY).await;
            match ended {
                Ok(()) => tracing::error!(%vm, "the network's uplink has ended; restart the VM"),
                Err(error) => tracing::warn!(%vm, %error, "the uplink cannot be watched"),
            }
        }
        std::future::pending().await
    }
}

/// Telling one keeper the host's addresses as they change.
pub(super) struct Telling {
    pub(super) folder: PathBuf,
    pub(super) keeper: ProcessId,
    pub(super) uplink: Uplink,
    pub(super) channel: Option<Channel>,
    /// What the keeper knows.
    pub(super) told: Option<Arc<Vec<Prefix>>>,
    pub(super) host: HostAddresses,
}

impl Telling {
    /// Goes on until the keeper is gone, and then ends the uplink: rather no network than rules that
    /// nobody keeps up to date. A keeper that lives and does not answer is asked again.
    pub(super) async fn run(mut self, vm: &VmId) {
        let uplink = self.uplink.clone();
        // Both may be dropped: the one only waits, and the other is over then.
        tokio::select! {
            () = self.follow(vm) => {}
            () = uplink.tell_its_end(vm) => {}
        }
        if let Err(error) = self.end_uplink(vm).await {
            let error = error.one_line();
            tracing::error!(%vm, error, "the network's uplink is left without its keeper");
        }
    }

    async fn follow(&mut self, vm: &VmId) {
        loop {
            let broken = self.talk().await;
            match self.keeper_ended().await {
                Ok(true) => break,
                Ok(false) => tracing::warn!(%vm, %broken, "the network keeper is asked again"),
                Err(error) => {
                    tracing::error!(%vm, %error, "the network keeper cannot be watched");
                    break;
                }
            }
        }
    }

    async fn end_uplink(&self, vm: &VmId) -> Result<(), Report> {
        let report = |error: io::Error| Report::new(Kind::Failed, error.to_string());
        match &self.uplink {
            Uplink::Port(bridged) => bridged.detach_without(vm, self.keeper).await,
            Uplink::Pasta(pasta) => match Process::open(*pasta).map_err(report)? {
                Some(pasta) => pasta.kill(KILL_DEADLINE).await.map_err(report),
                None => Ok(()),
            },
        }
    }

    /// Whether the keeper is gone, or goes within [`RETRY`].
    async fn keeper_ended(&self) -> io::Result<bool> {
        match Process::open(self.keeper)? {
            Some(process) => Ok(tokio::time::timeout(RETRY, process.ended()).await.is_ok()),
            None => Ok(true),
        }
    }

    /// Talks until the connection breaks, and says how.
    async fn talk(&mut self) -> io::Error {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => match connect(&self.folder).await {
                Ok(channel) => channel,
                Err(error) => return io::Error::other(error),
            },
        };
        loop {
            let now = self.host.borrow_and_update().clone();
            if let Some(host) = now.filter(|now| self.told.as_ref() != Some(now)) {
                let request = Request::HostAddresses { host: host.to_vec() };
                match tokio::time::timeout(UPDATE_DEADLINE, ask(&mut channel, &request)).await {
                    Ok(Ok(Reply::Done)) => self.told = Some(host),
                    Ok(Ok(Reply::Failed { why })) => return io::Error::other(why.join(": ")),
                    Ok(Ok(Reply::Explained(_) | Reply::Denied(_))) => return another_answer(),
                    Ok(Err(error)) => return error,
                    Err(_) => return io::ErrorKind::TimedOut.into(),
                }
            }
            // Cancel-safe: a change stays marked until it is taken, and the keeper says nothing unasked,
            // so that anything from it, its end above all, ends this conversation.
            tokio::select! {
                changed = self.host.changed() => if changed.is_err() {
                    return io::Error::other("the host's addresses are not followed any more");
                },
                _ = channel.receive::<Reply>() => return io::ErrorKind::ConnectionAborted.into(),
            }
        }
    }
}
