//! Whether a descriptor is the network namespace of one of this user's VMs.
//!
//! The daemon hands over the namespace itself, not a process that is in it: a descriptor cannot be taken
//! for another one as a pid can, and nobody needs the power to look into other people's processes. What is
//! asked is the kernel's own knowledge: the kind of the namespace, and who owns the user namespace that it
//! belongs to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;

use super::error::{BridgeError, Refusal};
use super::setup::Owner;
use crate::id::VmId;

mod ioctl {
    use nix::libc;

    // `linux/nsfs.h`; see ioctl_nsfs(2).
    nix::ioctl_none_bad!(kind, libc::NS_GET_NSTYPE);
    nix::ioctl_none_bad!(user_namespace, libc::NS_GET_USERNS);
    nix::ioctl_read_bad!(owner, libc::NS_GET_OWNER_UID, libc::uid_t);
}

/// The type of the file system that namespaces are files of (`linux/magic.h`).
const NSFS: i64 = 0x6e73_6673;

/// Checks a descriptor that came for `vm`.
///
/// # Errors
/// When it is no network namespace, the host's, or somebody else's.
pub(super) fn check(vm: &VmId, file: &OwnedFd, owner: Owner) -> Result<(), BridgeError> {
    let failed = |source: io::Error| BridgeError::Namespace { vm: vm.clone(), source };
    if !is_network_namespace(file).map_err(failed)? {
        return Err(Refusal::NotANamespace { vm: vm.clone() }.into());
    }
    let user_namespace = user_namespace(file).map_err(failed)?;
    let own = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}"));
    let hosts = same(file.as_fd(), own("net").map_err(failed)?.as_fd()).map_err(failed)?
        || same(user_namespace.as_fd(), own("user").map_err(failed)?.as_fd()).map_err(failed)?;
    if hosts {
        return Err(Refusal::HostNamespace { vm: vm.clone() }.into());
    }
    let is = owner_of(&user_namespace).map_err(failed)?;
    if is != owner.user() {
        let (vm, user) = (vm.clone(), owner.user());
        return Err(Refusal::ForeignNamespace { vm, owner: is, user }.into());
    }
    Ok(())
}

#[expect(unsafe_code, reason = "ioctls that no library we have wraps")]
fn is_network_namespace(file: &OwnedFd) -> io::Result<bool> {
    // On any other file the number could mean anything.
    if fstatfs(file)?.filesystem_type().0 != NSFS {
        return Ok(false);
    }
    // SAFETY: the request takes no argument, and the descriptor is open.
    Ok(unsafe { ioctl::kind(file.as_raw_fd()) }? == libc::CLONE_NEWNET)
}

#[expect(unsafe_code, reason = "an ioctl whose answer is a descriptor")]
fn user_namespace(file: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument, and the descriptor is open.
    let number = unsafe { ioctl::user_namespace(file.as_raw_fd()) }?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[expect(unsafe_code, reason = "an ioctl that no library we have wraps")]
fn owner_of(user_namespace: &OwnedFd) -> io::Result<u32> {
    let mut owner: libc::uid_t = 0;
    // SAFETY: the request writes one `uid_t`, which lives through the call.
    unsafe { ioctl::owner(user_namespace.as_raw_fd(), &raw mut owner) }?;
    Ok(owner)
}

fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}
