//! Ports of the host at which ports of guests are reachable: the daemon listens, and carries every
//! connection through the guest's agent.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use crate::id::{VmId, VmName};
use crate::report::{Kind, Report};
use crate::task::Tasks;
use crate::vm::Usage;
use crate::vm::ports::{Forwards, Guest};
use crate::wire::frame::FrameCodec;
use crate::wire::relay::{opened, relay};
use crate::wire::rpc::Publish;

/// Connections of one VM at once: what its agent takes. More wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// How long until a listener that could not accept (no descriptors left) tries again.
const RETRY: Duration = Duration::from_millis(200);

/// The ports of all VMs.
pub(super) struct HostPorts {
    tasks: Tasks,
    held: Mutex<HashMap<VmId, Held>>,
}

/// The ports of one VM.
struct Held {
    name: VmName,
    failed: Vec<String>,
    listeners: Vec<(Publish, TcpListener)>,
    closed: CancellationToken,
}

/// Who is behind a port.
#[derive(Clone)]
struct Behind {
    guest: Arc<dyn Guest>,
    usage: Usage,
    port: u16,
    closed: CancellationToken,
}

impl HostPorts {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { tasks, held: Mutex::default() }
    }

    async fn accept(tasks: Tasks, listener: TcpListener, places: Arc<Semaphore>, behind: Behind) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "a published port is not served"),
        };
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let behind = behind.clone();
                    tasks.spawn("forward", behind.carry(socket, place));
                }
                Err(_) if behind.closed.is_cancelled() => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

impl Behind {
    async fn carry(self, mut socket: TcpStream, _place: OwnedSemaphorePermit) {
        let _in_use = self.usage.begin();
        // What is dropped here are two connections.
        let carried = tokio::select! {
            carried = self.relay(&mut socket) => carried,
            () = self.closed.cancelled() => Err("the VM or the daemon ends".to_owned()),
        };
        if let Err(why) = carried {
            tracing::debug!(port = self.port, why, "a published connection ended early");
            // Whoever is connected must not take what was broken off for a whole.
            socket.set_zero_linger().ok();
        }
    }

    async fn relay(&self, socket: &mut TcpStream) -> Result<(), String> {
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream = self.guest.connect(self.port).await.map_err(|report| report.one_line())?;
        let mut frames = Framed::new(stream, FrameCodec::default());
        opened(&mut frames).await.map_err(|error| error.to_string())?;
        relay(&mut frames, socket).await.map_err(|error| error.to_string())
    }
}

impl Forwards for HostPorts {
    fn open(&self, vm: &VmId, name: &VmName, wanted: &[Publish]) -> Vec<(Publish, Report)> {
        let mut held = self.held.lock().expect("no panic under the lock");
        let (mut listeners, mut refused) = (Vec::new(), Vec::new());
        for publish in wanted {
            match listen(publish) {
                Ok(listener) => listeners.push((*publish, listener)),
                Err(error) => {
                    let holder = held.values().find(|held| {
                        held.listeners.iter().any(|(theirs, _)| theirs.collides(publish))
                    });
                    let holder = holder.map(|holder| holder.name.to_string());
                    refused.push((*publish, refusal(name, publish, holder.as_deref(), &error)));
                }
            }
        }
        let ports = Held {
            name: name.clone(),
            failed: refused.iter().map(|(_, report)| report.one_line()).collect(),
            listeners,
            // Also when the daemon ends.
            closed: self.tasks.shutdown().child_token(),
        };
        held.insert(vm.clone(), ports);
        refused
    }

    fn serve(&self, vm: &VmId, guest: Arc<dyn Guest>, usage: Usage) {
        let mut held = self.held.lock().expect("no panic under the lock");
        let Some(ports) = held.get_mut(vm) else {
            return;
        };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for (publish, listener) in &ports.listeners {
            let listener = match listener.try_clone() {
                Ok(listener) => listener,
                Err(error) => {
                    ports.failed.push(format!("cannot serve `{publish}`: {error}"));
                    continue;
                }
            };
            let (guest, usage, closed) = (guest.clone(), usage.clone(), ports.closed.clone());
            let behind = Behind { guest, usage, port: publish.guest_port, closed: closed.clone() };
            let (tasks, places) = (self.tasks.clone(), places.clone());
            self.tasks.spawn("published port", async move {
                tokio::select! {
                    () = Self::accept(tasks, listener, places, behind) => {}
                    () = closed.cancelled() => {}
                }
            });
        }
    }

    fn failed(&self, vm: &VmId) -> Vec<String> {
        let held = self.held.lock().expect("no panic under the lock");
        held.get(vm).map(|held| held.failed.clone()).unwrap_or_default()
    }

    fn close(&self, vm: &VmId) {
        let held = self.held.lock().expect("no panic under the lock").remove(vm);
        let Some(Held { listeners, closed, .. }) = held else {
            return;
        };
        closed.cancel();
        for (_, listener) in listeners {
            // The task that accepts drops its own a moment later, and the port is to be free now.
            shutdown(listener.as_raw_fd(), Shutdown::Both).ok();
        }
    }
}

fn listen(publish: &Publish) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(publish.address())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn refusal(name: &VmName, publish: &Publish, holder: Option<&str>, error: &io::Error) -> Report {
    let address = publish.address();
    let message = format!("cannot publish `{publish}` of `{name}`");
    match (error.kind(), holder) {
        (io::ErrorKind::AddrInUse, Some(holder)) => {
            Report::new(Kind::Conflict, format!("{message}: `{holder}` has `{address}`"))
                .with_hint(format!("stop `{holder}`, or publish another port"))
        }
        (io::ErrorKind::AddrInUse, None) => {
            Report::new(Kind::Conflict, format!("{message}: `{address}` is in use by a program"))
                .with_hint(format!("`ss -ltnp 'sport = :{}'` shows which", publish.port))
        }
        (io::ErrorKind::PermissionDenied, _) => {
            Report::new(Kind::Refused, message).with_cause(error).with_hint(
                "ports below 1024 are root's on most hosts: publish a higher one".to_owned(),
            )
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            let message = format!("{message}: this host has no address `{}`", publish.host);
            Report::new(Kind::Invalid, message).with_hint("`ip addr` shows those it has")
        }
        _ => Report::new(Kind::Failed, message).with_cause(error),
    }
}

#[cfg(test)]
mod tests;
