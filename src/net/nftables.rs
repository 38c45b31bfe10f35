//! Whether the kernel has nftables: without a firewall no VM gets a network, whatever carries its traffic.
//!
//! Found out by using them, before anything is made. A keeper that finds none ends with [`MISSING`], and by
//! that sentence the daemon knows the reason again (a keeper's last words are text).

use nix::libc;

/// What is said where there are none.
pub(crate) const MISSING: &str =
    "this host's kernel has no nftables, and without a firewall no VM gets a network";

/// How to mend that.
pub(crate) const FIX: &str = "load them (`sudo modprobe -a nf_tables nf_conntrack nf_nat nfnetlink_log`), \
     or boot a kernel that has them, as Debian's do; `--net none` needs none";

/// Whether this is how a kernel without nftables answers to opening them, or to the question which tables
/// or chains there are.
pub(crate) fn are_missing(error: &nlink::Error) -> bool {
    // Without netfilter's part of netlink there is no such socket (`netlink_create`); with it and without
    // nftables nobody there takes the question (`nfnetlink_rcv_msg`), which has nothing else to be wrong.
    matches!(error.errno(), Some(libc::EPROTONOSUPPORT | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nftables_is_told_from_one_that_refuses() {
        let opening = nlink::Error::from(std::io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
        assert!(are_missing(&opening));
        assert!(are_missing(&nlink::Error::from_errno(libc::EINVAL)));
        for errno in [libc::EPERM, libc::ENOENT, libc::EBUSY, libc::ENOBUFS] {
            assert!(!are_missing(&nlink::Error::from_errno(errno)), "{errno}");
        }
    }
}
