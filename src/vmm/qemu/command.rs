//! QEMU's command line.
//!
//! Pure: what a machine is becomes arguments, and tests look at them. Paths of sockets are names in the
//! VM's folder, which is the monitor's working folder.

use std::ffi::OsString;
use std::path::Path;

use crate::id::VmId;
use crate::vm::ports::{ROOT_DISK, WORK_DISK};
use crate::vm::state::Accel;
use crate::wire::guest::Network;

/// The control socket's name in the VM's folder.
pub(super) const QMP_SOCKET: &str = "qmp.sock";
/// The console socket's name in the VM's folder.
pub(super) const CONSOLE_SOCKET: &str = "console.sock";
/// The socket between the monitor and the vsock device's process.
pub(super) const VSOCK_DEVICE_SOCKET: &str = "vhost-vsock.sock";
/// The descriptor under which the monitor gets the TAP device.
pub(super) const TAP_DESCRIPTOR: i32 = 3;

/// The kernel's command line. `quiet` and a low log level because every character on an emulated
/// serial line costs an exit; `panic=-1` and `reboot=t` turn a panic into the end of the monitor
/// (`-no-reboot`) at once, so that its cause is on the console and nobody waits for a deadline;
/// `cryptomgr.notests` leaves out self-tests of ciphers that a guest hardly uses, a tenth of a boot.
pub(super) const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t cryptomgr.notests";

/// The translation buffer of an emulated machine in MiB: QEMU's default of 1 GiB keeps translated code
/// that a short-lived guest never runs again, and makes ten VMs cost gigabytes.
pub(super) const TRANSLATION_BUFFER_MIB: u32 = 64;

/// The processor of an emulated machine: all that QEMU can emulate but for fast string instructions. Where those are
/// announced, the guest's kernel copies memory by `rep movsb`, which is emulated byte by byte: without them it writes
/// 330 MB/s to memory instead of 120, and files go out of a guest twice as fast.
pub(super) const EMULATED_CPU: &str = "max,-erms,-fsrm";

/// How the vsock device is made.
#[derive(Debug)]
pub(super) enum VsockDevice {
    /// By a process of its own, through its socket.
    Process,
    /// By the host's kernel, with this context id.
    Kernel(u32),
}

/// What the command line is made of.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) vm: &'a VmId,
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) image: &'a Path,
    pub(super) accel: Accel,
    pub(super) vcpu: u32,
    pub(super) memory_mib: u64,
    pub(super) vsock: &'a VsockDevice,
    pub(super) network: Option<&'a Network>,
    /// Further words for the kernel, each after a space.
    pub(super) kernel_arguments: &'a str,
}

/// The memory that a machine gets when its VM is to have so many MiB. With exactly 2 GiB, QEMU 10's microvm machine
/// never comes to the kernel; with a MiB more or less, and with 1, 3 and 4 GiB, it does (tried with `-accel tcg`).
fn memory_mib(wanted: u64) -> u64 {
    match wanted {
        2048 => 2047,
        other => other,
    }
}

/// The arguments of a machine.
pub(super) fn arguments(machine: &Machine<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = hardened(machine.accel);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-name", &format!("cove-{},process=cove-{}", machine.vm, machine.vm)]);
    add(&["-smp", &machine.vcpu.to_string()]);
    let memory = memory_mib(machine.memory_mib);
    add(&["-m", &format!("{memory}M")]);
    add(&[
        "-object",
        &format!("memory-backend-memfd,id=memory,size={memory}M,share=on"),
        "-machine",
        "memory-backend=memory",
    ]);
    add(&["-append", &format!("{KERNEL_ARGUMENTS}{}", machine.kernel_arguments)]);
    add(&["-chardev", &format!("socket,id=qmp,path={QMP_SOCKET},server=on,wait=off")]);
    add(&["-mon", "chardev=qmp,mode=control"]);
    add(&["-chardev", &format!("socket,id=console,path={CONSOLE_SOCKET},server=on,wait=off")]);
    add(&["-serial", "chardev:console"]);
    match machine.vsock {
        VsockDevice::Process => {
            add(&["-chardev", &format!("socket,id=vsock,path={VSOCK_DEVICE_SOCKET}")]);
            add(&["-device", "vhost-user-vsock-device,chardev=vsock"]);
        }
        VsockDevice::Kernel(cid) => {
            add(&["-device", &format!("vhost-vsock-device,guest-cid={cid}")]);
        }
    }
    if let Some(network) = machine.network {
        add(&["-netdev", &format!("tap,id=net,fd={TAP_DESCRIPTOR}")]);
        add(&["-device", &format!("virtio-net-device,netdev=net,mac={}", network.mac)]);
    }
    add(&["-kernel"]);
    arguments.push(machine.kernel.into());
    arguments.push("-initrd".into());
    arguments.push(machine.initrd.into());
    disk(&mut arguments, machine.image, "cove-base", "readonly=on");
    disk(&mut arguments, Path::new(ROOT_DISK), "cove-root", "cache=writeback,discard=unmap");
    disk(&mut arguments, Path::new(WORK_DISK), "cove-work", "cache=writeback,discard=unmap");
    arguments
}

/// What every machine has, and the least that QEMU may do. `-nodefaults -no-user-config` leaves out
/// what was not asked for; the sandbox forbids new processes, other users and resource games. Timer and
/// interrupt controller stay (`pit`, `pic`): without them an emulated guest cannot calibrate its clocks
/// and stands still before its first message. ACPI is how the guest powers off.
pub(super) fn hardened(accel: Accel) -> Vec<OsString> {
    let accel_argument = match accel {
        Accel::Kvm => "kvm".to_owned(),
        Accel::Tcg => format!("tcg,thread=multi,tb-size={TRANSLATION_BUFFER_MIB}"),
    };
    let cpu = match accel {
        Accel::Kvm => "host",
        Accel::Tcg => EMULATED_CPU,
    };
    [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        "microvm,acpi=on",
        "-accel",
        &accel_argument,
        "-cpu",
        cpu,
    ]
    .map(OsString::from)
    .to_vec()
}

/// A virtio disk. The format is always said: left to QEMU, a guest that writes the header of another
/// format with a backing file onto its raw disk could read the host at the next start. `werror=stop`
/// halts the guest when the host's disk is full, so that nothing is lost.
fn disk(arguments: &mut Vec<OsString>, file: &Path, serial: &str, options: &str) {
    // A comma in a path would begin another option; doubled, it is a comma.
    let path = file.as_os_str().to_string_lossy().replace(',', ",,");
    arguments.push("-drive".into());
    arguments
        .push(format!("file={path},format=raw,if=none,id={serial},werror=stop,{options}").into());
    arguments.push("-device".into());
    arguments.push(format!("virtio-blk-device,drive={serial},serial={serial}").into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_arguments(
        vsock: &VsockDevice,
        network: Option<&Network>,
        image: &str,
    ) -> Vec<String> {
        let vm = "0123456789ab".parse().expect("valid");
        let machine = Machine {
            vm: &vm,
            kernel: Path::new("/k"),
            initrd: Path::new("initrd"),
            image: Path::new(image),
            accel: Accel::Tcg,
            vcpu: 2,
            memory_mib: 512,
            vsock,
            network,
            kernel_arguments: " tsc=reliable",
        };
        let arguments = arguments(&machine);
        arguments.into_iter().map(|word| word.into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn every_disk_says_that_it_is_raw() {
        let arguments = machine_arguments(&VsockDevice::Process, None, "/i");
        let drives: Vec<_> = arguments.iter().filter(|word| word.starts_with("file=")).collect();
        assert_eq!(drives.len(), 3);
        assert!(drives.iter().all(|drive| drive.contains(",format=raw,")), "{drives:?}");
        assert!(drives[0].contains("readonly=on"), "the base is shared");
    }

    #[test]
    fn the_monitor_is_shut_in() {
        let arguments = machine_arguments(&VsockDevice::Process, None, "/i").join(" ");
        for wanted in [
            "-nodefaults",
            "-no-user-config",
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ] {
            assert!(arguments.contains(wanted), "{wanted} is missing in {arguments}");
        }
    }

    #[test]
    fn no_machine_has_exactly_two_gibibytes() {
        assert_eq!([512, 2047, 2048, 2049, 4096].map(memory_mib), [512, 2047, 2047, 2049, 4096]);
    }

    #[test]
    fn a_vm_without_network_has_no_network_device() {
        let arguments = machine_arguments(&VsockDevice::Kernel(77), None, "/i").join(" ");
        assert!(!arguments.contains("net"), "{arguments}");
        assert!(arguments.contains("vhost-vsock-device,guest-cid=77"));
    }

    #[test]
    fn the_kernel_gets_its_further_words() {
        let arguments = machine_arguments(&VsockDevice::Process, None, "/i");
        let append = arguments.iter().position(|word| word == "-append").expect("there is one");
        assert_eq!(arguments[append + 1], format!("{KERNEL_ARGUMENTS} tsc=reliable"));
    }

    #[test]
    fn a_comma_in_a_path_begins_no_option() {
        let arguments = machine_arguments(&VsockDevice::Process, None, "/a,readonly=off").join(" ");
        assert!(arguments.contains("file=/a,,readonly=off,format=raw"), "{arguments}");
    }
}
