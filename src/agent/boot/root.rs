//! The guest's root: the base image under its own overlay, with the work disk as the home.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::super::beneath::Beneath;
use super::super::exec::login::Login;
use super::super::failure::{During, Failure};
use super::super::skeleton;
use super::disks::{BASE, Disks, OVERLAY, WORK};
use super::early::mount_at;

/// Where the root is put together.
const ROOT: &str = "/root";

/// Makes the root and moves this process into it.
///
/// # Errors
/// Names the step.
pub(super) fn enter(disks: &Disks) -> Result<(), Failure> {
    let (upper, work) = (format!("{OVERLAY}/upper"), format!("{OVERLAY}/work"));
    for folder in [&upper, &work, ROOT] {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(folder).during(format!("make `{folder}`"))?;
    }
    let options = format!("lowerdir={BASE},upperdir={upper},workdir={work}");
    mount_at("overlay", ROOT, "overlay", MsFlags::empty(), Some(&options))?;
    let root = Beneath::open(Path::new(ROOT)).during("open the root")?;
    home(&root, disks)?;
    // `/proc` last: targets are named through it.
    for place in ["dev", "sys", "run", "proc"] {
        let target = root.make_folder(Path::new(place)).during(format!("make `/{place}`"))?;
        move_to(Path::new("/").join(place).as_path(), &target)
            .during(format!("move `/{place}` into the root"))?;
    }
    switch().during("move into the root")?;
    furnish()
}

/// Mounts the work disk at the login user's home. A new work disk gets what the image has there.
fn home(root: &Beneath, disks: &Disks) -> Result<(), Failure> {
    let home = Login::of(Path::new(ROOT)).home;
    let step = format!("mount the work disk at `{home}`");
    let inside = Path::new(home.trim_start_matches('/'));
    let target = root.make_folder(inside).during(&step)?;
    skeleton::copy(&target, &disks.work).during(format!("copy the image's `{home}`"))?;
    move_to(Path::new(WORK), &target).during(step)
}

/// Moves a mount to an opened folder: no link can lead it elsewhere.
fn move_to(place: &Path, target: &OwnedFd) -> nix::Result<()> {
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    let none = None::<&str>;
    mount(Some(place), target.as_str(), none, MsFlags::MS_MOVE, none)
}

/// The new root takes the place of the initramfs.
fn switch() -> nix::Result<()> {
    let none = None::<&str>;
    chdir(ROOT)?;
    // The running program lives on without its name; its memory is freed when it ends.
    fs::remove_file("/init").ok();
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    chroot(".")?;
    chdir("/")
}

/// What programs expect of a running system.
fn furnish() -> Result<(), Failure> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let places = [
        ("devpts", "/dev/pts", quiet, "mode=0620,gid=5,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
    ];
    for (kind, place, flags, options) in places {
        fs::create_dir_all(place).during(format!("make `{place}`"))?;
        mount_at(kind, place, kind, flags, Some(options))?;
    }
    mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", quiet | MsFlags::MS_NODEV, None)?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, link).during(format!("make `{link}`"))?;
    }
    Ok(())
}
