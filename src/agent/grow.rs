//! Growing the work disk's file system to its device, while it is mounted.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statvfs::fstatvfs;

use super::failure::{During, Failure};

/// How long the kernel may take to hear that the device has grown: its driver is told by an interrupt.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often the device's size is looked at meanwhile; there is no event that a process could wait for
/// without a socket of its own.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes of a sector in `/sys`, whatever the device's are.
const SECTOR: u64 = 512;

/// `EXT4_IOC_RESIZE_FS` of `linux/fs/ext4/ext4.h`: `_IOW('f', 16, __u64)`.
const RESIZE: libc::c_ulong = nix::request_code_write!(b'f', 16, size_of::<u64>()) as libc::c_ulong;

/// Grows the file system that `folder` lies in to all of its device. One that fills it stays.
///
/// # Errors
/// Names what could not be done.
pub fn to_device(folder: impl AsFd) -> Result<(), Failure> {
    let device = device_bytes(&folder)?;
    resize(&folder, device)
}

/// The same, as soon as the device has at least so many bytes.
///
/// # Errors
/// When it does not get them in time, and as above.
pub fn to_bytes(folder: impl AsFd, bytes: u64) -> Result<(), Failure> {
    let end = Instant::now() + DEADLINE;
    loop {
        let device = device_bytes(&folder)?;
        if device >= bytes {
            return resize(&folder, device);
        }
        if Instant::now() > end {
            let why = format!("it has {device} bytes, not {bytes}");
            return Err(Failure::new("see the work disk grow", why));
        }
        std::thread::sleep(LOOK);
    }
}

/// The size of the block device that `folder` lies on.
fn device_bytes(folder: &impl AsFd) -> Result<u64, Failure> {
    let step = "ask for the work disk's size";
    let device = fstat(folder).during(step)?.st_dev;
    let file = format!("/sys/dev/block/{}:{}/size", major(device), minor(device));
    let sectors = fs::read_to_string(&file).during(format!("read `{file}`"))?;
    let sectors: u64 = sectors.trim().parse().during(format!("read `{file}`"))?;
    Ok(sectors * SECTOR)
}

#[expect(unsafe_code, reason = "an ioctl that no library we have wraps")]
fn resize(folder: &impl AsFd, device: u64) -> Result<(), Failure> {
    let step = "grow the work disk's file system";
    let blocks = device / fstatvfs(folder).during(step)?.block_size();
    // SAFETY: the kernel reads one u64, which lives through the call.
    match unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), RESIZE as _, &raw const blocks) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).during(step),
    }
}
