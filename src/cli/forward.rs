//! `cove forward`: ports of a VM at ports of this host, for as long as this command runs.
//!
//! ```text
//!  listener (one for each forward) ─▶ connection ─▶ ticket ─▶ byte stream ═ agent ═ program in the guest
//! ```
//!
//! It ends when the user ends it by Ctrl-C, which is no failure, and when the VM runs no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::report::{Kind, Report, escape_control};
use crate::rpc::client::{Client, Events};
use crate::task::Tasks;
use crate::wire::relay::{opened, relay};
use crate::wire::rpc::{
    EventQuery, EventSubscription, ForwardVm, Happening, Publish, Vm, VmForward, VmRef, VmShow,
    VmState,
};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::list::state;
use super::output::{Format, failed, say};
use super::signals::Signals;

/// How long connections may take to be reset at the end.
const GRACE: Duration = Duration::from_secs(1);

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// How long until a listener that could not accept tries again, and until events that ended are asked for anew.
const RETRY: Duration = Duration::from_millis(200);

/// Arguments of `cove forward`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Ports of this host and of the guest; on loopback unless HOST is said, on any free port when PORT is 0
    #[arg(required = true, value_name = "[HOST:]PORT:GUESTPORT")]
    forwards: Vec<Publish>,
    #[command(flatten)]
    format: Format,
}

/// A forward that is there.
#[derive(Debug, Serialize)]
struct Bound {
    /// Where it is on this host.
    address: SocketAddr,
    /// The port of the guest.
    guest_port: u16,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let mut signals = Signals::listen()?;
        let client = Arc::new(signals.unless_interrupted(connect()).await?);
        let subscribe = client.subscribe::<EventSubscription>(EventQuery::default());
        let events = signals.unless_interrupted(subscribe).await?;
        let vm = client.call::<VmShow>(VmRef { vm: self.vm.clone() });
        let vm = signals.unless_interrupted(vm).await?;
        if vm.state != VmState::Running {
            return Err(not_running(&vm).into());
        }
        let listeners = listen(&self.forwards).await?;
        let bound: Vec<_> = listeners.iter().map(|(_, bound)| bound).collect();
        self.format.print(&bound[..], |bound| {
            let line =
                |bound: &&Bound| format!("{} -> {}:{}", bound.address, vm.name, bound.guest_port);
            bound.iter().map(line).collect::<Vec<_>>().join("\n")
        })?;
        let tasks = Tasks::default();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for (listener, bound) in listeners {
            let (client, over) = (client.clone(), tasks.shutdown());
            let way = Way { client, vm: vm.id.to_string(), port: bound.guest_port, over };
            tasks.spawn_until_shutdown(
                "forward",
                way.accept(listener, places.clone(), tasks.clone()),
            );
        }
        // All arms are cancel-safe: none is waited for again.
        let ended = tokio::select! {
            signal = signals.interruption() => {
                say("ended");
                if signal == libc::SIGINT { Ok(0) } else { Err(Failure::Interrupted) }
            }
            why = end(&client, events, &vm) => Err(why.into()),
            () = client.closed() => Err(daemon_lost().into()),
        };
        tasks.drain(GRACE).await;
        ended
    }
}

fn daemon_lost() -> Report {
    let message = "the connection to the daemon was lost, and the forwards with it";
    Report::new(Kind::Unreachable, message)
        .with_hint("forward them again, or use `--publish`: those come back with the daemon")
}

/// What is said where a VM has to run.
pub(super) fn not_running(vm: &Vm) -> Report {
    let (name, is) = (&vm.name, state(vm.state));
    Report::new(Kind::Conflict, format!("the VM `{name}` is {is}, not running"))
        .with_hint(format!("start it with `cove start {name}`"))
}

/// All listeners, or none.
async fn listen(forwards: &[Publish]) -> Result<Vec<(TcpListener, Bound)>, Report> {
    let mut listeners = Vec::new();
    for forward in forwards {
        let address = forward.address();
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, Bound { address, guest_port: forward.guest_port }))
        };
        listeners.push(bound.await.map_err(|error| cannot_listen(forward, &error))?);
    }
    Ok(listeners)
}

fn cannot_listen(forward: &Publish, error: &std::io::Error) -> Report {
    let address = forward.address();
    let any = format!("0:{}", forward.guest_port);
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Report::new(Kind::Conflict, format!("`{address}` is in use"))
                .with_hint(format!("choose another port, or let the host choose: `{any}`"))
        }
        std::io::ErrorKind::PermissionDenied => {
            Report::new(Kind::Refused, format!("you may not listen at `{address}`"))
                .with_cause(error)
                .with_hint("ports below 1024 are root's on most hosts: choose a higher one")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            Report::new(Kind::Invalid, format!("this host has no address `{}`", forward.host))
                .with_hint("leave the address out for loopback")
        }
        _ => failed(&format!("cannot listen at `{address}`"), error),
    }
}

/// Waits until the VM runs no more, and says so.
async fn end(client: &Client, mut events: Events<EventSubscription>, vm: &Vm) -> Report {
    loop {
        while let Some(event) = events.next().await {
            // One that is not understood is of a newer daemon, and no end of a VM.
            let over = event.ok().and_then(|event| ended_by(event.what, vm));
            if let Some(over) = over {
                return over;
            }
        }
        // The events end with the daemon, but also when there were too many at once.
        events = match look_again(client, vm).await {
            Ok(events) => events,
            // That is waited for elsewhere.
            Err(report) if report.kind == Kind::Unreachable => return std::future::pending().await,
            Err(report) => return report,
        };
    }
}

/// The end of the VM, if that is what has happened.
fn ended_by(what: Happening, vm: &Vm) -> Option<Report> {
    match what {
        Happening::VmState { vm: id, state: now, cause, .. }
            if id == vm.id && now != VmState::Running =>
        {
            let mut report = over(vm, now);
            report.cause.extend(cause);
            Some(report)
        }
        Happening::VmDeleted { vm: id, .. } if id == vm.id => Some(deleted(vm)),
        _ => None,
    }
}

/// What happens from now on, if the VM still runs.
async fn look_again(client: &Client, vm: &Vm) -> Result<Events<EventSubscription>, Report> {
    tokio::time::sleep(RETRY).await;
    let events = client.subscribe::<EventSubscription>(EventQuery::default()).await?;
    match client.call::<VmShow>(VmRef { vm: vm.id.to_string() }).await {
        Ok(now) if now.state == VmState::Running => Ok(events),
        Ok(now) => Err(over(vm, now.state)),
        Err(report) if report.kind == Kind::NotFound => Err(deleted(vm)),
        Err(report) => Err(report),
    }
}

fn over(vm: &Vm, now: VmState) -> Report {
    let what = match now {
        VmState::Stopping => "is being stopped",
        VmState::Created
        | VmState::Starting
        | VmState::Running
        | VmState::Stopped
        | VmState::Error => "runs no more",
    };
    let message = format!("the VM `{}` {what}, and its forwards ended", vm.name);
    Report::new(Kind::Conflict, message)
}

fn deleted(vm: &Vm) -> Report {
    let message = format!("the VM `{}` was deleted, and its forwards ended", vm.name);
    Report::new(Kind::Conflict, message)
}

/// The way to one port of the guest.
#[derive(Clone)]
struct Way {
    client: Arc<Client>,
    vm: String,
    port: u16,
    /// The command ends.
    over: CancellationToken,
}

impl Way {
    async fn accept(self, listener: TcpListener, places: Arc<Semaphore>, tasks: Tasks) {
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((socket, from)) => {
                    tasks.spawn("connection", self.clone().carry(socket, from, place));
                }
                Err(error) => {
                    say(&format!("warning: cannot accept a connection: {error}"));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn carry(self, mut socket: TcpStream, from: SocketAddr, _place: OwnedSemaphorePermit) {
        // What is dropped here is a connection to the guest.
        let why = tokio::select! {
            relayed = self.relay(&mut socket) => match relayed {
                Ok(()) => return,
                Err(why) => Some(why),
            },
            () = self.over.cancelled() => None,
        };
        // Whoever is connected must not take what was broken off for a whole.
        socket.set_zero_linger().ok();
        if let Some(why) = why {
            let why = escape_control(&why).replace('\n', " ");
            say(&format!("{from} -> port {}: {why}", self.port));
        }
    }

    async fn relay(&self, socket: &mut TcpStream) -> Result<(), String> {
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let wanted = ForwardVm { vm: self.vm.clone(), port: self.port };
        let open = async {
            let ticket = self.client.call::<VmForward>(wanted).await?;
            self.client.open_stream(&ticket).await
        };
        let mut frames = open.await.map_err(|report| report.one_line())?;
        opened(&mut frames).await.map_err(|error| error.to_string())?;
        relay(&mut frames, socket).await.map_err(|error| format!("broken off: {error}"))
    }
}
