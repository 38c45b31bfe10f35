//! The keeper: the process that holds a VM's network namespace. One per VM, started by the daemon as
//! `coved net-keeper VM-ID DESCRIPTOR`, alive until it is killed.
//!
//! ```text
//!  start ── user and network namespace ── listen ── SetUp ──────────── AwaitUplink ── HostAddresses …
//!                                                   lo, TAP, switches,  a default       the set of the
//!                                                   rules               route is there  host's addresses
//! ```
//!
//! It holds the TAP device too, so that it outlives a monitor that is started again. It serves one
//! connection of its own user at a time; when that ends (the daemon was restarted) it takes the next.
//! It knows nothing of VMs but the id, and starts no process but `nft`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use nftables::schema::Nftables;
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::net::{UnixListener, UnixStream};

use super::control::{Channel, Reply, Request};
use super::policy::{self, ResolverTransport};
use super::ranges::Prefix;
use super::{link, namespace};
use crate::id::VmId;
use crate::process::{Tool, ToolError};
use crate::report::causes;
use crate::task::Tasks;

/// The hidden first argument of the daemon's program that makes it a keeper.
pub const ARGUMENT: &str = "net-keeper";

/// In place of a VM's id: set everything up once, and end. How `doctor` finds out what is allowed.
pub(crate) const TRIAL: &str = "trial";

/// Loading rules takes milliseconds; a machine under load takes longer.
const NFT_DEADLINE: Duration = Duration::from_secs(20);

/// Why the keeper could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error("the arguments of the network keeper are wrong")]
    Arguments,
    #[error("cannot make a user and network namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot listen for the daemon")]
    Listen(#[source] io::Error),
    #[error("cannot make the TAP device with `{}`", namespace::TUN)]
    Tap(#[source] io::Error),
    #[error("cannot set a switch of the namespace")]
    Switch(#[source] io::Error),
    #[error("cannot talk to the kernel about links")]
    Netlink(#[source] io::Error),
    #[error("cannot configure `{device}`")]
    Device {
        device: &'static str,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("cannot read the routes of the namespace")]
    Routes(#[source] rtnetlink::Error),
    #[error("cannot load the firewall rules")]
    Rules(#[source] ToolError),
    #[error("the namespace is not set up yet")]
    NotSetUp,
}

/// Runs a keeper. `args` are the program's arguments after [`ARGUMENT`]. To be called before the program
/// has a second thread, so before it makes a runtime.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let chain = [error.to_string()].into_iter().chain(causes(&error));
            let text = chain.collect::<Vec<_>>().join(": ");
            // The daemon reads this as the cause; there is nobody else to tell.
            drop(writeln!(io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = OsString>) -> Result<(), KeeperError> {
    let text = |argument: OsString| argument.into_string().ok();
    let vm = args.next().and_then(text).ok_or(KeeperError::Arguments)?;
    let listener = match vm.as_str() {
        TRIAL => None,
        _ => {
            let number = args.next().and_then(text).and_then(|number| number.parse().ok());
            let number = number.ok_or(KeeperError::Arguments)?;
            Some(crate::process::inherited(number).map_err(KeeperError::Listen)?)
        }
    };
    namespace::enter().map_err(KeeperError::Namespace)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(KeeperError::Listen)?.block_on(async {
        let Some(listener) = listener else {
            let mut keeper = Keeper::new("uplink".to_owned())?;
            return keeper.set_up(ResolverTransport::Udp, &[]).await;
        };
        let vm: VmId = vm.parse().map_err(|_| KeeperError::Arguments)?;
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true).map_err(KeeperError::Listen)?;
        let listener = UnixListener::from_std(listener).map_err(KeeperError::Listen)?;
        let mut keeper = Keeper::new(link::uplink_name(&vm))?;
        loop {
            let (stream, _) = listener.accept().await.map_err(KeeperError::Listen)?;
            keeper.serve(stream).await;
        }
    })
}

struct Keeper {
    uplink: String,
    netlink: Handle,
    /// Something about addresses or routes has changed.
    changes: Changes,
    tap: Option<OwnedFd>,
    /// Drives the netlink connection.
    _tasks: Tasks,
}

type Changes = futures_util::stream::BoxStream<'static, ()>;

impl Keeper {
    fn new(uplink: String) -> Result<Self, KeeperError> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
        let (connection, netlink, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(KeeperError::Netlink)?;
        let tasks = Tasks::default();
        drop(tasks.spawn("netlink", connection));
        let changes = messages.map(drop).boxed();
        Ok(Self { uplink, netlink, changes, tap: None, _tasks: tasks })
    }

    /// Answers one connection until it ends or breaks.
    async fn serve(&mut self, stream: UnixStream) {
        // In this user namespace the one user there is has the id 0.
        let own = nix::unistd::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
            return;
        }
        let mut channel = Channel::new(stream);
        while let Ok(Some(request)) = channel.receive::<Request>().await {
            let gives_tap = matches!(request, Request::SetUp { .. });
            // Cancel-safe: `receive` is; a request that is cut off belongs to a daemon that is gone.
            let answered = tokio::select! {
                answered = self.answer(request) => answered,
                _ = channel.receive::<Request>() => return,
            };
            let sent = match answered {
                Ok(()) => {
                    let tap = self.tap.as_ref().filter(|_| gives_tap).map(AsFd::as_fd);
                    channel.send(&Reply::Done, tap).await
                }
                Err(error) => {
                    let mut why = vec![error.to_string()];
                    why.extend(causes(&error));
                    channel.send(&Reply::Failed { why }, None).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), KeeperError> {
        match request {
            Request::SetUp { resolver, host } => self.set_up(resolver, &host).await,
            Request::AwaitUplink => self.await_uplink().await,
            Request::HostAddresses { .. } if self.tap.is_none() => Err(KeeperError::NotSetUp),
            Request::HostAddresses { host } => load(&policy::host_addresses(&host)).await,
        }
    }

    async fn set_up(
        &mut self,
        resolver: ResolverTransport,
        host: &[Prefix],
    ) -> Result<(), KeeperError> {
        // Rules first: nothing is forwarded without them.
        load(&policy::rules(&self.uplink, resolver, host)).await?;
        namespace::set_switches().map_err(KeeperError::Switch)?;
        let tap = namespace::make_tap(link::TAP).map_err(KeeperError::Tap)?;
        self.bring_up("lo").await?;
        let index = self.bring_up(link::TAP).await?;
        let address = self.netlink.address().add(index, link::GATEWAY.into(), link::PREFIX);
        let device = link::TAP;
        let added = address.execute().await;
        added.map_err(|source| KeeperError::Device { device, source })?;
        self.tap = Some(tap);
        Ok(())
    }

    async fn bring_up(&self, device: &'static str) -> Result<u32, KeeperError> {
        let failed = |source| KeeperError::Device { device, source };
        let mut links = self.netlink.link().get().match_name(device.to_owned()).execute();
        let found = links.try_next().await.map_err(failed)?;
        let index = found.ok_or(failed(rtnetlink::Error::RequestFailed))?.header.index;
        let mut message = LinkUnspec::new_with_index(index).up();
        if device == link::TAP {
            message = message.mtu(link::MTU);
        }
        let set = self.netlink.link().set(message.build()).execute().await;
        set.map_err(failed)?;
        Ok(index)
    }

    /// The default route is the last thing that the uplink configures, and nobody else makes one.
    async fn await_uplink(&mut self) -> Result<(), KeeperError> {
        loop {
            let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
            let mut routes = Box::pin(self.netlink.route().get(every).execute());
            while let Some(route) = routes.try_next().await.map_err(KeeperError::Routes)? {
                if route.header.kind == RouteType::Unicast
                    && route.header.destination_prefix_length == 0
                {
                    return Ok(());
                }
            }
            if self.changes.next().await.is_none() {
                let gone = io::Error::from(io::ErrorKind::BrokenPipe);
                return Err(KeeperError::Netlink(gone));
            }
        }
    }
}

/// Loads a document of rules as one transaction.
async fn load(document: &Nftables<'_>) -> Result<(), KeeperError> {
    let json = serde_json::to_vec(document).expect("rules are plain data");
    let nft = Tool::new("nft").args(["-j", "-f", "-"]).input(json).deadline(NFT_DEADLINE);
    nft.run().await.map(drop).map_err(KeeperError::Rules)
}
