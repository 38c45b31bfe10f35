//! The agent beside PID 1: the vsock listener, and what only a real guest can do.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime, clock_settime};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};

use super::super::beneath::Beneath;
use super::super::exec::login::Login;
use super::super::failure::{During, Failure};
use super::super::forward::MAX_FORWARDS;
use super::super::server::{Clock, Connection, Machine, Server};
use super::super::{grow, identity, network};
use super::disks::Disks;
use super::power;
use super::supervisor::{HAND_OVER, POWER_OFF};
use crate::task::Tasks;
use crate::wire::boot::BootFile;
use crate::wire::guest::{PORT, READY_PORT, Setup};
use crate::wire::proof::BootKey;

/// How many connections are served at once: programs that run at once, with room to spare, and as many
/// forwards as there may be. More are closed at once.
const MAX_CONNECTIONS: usize = 256 + MAX_FORWARDS;

/// How long the host may take to take the announcement.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(2);

/// How long to wait before the next announcement: the daemon may be restarting.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(200);

/// How long the image's own init may take to shut down before the power goes anyway.
const INIT_SHUTDOWN: Duration = Duration::from_secs(8);

/// The signal that asks systemd to power off, counted from SIGRTMIN (systemd(1)).
const SYSTEMD_POWER_OFF: i32 = 4;

/// Where the agent keeps what it needs for a moment: in memory, where only root writes.
const OWN_FOLDER: &str = "/run/cove";

/// Serves the host until the power goes.
///
/// # Errors
/// When there is no vsock device, or no runtime.
pub(super) fn run(
    boot: &BootFile,
    supervisor: UnixStream,
    disks: Disks,
) -> Result<std::convert::Infallible, Failure> {
    let key =
        BootKey::from_hex(&boot.key).ok_or("the key is malformed").during("read the boot file")?;
    let runtime = Builder::new_current_thread().enable_all().build().during("start the runtime")?;
    let tasks = Tasks::default();
    let guest = Guest { supervisor: Mutex::new(Some(supervisor)), disks, tasks: tasks.clone() };
    let server = Arc::new(Server::new(key, boot.boot_id.clone(), guest));
    runtime.block_on(listen(&tasks, &server))
}

impl Connection for VsockStream {
    fn leave(self) -> std::io::Result<OwnedFd> {
        Ok(self.into())
    }

    fn enter(socket: OwnedFd) -> std::io::Result<Self> {
        Self::new(socket.into())
    }
}

async fn listen(
    tasks: &Tasks,
    server: &Arc<Server<Guest>>,
) -> Result<std::convert::Infallible, Failure> {
    let step = "listen on vsock";
    let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, PORT)).during(step)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let announcing = tasks.spawn("announce", announce());
    loop {
        let (stream, peer) = listener.accept().await.during(step)?;
        // Other guests, and this guest's own programs over the loopback transport, have no business
        // here.
        if peer.cid() != VMADDR_CID_HOST {
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        // Who connects knows already.
        announcing.abort();
        let server = server.clone();
        tasks.spawn("connection", async move {
            // A peer that breaks the protocol or goes away has nobody to be told.
            server.serve(stream).await.ok();
            drop(place);
        });
    }
}

/// Tells the host that somebody listens now. A host that does not want to know refuses.
async fn announce() {
    let host = VsockAddr::new(VMADDR_CID_HOST, READY_PORT);
    while !matches!(
        tokio::time::timeout(ANNOUNCE_DEADLINE, VsockStream::connect(host)).await,
        Ok(Ok(_))
    ) {
        tokio::time::sleep(ANNOUNCE_AGAIN).await;
    }
}

/// The real guest.
struct Guest {
    /// The way to PID 1; `None` once the image's own init is there instead.
    supervisor: Mutex<Option<UnixStream>>,
    disks: Disks,
    tasks: Tasks,
}

impl Guest {
    fn hand_over_to_init(&self) -> std::io::Result<()> {
        let mut way = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(supervisor) = way.as_mut() else {
            return Ok(());
        };
        supervisor.write_all(&[HAND_OVER])?;
        let mut answer = Vec::new();
        let mut byte = [0];
        loop {
            match supervisor.read(&mut byte)? {
                0 => {
                    *way = None;
                    return Ok(());
                }
                _ if byte[0] == b'\n' && answer.is_empty() => return Ok(()),
                _ if byte[0] == b'\n' => {
                    return Err(std::io::Error::other(
                        String::from_utf8_lossy(&answer).into_owned(),
                    ));
                }
                _ => answer.push(byte[0]),
            }
        }
    }
}

impl Clock for Guest {
    fn uptime_ms(&self) -> u64 {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    fn set_clock(&self, unix_ms: u64) -> Result<(), Failure> {
        let time = Duration::from_millis(unix_ms).into();
        clock_settime(ClockId::CLOCK_REALTIME, time).during("set the clock")
    }
}

impl Machine for Guest {
    fn identify(&self, setup: &Setup) -> Result<(), Failure> {
        identity::kernel(setup)?;
        let root = Beneath::open(Path::new("/")).during("open the root")?;
        identity::files(&root, setup)?;
        Handle::current().block_on(network::configure(&self.tasks, setup.network.as_ref()))
    }

    fn hand_over(&self) -> Result<(), Failure> {
        self.hand_over_to_init().during("start the image's init")
    }

    fn login(&self) -> Login {
        Login::of(Path::new("/"))
    }

    fn own_folder(&self) -> PathBuf {
        OWN_FOLDER.into()
    }

    fn grow_work_disk(&self, bytes: u64) -> Result<(), Failure> {
        grow::to_bytes(&self.disks.work, bytes)
    }

    fn sync(&self) {
        nix::unistd::sync();
    }

    fn power_off(&self) {
        let mut way = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(supervisor) = way.as_mut() {
            if supervisor.write_all(&[POWER_OFF]).is_ok() {
                return;
            }
        } else if ask_systemd() {
            // Nobody lives to see that it has happened.
            std::thread::sleep(INIT_SHUTDOWN);
        }
        power::off(&self.disks)
    }
}

/// Asks the image's systemd to power off. Other inits have no common way to be asked.
fn ask_systemd() -> bool {
    let number = nix::libc::SIGRTMIN() + SYSTEMD_POWER_OFF;
    Path::new("/run/systemd/system").exists() && signal_init(number).is_ok()
}

#[expect(unsafe_code, reason = "the library has no real-time signals")]
fn signal_init(number: i32) -> std::io::Result<()> {
    // SAFETY: it only sends a signal.
    match unsafe { nix::libc::kill(1, number) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_for_a_moment_lies_where_no_user_of_the_guest_can_put_anything() {
        // Unlike `/tmp`: `/run` is mounted by `early`, for root alone to write in.
        assert_eq!(Path::new(OWN_FOLDER).parent(), Some(Path::new("/run")));
    }
}
