//! The jail of the reader: what is left to a process that looks at what a guest has written.
//!
//! Two walls, each of which would do. Landlock takes away every file, socket and signal; a kernel without it, or
//! with an older one, leaves that to the other. The filter of system calls must stand, or nothing is read: what
//! is not on its list kills the process. So no file can be opened, no program or process started, nothing sent
//! but to the descriptors that are open; and memory, time and files have limits besides.

use std::collections::BTreeMap;
use std::time::Duration;

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, Scope};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// How much memory may be mapped, the program included, in bytes.
pub(in super::super) const ADDRESS_SPACE: u64 = 1 << 30;

/// How much processor time may be used, in seconds.
pub(in super::super) const PROCESSOR_SECONDS: u64 = 900;

/// How long a copy may take in all. The VM cannot be started meanwhile.
pub(in super::super) const WHOLE: Duration = Duration::from_secs(6 * 3600);

/// How much longer than that the reader lives: its daemon, where there is one, ends it before.
const LONGER: Duration = Duration::from_secs(60);

/// A jail could not be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JailError {
    #[error("cannot limit what the reader may use")]
    Limits(#[from] nix::Error),
    #[error("cannot take files away from the reader")]
    Landlock(#[from] landlock::RulesetError),
    #[error("cannot take system calls away from the reader")]
    Filter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Takes everything away from this process that reading an open disk does not need. For good.
///
/// # Errors
/// When the kernel refuses. Then nothing may be read.
pub(super) fn enter() -> Result<(), JailError> {
    // Made before, because making it needs memory and more.
    let filter = filter().map_err(JailError::Filter)?;
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    // With both limits alike it would be killed as if for want of memory.
    setrlimit(Resource::RLIMIT_CPU, PROCESSOR_SECONDS, PROCESSOR_SECONDS + 1)?;
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    // Its signal kills: a reader that hangs ends also without a daemon.
    nix::unistd::alarm::set(u32::try_from((WHOLE + LONGER).as_secs()).unwrap_or(u32::MAX));
    take_files_away()?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0)?;
    apply_filter(&filter).map_err(|error| JailError::Filter(error.into()))
}

/// As much of it as this kernel has: it may have none.
fn take_files_away() -> Result<(), landlock::RulesetError> {
    let newest = ABI::V6;
    let all = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?;
    all.create()?.restrict_self().map(drop)
}

/// The calls that are left: reading and writing what is open, memory that is no program, the end.
fn filter() -> Result<BpfProgram, Box<dyn std::error::Error + Send + Sync>> {
    let always = [
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigreturn,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<_, _> = always.into_iter().map(|call| (call, Vec::new())).collect();
    let has = |argument, mask: i32, value: i32| {
        let (mask, value) = (u64::from(mask.cast_unsigned()), u64::from(value.cast_unsigned()));
        let equal = SeccompCmpOp::MaskedEq(mask);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, equal, value)
    };
    let anonymous = has(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?;
    let no_program = has(2, libc::PROT_EXEC, 0)?;
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![anonymous, no_program])?]);
    // Outside of the main thread, memory is grown so.
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![has(2, libc::PROT_EXEC, 0)?])?]);
    // A build for debugging asks, before it closes a descriptor, whether it is one.
    let asks = has(1, i32::MAX, libc::F_GETFD)?;
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![asks])?]);
    let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, kill, allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}
