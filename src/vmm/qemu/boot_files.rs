//! What one boot has in the VM's folder besides disks and console: sockets, and the initramfs with its key.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::image::initramfs;
use crate::task::blocking;
use crate::vm::ports::MachineSpec;
use crate::vmm::VmmError;
use crate::wire::boot::BootMode;

/// The initramfs of one boot.
pub(super) const INITRD: &str = "initrd";

/// Writes the initramfs of a boot: the part that all boots share, and the boot's key.
pub(super) async fn write_initrd(spec: &MachineSpec) -> Result<(), VmmError> {
    let path = spec.folder.join(INITRD);
    let (base, key, boot_id) = (spec.initramfs.clone(), spec.key.clone(), spec.boot_id.clone());
    let write = move || initramfs::boot_initrd(&base, &path, &key, &boot_id, BootMode::Machine);
    blocking(write).await.map_err(VmmError::Initramfs)
}

/// Removes what a boot has left, once its processes have ended. Blocks.
pub(super) fn clear(folder: &Path) -> Result<(), VmmError> {
    let failed = |path: &Path, source| VmmError::BootFile { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(folder, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| failed(&path, error))?;
        if kind.is_socket() || entry.file_name() == INITRD {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_and_the_initramfs_go() {
        let folder = tempfile::tempdir().expect("tempdir");
        for file in [INITRD, "work.ext4", "root.ext4", "console-0"] {
            std::fs::write(folder.path().join(file), file).expect("written");
        }
        let sockets = ["qmp.sock", "network.sock"];
        let _open = sockets.map(|name| {
            std::os::unix::net::UnixListener::bind(folder.path().join(name)).expect("bound")
        });
        clear(folder.path()).expect("cleared");
        let entries = std::fs::read_dir(folder.path()).expect("there");
        let mut left: Vec<_> = entries.map(|entry| entry.expect("read").file_name()).collect();
        left.sort();
        assert_eq!(left, ["console-0", "root.ext4", "work.ext4"]);
        clear(&folder.path().join("gone")).expect("nothing is there");
    }
}
