//! A small file system for a world's `COVE_HOME`, which can be full.
//!
//! It is mounted in a mount namespace of the test's thread, which all that the thread starts is in as
//! well: nobody else sees it, and it goes with them even when the test is killed.

use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use super::tool;

/// Its size at first, in bytes.
const SIZE: u64 = 40 << 20;

/// A mounted file system. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Why nothing can be mounted here, if so: a test prints it and ends.
    pub(crate) fn unavailable() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("only root can mount a small file system".to_owned());
        }
        let tried = tool("unshare", &["--mount", "mount", "-t", "tmpfs", "none", "/tmp"], &[]);
        (tried.status != 0).then(|| format!("nothing can be mounted: {}", tried.stderr.trim()))
    }

    /// Mounts one of 40 MiB at an empty folder.
    pub(super) fn mount(path: &Path) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("root may have mounts of its own");
        tool("mount", &["--make-rprivate", "/"], &[]).success();
        let disk = Self { path: path.to_owned() };
        disk.tell_mount(&["-t", "tmpfs", "-o", &format!("size={SIZE}"), "none"]);
        disk
    }

    /// Gives it another size, in which so many bytes are free.
    pub(crate) fn leave(&self, free: u64) {
        let space = statvfs(&self.path).expect("its space");
        let used = (space.blocks() - space.blocks_free()) * space.fragment_size();
        self.tell_mount(&["-o", &format!("remount,size={}", used + free)]);
    }

    fn tell_mount(&self, words: &[&str]) {
        let path = self.path.to_str().expect("UTF-8");
        tool("mount", &[words, &[path]].concat(), &[]).success();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the namespace.
        tool("umount", &["--lazy", self.path.to_str().unwrap_or_default()], &[]);
    }
}
