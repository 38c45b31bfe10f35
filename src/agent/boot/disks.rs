//! The three disks: found by serial, mounted in the initramfs.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use super::super::failure::{During, Failure};
use super::super::{console, grow};
use super::early::mount_at;
use crate::wire::boot::{BASE_DISK, OVERLAY_DISK, WORK_DISK};

/// How long a disk may take to appear after its driver was loaded. It takes milliseconds; under heavy
/// load on the host, with emulation, seconds were seen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where the disks are mounted in the initramfs.
pub(super) const BASE: &str = "/base";
pub(super) const OVERLAY: &str = "/overlay";
pub(super) const WORK: &str = "/work";

/// The disks that are written, by a descriptor of the mounted folder: it names them also when no path
/// leads there any more.
#[derive(Debug)]
pub(super) struct Disks {
    pub(super) overlay: OwnedFd,
    pub(super) work: OwnedFd,
}

/// Waits for the disks and mounts them.
///
/// # Errors
/// Names the disk that does not appear or cannot be mounted.
pub(super) fn mount() -> Result<Disks, Failure> {
    let events = Events::listen()?;
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
    one(&events, BASE_DISK, BASE, read_only)?;
    one(&events, OVERLAY_DISK, OVERLAY, MsFlags::MS_NOATIME)?;
    one(&events, WORK_DISK, WORK, MsFlags::MS_NOATIME | MsFlags::MS_NODEV)?;
    let open = |place: &str| File::open(place).map(OwnedFd::from).during(format!("open `{place}`"));
    let disks = Disks { overlay: open(OVERLAY)?, work: open(WORK)? };
    // The host may have made the disk larger since. One that stays small is no reason not to start.
    if let Err(failure) = grow::to_device(&disks.work) {
        console::line(&format!("cove-agent: {failure}: {}", failure.message()));
    }
    Ok(disks)
}

fn one(events: &Events, serial: &str, place: &str, flags: MsFlags) -> Result<(), Failure> {
    let device = events.wait_for(serial)?;
    fs::create_dir_all(place).during(format!("make `{place}`"))?;
    let device = device.to_string_lossy();
    let step = format!("mount the disk `{serial}` ({device})");
    mount_at(&device, place, "ext4", flags, None).map_err(|failure| Failure { step, ..failure })
}

/// The device with this serial, if it is there.
fn find(serial: &str) -> Option<PathBuf> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("serial")).ok()?;
        let device = Path::new("/dev").join(entry.file_name());
        (found.trim_end() == serial && device.exists()).then_some(device)
    })
}

/// What the kernel says when devices appear.
struct Events(OwnedFd);

impl Events {
    fn listen() -> Result<Self, Failure> {
        let step = "listen for devices";
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )
        .during(step)?;
        let kernel = 1; // the group of the kernel's own messages
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, kernel)).during(step)?;
        Ok(Self(socket))
    }

    fn wait_for(&self, serial: &str) -> Result<PathBuf, Failure> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(device) = find(serial) {
                return Ok(device);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("it did not appear within {} s", DEADLINE.as_secs());
                return Err(Failure::new(format!("find the disk `{serial}`"), why));
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let socket = self.0.as_fd();
            poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout)
                .during(format!("find the disk `{serial}`"))?;
            // What was said does not matter: something has changed, so look again.
            let mut said = [0; 4096];
            while recv(self.0.as_raw_fd(), &mut said, MsgFlags::empty()).is_ok() {}
        }
    }
}
