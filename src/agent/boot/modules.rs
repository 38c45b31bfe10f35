//! Loading the kernel modules that the host put into the initramfs, in the order of their index.

use std::fs::{self, File};
use std::path::Path;

use nix::kmod::{ModuleInitFlags, finit_module};

use super::super::failure::{During, Failure};
use crate::wire::boot::{MODULES_FOLDER, MODULES_INDEX};

/// Loads them all. One that the kernel has already is no error.
///
/// # Errors
/// Names the module that the kernel refuses.
pub(super) fn load() -> Result<(), Failure> {
    let folder = Path::new(MODULES_FOLDER);
    let index =
        fs::read_to_string(folder.join(MODULES_INDEX)).during("read the list of modules")?;
    // Most guests have no PCI bus; its modules would cost boot time for nothing.
    let pci =
        fs::read_dir("/sys/bus/pci/devices").is_ok_and(|mut devices| devices.next().is_some());
    for name in index.lines() {
        if !pci && name.starts_with("virtio_pci") {
            continue;
        }
        let step = || format!("load the kernel module `{name}`");
        let file = File::open(folder.join(name)).during(step())?;
        match finit_module(file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error).during(step()),
        }
    }
    // The memory of the initramfs is the guest's.
    fs::remove_dir_all(folder).during("clear the initramfs")
}
