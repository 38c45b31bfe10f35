//! The kernel's side of the keeper: namespaces, the TAP device, switches under `/proc/sys`.
//!
//! Knows no addresses and no rules. Everything here concerns the calling process alone, and network namespaces the calling
//! thread.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::sched::{CloneFlags, unshare};

/// Where TAP devices are made.
pub(crate) const TUN: &str = "/dev/net/tun";

mod ioctl {
    nix::ioctl_write_ptr_bad!(tun_set_interface, nix::libc::TUNSETIFF, nix::libc::ifreq);
}

/// A switch, its value, and whether it has to be there.
type Switch = (&'static str, &'static str, Presence);

/// The switches of the namespace: it forwards IPv4, believes no source address that has no route back
/// to its interface, takes no advice on routes, and answers every refused packet (only the guest that sends
/// them gets the answers). `default` is for the interfaces, which come later.
const SWITCHES: [Switch; 8] = [
    // First: it resets others.
    ("net/ipv4/ip_forward", "1", Presence::Required),
    ("net/ipv4/conf/all/rp_filter", "1", Presence::Required),
    ("net/ipv4/conf/default/rp_filter", "1", Presence::Required),
    ("net/ipv4/conf/all/accept_redirects", "0", Presence::Required),
    ("net/ipv4/conf/default/accept_redirects", "0", Presence::Required),
    ("net/ipv4/conf/all/send_redirects", "0", Presence::Required),
    ("net/ipv4/conf/default/send_redirects", "0", Presence::Required),
    ("net/ipv4/icmp_ratelimit", "0", Presence::Required),
];

/// Without IPv6.
const IPV6_OFF: [Switch; 2] = [
    ("net/ipv6/conf/all/disable_ipv6", "1", Presence::Optional),
    ("net/ipv6/conf/default/disable_ipv6", "1", Presence::Optional),
];

/// With IPv6: the same of it, no address that the kernel makes by itself, and nothing that a router
/// announces. Where addresses come from is for the rules to check.
const IPV6_ON: [Switch; 7] = [
    // First, as above.
    ("net/ipv6/conf/all/forwarding", "1", Presence::Required),
    ("net/ipv6/conf/all/disable_ipv6", "0", Presence::Required),
    ("net/ipv6/conf/default/disable_ipv6", "0", Presence::Required),
    ("net/ipv6/conf/default/accept_ra", "0", Presence::Required),
    ("net/ipv6/conf/default/accept_redirects", "0", Presence::Required),
    // None.
    ("net/ipv6/conf/default/addr_gen_mode", "1", Presence::Required),
    ("net/ipv6/icmp/ratelimit", "0", Presence::Required),
];

/// Whether a namespace has IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    /// Its kernel may know it; it is switched off.
    Off,
    /// It forwards it.
    On,
}

/// Whether a kernel may lack a switch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    /// A kernel without IPv6 has none to switch off.
    Optional,
}

/// Moves this process, which must have one thread, into a user namespace of its own, in which it is
/// root and nobody else exists.
///
/// # Errors
/// When the host does not allow it.
pub(crate) fn enter_user() -> io::Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Without this an ordinary user may not map a group: it could drop a group that a file denies.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Moves the calling thread, and those that it starts from now on, into a network namespace of their own,
/// which belongs to the process's user namespace. Threads that there are already stay where they are.
///
/// # Errors
/// When the host does not allow it.
pub(crate) fn enter_network() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

/// Sets the switches of this thread's network namespace.
///
/// # Errors
/// When one cannot be set.
pub(crate) fn set_switches(ipv6: Ipv6) -> io::Result<()> {
    let more: &[Switch] = match ipv6 {
        Ipv6::Off => &IPV6_OFF,
        Ipv6::On => &IPV6_ON,
    };
    for &(name, value, presence) in SWITCHES.iter().chain(more) {
        match fs::write(Path::new("/proc/sys").join(name), value) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && presence == Presence::Optional => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Opens the device that TAP devices are made with.
///
/// # Errors
/// When it is not there, or is not for this user.
pub(crate) fn open_tun() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(TUN)
}

/// Makes a TAP device in this thread's network namespace. It lives as long as the descriptor.
///
/// # Errors
/// When the kernel does not make it.
#[expect(unsafe_code, reason = "an ioctl that no library we have wraps")]
pub(crate) fn make_tap(name: &str) -> io::Result<OwnedFd> {
    let tun = open_tun()?;
    let mut interface_name = [0; libc::IFNAMSIZ];
    if name.len() >= interface_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is too long"));
    }
    for (slot, byte) in interface_name.iter_mut().zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    let request = libc::ifreq {
        ifr_name: interface_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(flags).expect("these two flags fit"),
        },
    };
    // SAFETY: TUNSETIFF reads one `ifreq` with a terminated name, which lives through the call.
    unsafe { ioctl::tun_set_interface(tun.as_raw_fd(), &raw const request) }?;
    Ok(tun.into())
}
