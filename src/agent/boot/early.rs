//! Before anything else: the kernel's own file systems and the boot file.

use std::fs;
use std::path::Path;

use nix::mount::MsFlags;

use super::super::failure::{During, Failure};
use crate::wire::boot::{BOOT_FILE, BootFile};

/// Mounts the kernel's own file systems in the initramfs; they move along into the root.
///
/// # Errors
/// Names the one that cannot be mounted.
pub(super) fn mount() -> Result<(), Failure> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, Some("mode=0755"))?;
    mount_at("proc", "/proc", "proc", quiet, None)?;
    mount_at("sysfs", "/sys", "sysfs", quiet, None)?;
    let run = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at("tmpfs", "/run", "tmpfs", run, Some("mode=0755"))
}

/// Mounts one file system.
///
/// # Errors
/// Names the place.
pub(super) fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Failure> {
    nix::mount::mount(Some(source), target, Some(kind), flags, options)
        .during(format!("mount `{target}`"))
}

/// Reads this boot's file and takes it out of the initramfs, so that nothing in the guest finds the key.
///
/// # Errors
/// When the host did not put one there.
pub(super) fn boot_file() -> Result<BootFile, Failure> {
    let step = || format!("read `{BOOT_FILE}`");
    let text = fs::read(Path::new(BOOT_FILE)).during(step())?;
    fs::remove_file(BOOT_FILE).during(step())?;
    serde_json::from_slice(&text).during(step())
}
