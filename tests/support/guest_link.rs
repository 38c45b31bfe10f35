//! A guest without a guest: a network namespace whose `eth0` is wired to a VM's TAP device, frame by frame.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use cove::wire::guest::{Ipv6, Network};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::internet::Namespace;

mod ioctl {
    nix::ioctl_write_ptr_bad!(tun_set_interface, nix::libc::TUNSETIFF, nix::libc::ifreq);
}

/// The namespace and the wire; gone when dropped.
#[derive(Debug)]
pub(crate) struct GuestLink {
    /// Where to run what a guest would run.
    pub(crate) namespace: Namespace,
    /// Closed to end the wire.
    stop: Option<OwnedFd>,
    wire: Option<JoinHandle<()>>,
}

impl GuestLink {
    /// Configures the namespace as the guest's agent would, and wires it to `tap`.
    pub(crate) fn new(tap: OwnedFd, network: &Network) -> Self {
        let namespace = Namespace::new("guest");
        let device = namespace.enter(|| make_tap("eth0")).join().expect("no panic");
        namespace.ip(&format!("link set eth0 address {} mtu {} up", network.mac, network.mtu));
        namespace.ip(&format!("address add {}/{} dev eth0", network.address, network.prefix));
        namespace.ip(&format!("route add default via {}", network.gateway));
        if let Some(Ipv6 { address, prefix, gateway }) = network.ipv6 {
            let range = ipnet::Ipv6Net::new(address, prefix).expect("a prefix").trunc();
            namespace.ip(&format!("-6 address add {address}/128 dev eth0 nodad"));
            namespace.ip(&format!("-6 route add {range} via {gateway} dev eth0"));
        }
        namespace.resolver(network.resolver);
        let (wait, stop) = nix::unistd::pipe().expect("a pipe");
        let ends = [device, File::from(tap)];
        for end in &ends {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
        }
        let wire = std::thread::spawn(move || carry(ends, &wait));
        Self { namespace, stop: Some(stop), wire: Some(wire) }
    }
}

impl Drop for GuestLink {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.wire.take().map(JoinHandle::join));
    }
}

fn carry(mut ends: [File; 2], stop: &OwnedFd) {
    let mut frame = vec![0; 65536 + 18];
    loop {
        let mut events = [
            PollFd::new(ends[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(ends[1].as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut events, PollTimeout::NONE).expect("a poll");
        let [one, other, stopped] = events.map(|event| event.any().unwrap_or(true));
        if stopped {
            return;
        }
        for (ready, from, to) in [(one, 0, 1), (other, 1, 0)] {
            if ready && let Ok(length) = ends[from].read(&mut frame) {
                // A full queue loses the frame, as a wire does.
                drop(ends[to].write(&frame[..length]));
            }
        }
    }
}

#[expect(unsafe_code, reason = "an ioctl that no library we have wraps")]
fn make_tap(name: &str) -> File {
    let tun =
        OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect("root opens it");
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (slot, byte) in ifr_name.iter_mut().zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("these flags fit");
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: TUNSETIFF reads one `ifreq` with a terminated name, which lives through the call.
    unsafe { ioctl::tun_set_interface(tun.as_raw_fd(), &raw const request) }.expect("a TAP device");
    tun
}
