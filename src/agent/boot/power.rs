//! The end of the machine.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::console;
use super::disks::Disks;

/// How long programs get to end by themselves.
const GRACE: Duration = Duration::from_secs(2);

/// How long killed ones may take to go.
const KILLED: Duration = Duration::from_secs(1);

/// How often they are looked for: most are not children, so there is nothing to wait for.
const LOOK: Duration = Duration::from_millis(10);

/// Ends all other processes, sets the disks read-only and powers off. Called by PID 1, or by the agent
/// beside an init of the image that cannot be asked.
pub(super) fn off(disks: &Disks) -> ! {
    end_all(Signal::SIGTERM, GRACE);
    end_all(Signal::SIGKILL, KILLED);
    nix::unistd::sync();
    // The root first: it writes to the disk of the overlay.
    let root = read_only("/");
    for done in [root, remount(&disks.overlay), remount(&disks.work)] {
        if let Err(error) = done {
            console::line(&format!("cove-agent: set a disk read-only: {error}"));
        }
    }
    off_now()
}

/// Powers off without ceremony.
pub(super) fn off_now() -> ! {
    nix::unistd::sync();
    // Has the kernel's last messages out before the power goes, and returns only when it fails.
    let refused = reboot(RebootMode::RB_POWER_OFF);
    console::line(&format!("cove-agent: power off: {refused:?}"));
    std::process::abort()
}

/// Signals every process but this one and PID 1, and waits until they are gone.
fn end_all(signal: Signal, deadline: Duration) {
    let end = Instant::now() + deadline;
    // That there is nobody to signal is no error.
    kill(Pid::from_raw(-1), signal).ok();
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|it| it != WaitStatus::StillAlive)
        {
        }
        if !others() || Instant::now() > end {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether programs run besides this one and PID 1. Kernel threads and ended processes have no `exe`.
fn others() -> bool {
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        pid.is_some_and(|pid| pid != 1 && pid != own)
            && process.path().join("exe").read_link().is_ok()
    })
}

fn remount(disk: &OwnedFd) -> nix::Result<()> {
    read_only(&format!("/proc/self/fd/{}", disk.as_raw_fd()))
}

fn read_only(place: &str) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, place, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
}

/// Where the overlay's disk is shown to the image's own init.
const SHOWN: &str = "/run/cove/overlay";

/// Shows the overlay's disk to the image's own init, so that its shutdown sets it read-only.
pub(super) fn show(disks: &Disks) -> std::io::Result<()> {
    std::fs::create_dir_all(SHOWN)?;
    let disk = format!("/proc/self/fd/{}", disks.overlay.as_raw_fd());
    let none = None::<&str>;
    Ok(mount(Some(disk.as_str()), SHOWN, none, MsFlags::MS_BIND, none)?)
}
