//! The keeper: the process that holds a VM's network namespace. One per VM, started by the daemon as
//! `coved net-keeper VM-ID DESCRIPTOR`, alive until it is killed.
//!
//! ```text
//!  start ── user and network namespace ── listen ── SetUp ──────────── AwaitUplink ── HostAddresses …
//!                                                   rules, lo, TAP,     a default       Policy … Peers …
//!                                                   switches            route is there  Explain … Denials …
//! ```
//!
//! It holds the TAP device too, so that it outlives a monitor that is started again. It serves a few
//! connections of its own user at a time (`serve.rs`); the firewall is changed by one task
//! (`firewall.rs`), and what everybody decides on is in one place (`known.rs`). The guest it answers about
//! names, and carries its TLS connections where only a name allows them (`naming.rs`), which in mode
//! `user` leave by sockets that one thread makes in the host's network (`outside.rs`). It knows nothing of VMs but the id, and starts
//! no process.

mod answers;
mod denials;
mod explain;
mod firewall;
mod known;
mod links;
mod log;
mod naming;
mod outside;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::firewall::FirewallError;
use self::outside::Outside;
use self::serve::Keeper;
use super::bridge::InsideError;
use super::namespace;
use super::rules::ResolverTransport;
use super::way::Way;
use crate::egress::Policy;
use crate::id::VmId;
use crate::report::with_causes;

/// The hidden first argument of the daemon's program that makes it a keeper.
pub const ARGUMENT: &str = "net-keeper";

/// In place of a VM's id: set everything up once, and end. How `doctor` finds out what is allowed.
pub(crate) const TRIAL: &str = "trial";

/// How many descriptors a keeper may come to have.
const DESCRIPTORS: u64 = 2048;

/// Why the keeper could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error("the arguments of the network keeper are wrong")]
    Arguments,
    #[error("cannot make a user and network namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot start the thread that stays in the host's network")]
    Outside(#[source] io::Error),
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
    #[error("cannot join the bridge")]
    Join(#[source] InsideError),
    #[error("the namespace is set up already")]
    SetUpAlready,
    #[error("cannot read the routes of the namespace")]
    Routes(#[source] rtnetlink::Error),
    #[error("cannot listen for the VM's questions about names")]
    Names(#[source] io::Error),
    #[error("cannot read the firewall's log")]
    Log(#[source] nlink::Error),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
}

/// Runs a keeper. `args` are the program's arguments after [`ARGUMENT`]. To be called before the program
/// has a second thread, so before it makes a runtime.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon reads this as the cause; there is nobody else to tell.
            drop(writeln!(io::stderr(), "{}", with_causes(&error)));
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
    namespace::enter_user().map_err(KeeperError::Namespace)?;
    let outside = Outside::stay().map_err(KeeperError::Outside)?;
    namespace::enter_network().map_err(KeeperError::Namespace)?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(KeeperError::Listen)?.block_on(async {
        let Some(listener) = listener else {
            let keeper = Keeper::start(VmId::random(), outside).await?;
            let way = Way::User { resolver: ResolverTransport::Udp };
            let zone = "cove.internal".parse().expect("a constant name is good");
            return keeper.set_up(way, zone, Vec::new(), Policy::default()).await;
        };
        let vm: VmId = vm.parse().map_err(|_| KeeperError::Arguments)?;
        let keeper = Keeper::start(vm, outside).await?;
        keeper.serve(UnixListener::from(listener)).await
    })
}

/// Lets this process have as many descriptors as its connections take: two each, as many as the proxy
/// carries, and some. Where the host allows fewer, the last connections fail, and nothing else.
fn raise_descriptors() {
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE)
        && now < DESCRIPTORS.min(most)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(most), most)
    {
        tracing::debug!(%error, "the limit of descriptors stays");
    }
}
