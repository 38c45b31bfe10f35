//! The disks of a test's VMs, which outlive the VMs so that all of them can be checked when the test ends.
//!
//! A watcher gives every disk that a monitor has got a second name (a hard link) in a folder of the
//! harness: neither `--rm` nor `delete` takes it away then. A VM that was never started is met when its
//! world ends. Not kept are disks that are a file system apart, where a second name cannot be, and would
//! take the room that the test is about: of those, what is at rest when the world ends is checked in place.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::tool;

/// The disk files in a VM's folder.
const DISKS: [&str; 2] = ["work.ext4", "root.ext4"];

/// What is in a VM's folder from its monitor's start on: its disks are whole by then.
const STARTED: &str = "qmp.sock";

/// How often folders of VMs are looked at: no boot takes so little.
const LOOK: Duration = Duration::from_millis(50);

/// The watcher of one world.
#[derive(Debug)]
pub(super) struct Disks {
    kept: PathBuf,
    watcher: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Disks {
    /// Keeps the disks of VMs whose folders are below `vms`, in the new folder `kept`.
    pub(super) fn watch(vms: PathBuf, kept: PathBuf) -> Self {
        fs::create_dir(&kept).expect("made");
        let (stop, stopped) = sync_channel(0);
        let place = kept.clone();
        let watcher = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                started(&vms).for_each(|folder| keep_what_can_be(&folder, &place));
            }
        });
        Self { kept, watcher: Some((stop, watcher)) }
    }

    /// The disks of a VM at rest will be checked, or have been where they cannot be kept.
    pub(super) fn at_rest(&self, folder: &Path) {
        for disk in DISKS {
            match keep(folder, disk, &self.kept) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    assert_sound(&folder.join(disk), &self.kept);
                }
                Err(error) => panic!("{}: {error}", folder.join(disk).display()),
            }
        }
    }

    /// Checks all disks that were kept. No monitor may have them any more.
    pub(super) fn check(&mut self) {
        self.end();
        let entries = fs::read_dir(&self.kept).expect("readable");
        for path in entries.map(|entry| entry.expect("read").path()) {
            assert_sound(&path, &self.kept);
        }
    }

    fn end(&mut self) {
        if let Some((stop, watcher)) = self.watcher.take() {
            drop(stop);
            // What it could panic of is no more than a test that fails already.
            watcher.join().unwrap_or_default();
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.end();
    }
}

/// The folders of VMs that have been started.
fn started(vms: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    // There is none at first.
    let entries = fs::read_dir(vms).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|folder| folder.join(STARTED).exists())
}

/// A VM may be deleted between two looks, and be somewhere else than second names can be.
fn keep_what_can_be(folder: &Path, place: &Path) {
    DISKS.iter().for_each(|disk| keep(folder, disk, place).unwrap_or_default());
}

fn keep(folder: &Path, disk: &str, place: &Path) -> io::Result<()> {
    let vm = folder.file_name().and_then(|name| name.to_str()).expect("an id");
    match fs::hard_link(folder.join(disk), place.join(format!("{vm}-{disk}"))) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        kept => kept,
    }
}

fn assert_sound(disk: &Path, scratch: &Path) {
    let wrong = faults(disk, scratch);
    assert_eq!(wrong, None, "the file system of {} is damaged", disk.display());
}

/// What `e2fsck` finds wrong. Where the power was cut, in a copy that has played back its journal, as the
/// next mount would: what is wrong then is damage.
fn faults(disk: &Path, scratch: &Path) -> Option<String> {
    if !has_open_journal(disk).expect("a file system") {
        return complaints(disk, "-fn", &[0]);
    }
    let copy = scratch.with_extension("copy");
    let [from, to] = [disk, &copy].map(|path| path.to_str().expect("UTF-8"));
    tool("cp", &["--sparse=always", "--reflink=auto", from, to], &[]).success();
    // It corrects nothing but what an interrupted system leaves, and says by 1 that it did.
    let found = complaints(&copy, "-fp", &[0, 1]).or_else(|| complaints(&copy, "-fn", &[0]));
    fs::remove_file(&copy).expect("removed");
    found
}

fn complaints(disk: &Path, how: &str, fine: &[i32]) -> Option<String> {
    let ran = tool("e2fsck", &[how, disk.to_str().expect("UTF-8")], &[]);
    (!fine.contains(&ran.status)).then(|| ran.told())
}

/// Whether an ext4's journal has to be played back: a bit in its superblock
/// (<https://docs.kernel.org/filesystems/ext4/super.html>, `s_feature_incompat`).
fn has_open_journal(disk: &Path) -> io::Result<bool> {
    const SUPERBLOCK: u64 = 1024;
    const NEEDS_RECOVERY: u32 = 0x4;
    let file = File::open(disk)?;
    let (mut magic, mut features) = ([0; 2], [0; 4]);
    file.read_exact_at(&mut magic, SUPERBLOCK + 0x38)?;
    file.read_exact_at(&mut features, SUPERBLOCK + 0x60)?;
    assert_eq!(u16::from_le_bytes(magic), 0xef53, "{} is no ext4", disk.display());
    Ok(u32::from_le_bytes(features) & NEEDS_RECOVERY != 0)
}

/// A small file system with a folder `vm` around it, changed by the words of `debugfs`.
#[cfg(test)]
fn made(words: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("work.ext4");
    File::create(&disk).and_then(|file| file.set_len(64 << 20)).expect("made");
    let path = disk.to_str().expect("UTF-8");
    tool("mke2fs", &["-q", "-F", "-t", "ext4", path], &[]).success();
    let commands = folder.path().join("commands");
    fs::write(&commands, words).expect("written");
    tool("debugfs", &["-w", "-f", commands.to_str().expect("UTF-8"), path], &[]).success();
    (folder, disk)
}

#[test]
fn damage_is_found_and_an_open_journal_is_none() {
    for (words, journal, damaged) in [
        ("mkdir fine\n", false, false),
        ("jo\njw -b 500 /etc/passwd\njc\n", true, false),
        // A folder whose mode has lost its type bits, and one that its parent does not know.
        ("mkdir bad\nset_inode_field bad mode 0755\n", false, true),
        ("mkdir bad\nunlink bad\njo\njw -b 500 /etc/passwd\njc\n", true, true),
    ] {
        let (folder, disk) = made(words);
        assert_eq!(has_open_journal(&disk).expect("read"), journal, "{words}");
        let found = faults(&disk, &folder.path().join("scratch"));
        assert_eq!(found.is_some(), damaged, "{words}: {found:?}");
        assert!(!folder.path().join("scratch.copy").exists());
    }
}

#[test]
fn disks_of_started_vms_outlive_them() {
    let (folder, disk) = made("");
    let vms = folder.path().join("vms");
    let [started, unstarted] = ["started", "unstarted"].map(|name| vms.join(name));
    let mut disks = Disks::watch(vms, folder.path().join("kept"));
    for vm in [&started, &unstarted] {
        fs::create_dir_all(vm).expect("made");
        for name in DISKS {
            fs::copy(&disk, vm.join(name)).expect("copied");
        }
    }
    fs::write(started.join(STARTED), "").expect("written");
    let kept = folder.path().join("kept/started-root.ext4");
    super::wait_until(super::QUICK, || if kept.exists() { Ok(()) } else { Err(()) }).expect("kept");
    fs::remove_dir_all(&started).expect("removed");
    disks.at_rest(&unstarted);
    disks.check();
    let names = fs::read_dir(folder.path().join("kept")).expect("readable");
    assert_eq!(names.count(), 4);
    fs::write(kept, "no file system").expect("written over");
    let check = std::panic::AssertUnwindSafe(move || disks.check());
    std::panic::catch_unwind(check).expect_err("it is found");
}
