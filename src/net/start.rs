//! Starting one VM's network step by step.
//!
//! ```text
//!  listen ── intend keeper ── keeper ── made ── SetUp → TAP
//!        ── user:   intend uplink ── pasta ── made ── AwaitUplink → up
//!        └─ bridge: intend port ── port ── AwaitUplink → up ── name, peers
//! ```

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::bridged::{Bridged, Living, Place};
use super::control::{Channel, Reply, Request, SOCKET};
use super::error::{NetError, Said};
use super::ranges::Prefix;
use super::talk::{another_answer, ask, connect};
use super::way::Way;
use super::{KILL_DEADLINE, keeper, uplink};
use crate::egress::{DnsName, Policy};
use crate::id::VmId;
use crate::process::{Process, ProcessId, Servant, ServantOutput, ShortFolder};
use crate::vm::ledger::{Ledger, ResourceKind};

/// Namespaces, a device and rules: 50 ms on an idle machine, seconds on one that boots ten guests.
const SET_UP_DEADLINE: Duration = Duration::from_secs(30);

/// pasta configures its end within 30 ms on an idle machine.
const UPLINK_DEADLINE: Duration = Duration::from_secs(30);

/// A process whose socket has closed is about to end; this long for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The number under which the keeper gets its socket.
const KEEPER_SOCKET: i32 = 3;

/// What carries the traffic of a namespace.
#[derive(Clone, Copy)]
pub(super) enum Carrier<'a> {
    /// A pasta of its own.
    Pasta,
    /// The bridge, from this place.
    Bridge(&'a Bridged, &'a Place),
}

/// A network that is up.
pub(super) struct Up {
    /// The TAP device.
    pub(super) tap: OwnedFd,
    /// The connection to the keeper.
    pub(super) channel: Channel,
    /// The process that carries the traffic, where one does.
    pub(super) pasta: Option<ProcessId>,
}

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

    /// Every step.
    pub(super) async fn run(
        &mut self,
        coved: &Path,
        ways: (&Way, &DnsName),
        told: (&[Prefix], &Policy),
        carrier: Carrier<'_>,
    ) -> Result<Up, NetError> {
        let (tap, mut channel) = self.set_up(coved, ways, told).await?;
        let pasta = match carrier {
            Carrier::Pasta => Some(self.by_pasta(&mut channel).await?),
            Carrier::Bridge(bridged, place) => {
                self.by_bridge(bridged, (place, ways.0), &mut channel).await?;
                None
            }
        };
        Ok(Up { tap, channel, pasta })
    }

    /// The steps up to the uplink. Returns the TAP device and the connection to the keeper.
    async fn set_up(
        &mut self,
        coved: &Path,
        (way, zone): (&Way, &DnsName),
        (host, policy): (&[Prefix], &Policy),
    ) -> Result<(OwnedFd, Channel), NetError> {
        let listener = listen(self.folder)?;
        let arguments = [keeper::ARGUMENT, self.vm.as_str(), &KEEPER_SOCKET.to_string()];
        let arguments = arguments.map(OsString::from).into();
        let sockets = vec![(listener.into(), KEEPER_SOCKET)];
        self.spawn(ResourceKind::NetworkKeeper, coved, arguments, sockets).await?;

        let mut channel = match connect(self.folder).await {
            Ok(channel) => channel,
            // One that ends at once takes its socket with it.
            Err(error) => return Err(self.end_or("network keeper", error).await),
        };
        let (host, policy) = (host.to_vec(), policy.clone());
        let request = Request::SetUp { way: way.clone(), zone: zone.clone(), host, policy };
        let set_up = self.step("network keeper", "set up the namespace", SET_UP_DEADLINE, async {
            ask(&mut channel, &request).await
        });
        set_up.await?;
        let no_tap = || io::Error::new(io::ErrorKind::InvalidData, "no TAP device came");
        let tap = channel.take_descriptor().ok_or_else(no_tap).map_err(NetError::Connection)?;
        Ok((tap, channel))
    }

    /// The keeper, which runs.
    fn keeper(&self) -> ProcessId {
        self.started[0].0.id()
    }

    /// Has pasta carry the traffic.
    async fn by_pasta(&mut self, channel: &mut Channel) -> Result<ProcessId, NetError> {
        let arguments = uplink::arguments(self.vm, self.keeper().pid);
        let program = Path::new(uplink::PROGRAM);
        self.spawn(ResourceKind::Uplink, program, arguments, Vec::new()).await?;
        let up = self.step("uplink", "see the uplink", UPLINK_DEADLINE, async {
            ask(channel, &Request::AwaitUplink).await
        });
        up.await?;
        Ok(self.started[1].0.id())
    }

    /// Gives it a port of the bridge. What is left of that after a failure is in the ledger.
    async fn by_bridge(
        &mut self,
        bridged: &Bridged,
        (place, way): (&Place, &Way),
        channel: &mut Channel,
    ) -> Result<(), NetError> {
        self.ledger.intend(ResourceKind::BridgePort).await.map_err(NetError::Ledger)?;
        bridged.attach(self.vm, place, self.keeper()).await?;
        let up = self.step("network keeper", "join the bridge", UPLINK_DEADLINE, async {
            ask(channel, &Request::AwaitUplink).await
        });
        up.await?;
        let living = Living {
            vm: self.vm.clone(),
            folder: self.folder.to_owned(),
            place: place.clone(),
            addresses: way.guest_network(self.vm).addresses(),
            keeper: Some(self.keeper()),
        };
        bridged.enter(living).await;
        Ok(())
    }

    /// Lets go of what was started: it is up. Returns the keeper.
    pub(super) fn finish(mut self) -> ProcessId {
        let keeper = self.keeper();
        self.started.clear();
        keeper
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
        let ended = |_| NetError::ended(what, Said::by(output));
        // Cancel-safe: on either arm the whole start is over, or the other arm is not needed again.
        let answer = tokio::select! {
            answer = tokio::time::timeout(deadline, work) => answer,
            end = process.ended() => return Err(ended(end)),
        };
        match answer {
            Ok(Ok(Reply::Done)) => Ok(()),
            Ok(Ok(Reply::Explained(_) | Reply::Denied(_))) => {
                Err(NetError::Connection(another_answer()))
            }
            Ok(Ok(Reply::Failed { why })) => Err(NetError::Keeper { step, said: Said::chain(why) }),
            Ok(Err(broken)) => Err(self.end_or(what, NetError::Connection(broken)).await),
            Err(_) => Err(NetError::TimedOut { step, deadline, said: Said::by(output) }),
        }
    }

    /// Why the process that was started last (`what`) cannot be talked to: its end, or else `broken`.
    async fn end_or(&self, what: &'static str, broken: NetError) -> NetError {
        let (process, output) = self.started.last().expect("it was started");
        match tokio::time::timeout(LAST_WORDS, process.ended()).await {
            Ok(_) => NetError::ended(what, Said::by(output)),
            Err(_) => broken,
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
