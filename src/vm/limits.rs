//! What a VM may be: bounds on sizes, on texts, and on what the host has.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::record::VmSpec;
use crate::egress::MAX_RULES;
use crate::report::{Kind, Report};
use crate::size::Size;
use crate::wire::rpc::MachinePlan;

/// Processors: QEMU's microvm takes more, but no host here has them.
const VCPUS: RangeInclusive<u32> = 1..=64;
/// Memory in MiB: below this the guest's kernel does not reach its first program.
const MEMORY_MIB: RangeInclusive<u64> = 128..=1 << 20;
/// Disks: an ext4 with a journal needs some room; 16 TiB is the end of 32-bit block numbers.
const DISK_BYTES: RangeInclusive<u64> = 64 << 20..=16 << 40;
/// Seconds until an idle VM is stopped: up to a year.
const AUTO_STOP_S: RangeInclusive<u64> = 1..=365 * 24 * 3600;
/// Variables of a VM's environment, and bytes of one.
const MAX_ENV: (usize, usize) = (256, 32 * 1024);
/// Labels, and bytes of one.
const MAX_LABELS: (usize, usize) = (64, 256);

fn refuse(message: String, hint: String) -> Result<(), Report> {
    Err(Report::new(Kind::Invalid, message).with_hint(hint))
}

/// Refuses machines that cannot be, or cannot be on a host with so much memory.
pub(super) fn check_machine(machine: &MachinePlan, host_memory_mib: u64) -> Result<(), Report> {
    if !VCPUS.contains(&machine.vcpu) {
        let message = format!("{} virtual processors are not possible", machine.vcpu);
        return refuse(message, format!("give {} to {}", VCPUS.start(), VCPUS.end()));
    }
    if !MEMORY_MIB.contains(&machine.memory_mib) {
        let message = format!("{} MiB of memory are not possible", machine.memory_mib);
        let most = host_memory_mib.min(*MEMORY_MIB.end());
        return refuse(message, format!("give {} to {most} MiB", MEMORY_MIB.start()));
    }
    if machine.memory_mib > host_memory_mib {
        let wanted = machine.memory_mib;
        let message =
            format!("{wanted} MiB of memory do not exist: this host has {host_memory_mib} MiB");
        return refuse(message, "give less; other VMs and the host need some, too".to_owned());
    }
    for (what, bytes) in [("work disk", machine.disk_bytes), ("root disk", machine.root_disk_bytes)]
    {
        if !DISK_BYTES.contains(&bytes) || !bytes.is_multiple_of(4096) {
            let message = format!("a {what} of {bytes} bytes is not possible");
            let (least, most) =
                (Size::from_bytes(*DISK_BYTES.start()), Size::from_bytes(*DISK_BYTES.end()));
            let hint = format!("give {least} to {most}, in whole units of 4096 bytes");
            return refuse(message, hint);
        }
    }
    Ok(())
}

/// Refuses to take away from a work disk.
pub(super) fn check_growth(from: u64, to: u64) -> Result<(), Report> {
    if to >= from {
        return Ok(());
    }
    let (from, to) = (Size::from_bytes(from), Size::from_bytes(to));
    refuse(
        format!("a work disk of {from} cannot shrink to {to}"),
        "a disk only grows; for a smaller one make another VM and move what you need".to_owned(),
    )
}

/// Refuses environments that cannot be.
pub(super) fn check_env(env: &BTreeMap<String, String>) -> Result<(), Report> {
    check_texts("variables", env, MAX_ENV)
}

/// Refuses labels that cannot be, or are too many.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Report> {
    check_texts("labels", labels, MAX_LABELS)
}

/// Refuses times after which no VM can be stopped.
pub(super) fn check_auto_stop(seconds: u64) -> Result<(), Report> {
    if AUTO_STOP_S.contains(&seconds) {
        return Ok(());
    }
    refuse(
        format!("a VM cannot be stopped after {seconds} s without use"),
        format!("give {} to {} seconds, or 0 for never", AUTO_STOP_S.start(), AUTO_STOP_S.end()),
    )
}

fn check_texts(
    what: &str,
    texts: &BTreeMap<String, String>,
    (count, bytes): (usize, usize),
) -> Result<(), Report> {
    if texts.len() > count {
        let message = format!("{} {what} are too many: {count} are allowed", texts.len());
        return Err(Report::new(Kind::Invalid, message));
    }
    for (key, value) in texts {
        let key_is_bad = key.is_empty() || key.contains(['=', '\0']) || value.contains('\0');
        if key_is_bad || key.len() + value.len() > bytes {
            let key: String = key.escape_debug().take(80).collect();
            let message = format!("`{key}` cannot be one of the {what}");
            return refuse(message, format!("write KEY=VALUE, at most {bytes} bytes"));
        }
    }
    Ok(())
}

/// Refuses more rules than a firewall is to have for one VM.
pub(super) fn check_rules(count: usize) -> Result<(), Report> {
    if count <= MAX_RULES {
        return Ok(());
    }
    refuse(
        format!("{count} rules are too many: a VM may have {MAX_RULES}"),
        "one rule can be about every name below another (`*.example.org`), or about a range"
            .to_owned(),
    )
}

/// The machine that a VM is.
pub(super) fn machine_of(spec: &VmSpec) -> MachinePlan {
    MachinePlan {
        image: spec.image.clone(),
        vcpu: spec.vcpu,
        memory_mib: spec.memory_mib,
        disk_bytes: spec.disk_bytes,
        root_disk_bytes: spec.root_disk_bytes,
        net: spec.net,
        egress: spec.egress.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Policy;
    use crate::wire::rpc::NetMode;

    fn machine() -> MachinePlan {
        MachinePlan {
            image: "default".parse().expect("valid"),
            vcpu: 2,
            memory_mib: 512,
            disk_bytes: 1 << 30,
            root_disk_bytes: 1 << 30,
            net: NetMode::None,
            egress: Policy::default(),
        }
    }

    #[test]
    fn impossible_machines_are_refused_with_a_hint() {
        assert_eq!(check_machine(&machine(), 512), Ok(()));
        for bad in [
            MachinePlan { vcpu: 0, ..machine() },
            MachinePlan { vcpu: 65, ..machine() },
            MachinePlan { memory_mib: 0, ..machine() },
            MachinePlan { memory_mib: 513, ..machine() },
            MachinePlan { memory_mib: u64::MAX, ..machine() },
            MachinePlan { disk_bytes: 1 << 20, ..machine() },
            MachinePlan { disk_bytes: (1 << 30) + 1, ..machine() },
            MachinePlan { root_disk_bytes: 17 << 40, ..machine() },
        ] {
            let error = check_machine(&bad, 512).expect_err("refused");
            assert!(error.kind == Kind::Invalid && error.hint.is_some(), "{error:?}");
        }
    }

    #[test]
    fn a_disk_only_grows() {
        assert_eq!(check_growth(1 << 30, 1 << 30), Ok(()));
        assert_eq!(check_growth(1 << 30, 2 << 30), Ok(()));
        let error = check_growth(2 << 30, 1 << 30).expect_err("refused");
        assert_eq!(error.message, "a work disk of 2G cannot shrink to 1G");
        assert!(error.hint.is_some());
    }

    #[test]
    fn variables_and_labels_must_be_what_they_are_called() {
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        assert_eq!(check_env(&one("A", "b=c d\n")), Ok(()));
        for (key, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
            check_env(&one(key, value)).expect_err("refused");
            check_labels(&one(key, value)).expect_err("refused");
        }
        check_env(&one("A", &"x".repeat(40_000))).expect_err("too long");
        check_labels(&one("A", &"x".repeat(256))).expect_err("too long");
        let many = |count: usize| (0..count).map(|at| (at.to_string(), String::new())).collect();
        assert_eq!(check_labels(&many(64)), Ok(()));
        check_labels(&many(65)).expect_err("too many");
    }

    #[test]
    fn times_of_idleness_are_bounded() {
        assert_eq!(check_auto_stop(1), Ok(()));
        for bad in [0, 366 * 24 * 3600, u64::MAX] {
            assert!(check_auto_stop(bad).expect_err("refused").hint.is_some());
        }
    }
}
