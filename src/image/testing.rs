//! A cache and a home in a temporary folder, with small real entries, for the tests of this module.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::catalog::Images;
use crate::id::Digest;

/// A temporary folder with `cache` and `home`.
pub(super) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn images(&self) -> Images {
        Images::open(&self.path("home"), &self.path("cache"))
    }

    /// Writes an image and a kernel into the cache as setup does; `seed` makes them differ.
    pub(super) fn default_entries(&self, seed: &str) -> (Digest, Digest) {
        (self.image_entry(seed), self.kernel_entry(seed))
    }

    fn image_entry(&self, seed: &str) -> Digest {
        let content = format!("image {seed}");
        let digest = Digest::of(content.as_bytes());
        let folder = self.path("cache/images").join(digest.as_str());
        write(&folder.join("root.ext4"), content.as_bytes());
        let manifest = json!({
            "name": "default", "digest": digest, "bytes": content.len(), "suite": "bookworm",
            "description": format!("Debian {seed}"), "made_at": "2026-01-01T00:00:00Z",
            "recipe": Digest::of(b"recipe"),
        });
        write(&folder.join("image.json"), manifest.to_string().as_bytes());
        digest
    }

    fn kernel_entry(&self, seed: &str) -> Digest {
        let content = format!("kernel {seed}");
        let digest = Digest::of(content.as_bytes());
        let folder = self.path("cache/kernels").join(digest.as_str());
        write(&folder.join("vmlinuz"), content.as_bytes());
        write(&folder.join("modules/modules.builtin"), b"kernel/fs/ext4/ext4.ko\n");
        write(&folder.join("modules/kernel/fs/overlayfs/overlay.ko"), b"elf");
        let manifest = json!({
            "digest": digest, "release": format!("6.{seed}-cloud"), "package": "linux-image",
            "package_version": seed, "made_at": "2026-01-01T00:00:00Z",
            "recipe": Digest::of(b"recipe"),
        });
        write(&folder.join("kernel.json"), manifest.to_string().as_bytes());
        digest
    }

    /// Makes these the defaults of the cache.
    pub(super) fn name_defaults(&self, image: &Digest, kernel: &Digest) {
        let defaults = json!({
            "image": {"name": "default", "digest": image}, "kernel": {"digest": kernel},
        });
        write(&self.path("cache/default.json"), defaults.to_string().as_bytes());
    }
}

/// Writes a file with its folders.
pub(super) fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    fs::write(path, content).expect("written");
}
