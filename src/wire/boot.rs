//! What the host and the agent agree on before they can talk: the names and files a guest boots with.
//!
//! The initramfs is two archives: one for all boots (the agent as `/init`, the kernel modules under
//! [`MODULES_FOLDER`]) and one for this boot, which holds [`BOOT_FILE`] only.

use serde::{Deserialize, Serialize};

use crate::id::BootId;

/// The file with this boot's [`BootFile`], in the initramfs. The agent removes it once it has read it.
pub const BOOT_FILE: &str = "/cove/boot.json";

/// The folder of the kernel modules in the initramfs.
pub const MODULES_FOLDER: &str = "/modules";

/// The file in [`MODULES_FOLDER`] that names one module file per line, in the order of loading.
pub const MODULES_INDEX: &str = "index";

/// The virtio serial of the base image's disk: ext4, read-only, shared by all guests.
pub const BASE_DISK: &str = "cove-base";

/// The virtio serial of the root overlay's disk: ext4, this guest's own.
pub const OVERLAY_DISK: &str = "cove-root";

/// The virtio serial of the work disk: ext4, this guest's own, mounted at the login user's home.
pub const WORK_DISK: &str = "cove-work";

/// What a guest in [`BootMode::Probe`] prints on its console before it powers off.
pub const PROBE_OK: &str = "COVE-PROBE-OK";

/// This boot, as the agent learns it.
#[derive(Clone, Serialize, Deserialize)]
pub struct BootFile {
    /// The key of this boot, hexadecimal (module `proof`).
    pub key: String,
    /// The boot's id.
    pub boot_id: BootId,
    /// 64 random bytes, hexadecimal: the kernel's first entropy, so that a guest without a hardware
    /// source can make the nonce of its first handshake.
    pub seed: String,
    /// What the guest is to do.
    pub mode: BootMode,
}

/// What a guest is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootMode {
    /// To be a machine.
    Machine,
    /// To show that this monitor and accelerator can run a kernel: it prints [`PROBE_OK`] and powers
    /// off. It needs no disks and no vsock device.
    Probe,
}
