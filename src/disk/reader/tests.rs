//! The reader: what it makes of disks, sound and hostile, and what its jail leaves to it.

mod hostile;
mod jailed;
mod trees;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::ext4::Ext4;
use super::*;
use crate::process::Tool;

/// A tree, and a disk that is made of it.
struct Disk {
    folder: TempDir,
    path: PathBuf,
}

impl Disk {
    /// Makes a disk of so many MiB with what `fill` puts into a folder.
    async fn make(mib: u64, options: &[&str], fill: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let (source, path) = (folder.path().join("source"), folder.path().join("disk"));
        std::fs::create_dir(&source).expect("made");
        fill(&source);
        File::create(&path).expect("made").set_len(mib << 20).expect("set");
        let made = Tool::new("mke2fs").args(["-q", "-F", "-t", "ext4"]);
        let made = made.args(options).arg("-d").arg(&source).arg(&path);
        made.run().await.expect("made");
        Self { folder, path }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn open(&self) -> Ext4 {
        Ext4::open(File::open(&self.path).expect("there")).expect("sound")
    }
}

/// What a reader says of a path on a disk.
fn told(path: &str, disk: File) -> Vec<u8> {
    let wanted = Wanted { vm: "web".to_owned(), home: "/root".into(), path: path.to_owned() };
    let mut said = Vec::new();
    tell(&wanted, disk, &mut said).expect("it is taken");
    said
}
