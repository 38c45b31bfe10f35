//! Starting one VM's network step by step, and the conversation with its keeper after that.
//!
//! ```text
//!  listen ── intend keeper ── keeper ── made ── SetUp → TAP
//!        ── intend uplink ── pasta ── made ── AwaitUplink → up
//! ```

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixStream;

use super::control::{Channel, Reply, Request, SOCKET};
use super::error::{NetError, Said};
use super::hosts::HostAddresses;
use super::policy::ResolverTransport;
use super::ranges::Prefix;
use super::{KILL_DEADLINE, keeper, uplink};
use crate::id::VmId;
use crate::process::{Process, ProcessId, Servant, ServantOutput, ShortFolder};
use crate::vm::ledger::{Ledger, ResourceKind};

/// Namespaces, a device and `nft`: 50 ms on an idle machine, seconds on one that boots ten guests.
const SET_UP_DEADLINE: Duration = Duration::from_secs(30);

/// pasta configures its end within 30 ms on an idle machine.
const UPLINK_DEADLINE: Duration = Duration::from_secs(30);

/// Replacing a set is one run of `nft`.
const UPDATE_DEADLINE: Duration = Duration::from_secs(30);

/// A process whose socket has closed is about to end; this long for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long to wait before a keeper that lives but did not answer is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// The number under which the keeper gets its socket.
const KEEPER_SOCKET: i32 = 3;

/// A network on its way up. What it has started dies with it, unless it is finished.
pub(super) struct Starting<'a> {
    vm: &'a VmId,
    folder: &'a Path,
    ledger: &'a dyn Ledger,
    path: &'a OsStr,
    started: Vec<(Process, ServantOutput)>,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        for (process, _) in &self.started {
            // Cancelled: nobody is left to be told. Recovery knows the process from the ledger.
            drop(process.signal(Signal::KILL));
        }
    }
}

impl<'a> Starting<'a> {
    pub(super) fn new(
        vm: &'a VmId,
        folder: &'a Path,
        ledger: &'a dyn Ledger,
        path: &'a OsStr,
    ) -> Self {
        Self { vm, folder, ledger, path, started: Vec::new() }
    }

    /// Every step. Returns the TAP device and the connection to the keeper.
    pub(super) async fn run(
        &mut self,
        coved: &Path,
        resolver: ResolverTransport,
        host: &[Prefix],
    ) -> Result<(OwnedFd, Channel), NetError> {
        let listener = listen(self.folder)?;
        let arguments = [keeper::ARGUMENT, self.vm.as_str(), &KEEPER_SOCKET.to_string()];
        let arguments = arguments.map(OsString::from).into();
        let sockets = vec![(listener.into(), KEEPER_SOCKET)];
        self.spawn(ResourceKind::NetworkKeeper, coved, arguments, sockets).await?;

        let mut channel = connect(self.folder).await?;
        let request = Request::SetUp { resolver, host: host.to_vec() };
        let set_up = self.step("network keeper", "set up the namespace", SET_UP_DEADLINE, async {
            ask(&mut channel, &request).await
        });
        set_up.await?;
        let no_tap = || io::Error::new(io::ErrorKind::InvalidData, "no TAP device came");
        let tap = channel.take_descriptor().ok_or_else(no_tap).map_err(NetError::Connection)?;

        let keeper = self.started[0].0.id().pid;
        let arguments = uplink::arguments(self.vm, keeper);
        let program = Path::new(uplink::PROGRAM);
        self.spawn(ResourceKind::Uplink, program, arguments, Vec::new()).await?;
        let up = self.step("uplink", "see the uplink", UPLINK_DEADLINE, async {
            ask(&mut channel, &Request::AwaitUplink).await
        });
        up.await?;
        Ok((tap, channel))
    }

    /// Lets go of what was started: it is up.
    pub(super) fn finish(mut self) -> (ProcessId, ProcessId) {
        let ids: Vec<ProcessId> = self.started.drain(..).map(|(process, _)| process.id()).collect();
        (ids[0], ids[1])
    }

    /// Ends what was started, and returns why it has to.
    pub(super) async fn undo(mut self, error: NetError) -> NetError {
        let mut left = Vec::new();
        for (process, _) in self.started.drain(..).rev() {
            if let Err(error) = process.kill(KILL_DEADLINE).await {
                left.push(error.to_string());
            }
        }
        if left.is_empty() {
            return error;
        }
        NetError::Undo { left: left.join("; "), source: Box::new(error) }
    }

    async fn spawn(
        &mut self,
        kind: ResourceKind,
        program: &Path,
        args: Vec<OsString>,
        descriptors: Vec<(OwnedFd, i32)>,
    ) -> Result<(), NetError> {
        self.ledger.intend(kind).await.map_err(NetError::Ledger)?;
        let servant = Servant {
            program: program.to_owned(),
            args,
            folder: "/".into(),
            env: vec![("PATH".into(), self.path.to_owned())],
            descriptors,
        };
        let started = servant
            .spawn()
            .map_err(|source| NetError::Start { program: program.display().to_string(), source })?;
        let id = started.0.id();
        self.started.push(started);
        self.ledger.made(kind, id).await.map_err(NetError::Ledger)
    }

    /// Waits for `work`, as long as the process that was started last (`what`) lives.
    async fn step(
        &self,
        what: &'static str,
        step: &'static str,
        deadline: Duration,
        work: impl Future<Output = io::Result<Reply>>,
    ) -> Result<(), NetError> {
        let (process, output) = self.started.last().expect("a step follows a start");
        let ended = |_| NetError::Ended { what, said: Said::by(output) };
        // Cancel-safe: on either arm the whole start is over, or the other arm is not needed again.
        let answer = tokio::select! {
            answer = tokio::time::timeout(deadline, work) => answer,
            end = process.ended() => return Err(ended(end)),
        };
        match answer {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(Reply::Failed { why })) => Err(NetError::Keeper { step, said: Said::chain(why) }),
            Ok(Err(broken)) => match tokio::time::timeout(LAST_WORDS, process.ended()).await {
                Ok(end) => Err(ended(end)),
                Err(_) => Err(NetError::Connection(broken)),
            },
            Err(_) => Err(NetError::TimedOut { step, deadline, said: Said::by(output) }),
        }
    }
}

/// Listens in the VM's folder on behalf of the keeper, in place of what an earlier one left there.
fn listen(folder: &Path) -> Result<UnixListener, NetError> {
    let listen = || {
        match std::fs::remove_file(folder.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(ShortFolder::open(folder)?.path_of(SOCKET))
    };
    listen().map_err(|source| NetError::Socket { folder: folder.to_owned(), source })
}

/// Connects to the keeper in `folder`. A Unix socket's queue answers, so this needs no deadline.
pub(super) async fn connect(folder: &Path) -> Result<Channel, NetError> {
    let connect = async {
        let short = ShortFolder::open(folder)?;
        UnixStream::connect(short.path_of(SOCKET)).await.map(Channel::new)
    };
    let connected = connect.await;
    connected.map_err(|source| NetError::Socket { folder: folder.to_owned(), source })
}

async fn ask(channel: &mut Channel, request: &Request) -> io::Result<Reply> {
    channel.send(request, None).await?;
    channel.receive().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Telling one keeper the host's addresses as they change.
pub(super) struct Telling {
    pub(super) folder: PathBuf,
    pub(super) keeper: ProcessId,
    pub(super) uplink: ProcessId,
    pub(super) channel: Option<Channel>,
    /// What the keeper knows.
    pub(super) told: Option<Arc<Vec<Prefix>>>,
    pub(super) host: HostAddresses,
}

impl Telling {
    /// Goes on until the keeper is gone, and then ends the uplink: rather no network than rules that
    /// nobody keeps up to date. A keeper that lives and does not answer is asked again.
    pub(super) async fn run(mut self, vm: &VmId) {
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
        let ended = match Process::open(self.uplink) {
            Ok(Some(uplink)) => uplink.kill(KILL_DEADLINE).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::error!(%vm, %error, "the network's uplink is left without its keeper");
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
