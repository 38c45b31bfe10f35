//! A kernel without nftables, for one thread and for every process that it starts.

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// From here on the kernel answers this thread as one without netfilter's part of netlink does: there is no
/// such socket. For good, so this is for a thread of its own.
pub(crate) fn take_nftables_away() {
    let is = |argument, value: i32| {
        let value = value.unsigned_abs().into();
        let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompCondition::new(argument, length, equal, value).expect("a condition")
    };
    let of_netfilter = vec![is(0, libc::AF_NETLINK), is(2, libc::NETLINK_NETFILTER)];
    let rules = [(libc::SYS_socket, vec![SeccompRule::new(of_netfilter).expect("a rule")])];
    let unsupported = SeccompAction::Errno(libc::EPROTONOSUPPORT.unsigned_abs());
    let filter =
        SeccompFilter::new(rules.into(), SeccompAction::Allow, unsupported, TargetArch::x86_64);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    apply_filter(&program).expect("any thread may have less than before");
}
