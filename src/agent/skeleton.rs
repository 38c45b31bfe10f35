//! A new work disk gets what the image has in its home: files, folders and links, and no more.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::beneath::{self, names};
use crate::archive::remove_tree;

/// Where the copy is made: half of one must not look like a home that has been used.
const HALF: &str = ".cove-skeleton";

/// What mke2fs makes on every disk.
const LOST_FOUND: &str = "lost+found";

/// Permission bits of the home.
const HOME_MODE: u32 = 0o700;

/// How deep, how many entries, and how many bytes in all: an image's home is a few small files, and
/// more than this does not belong there.
const MAX_DEPTH: usize = 16;
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: u64 = 64 << 20;

/// Copies the image's home to the work disk, if that is new, and gives it the mode of a home.
///
/// # Errors
/// When the image's home is absurdly large, or the disk is full.
pub fn copy(image: impl AsFd, work: impl AsFd) -> io::Result<()> {
    let used = names(work.as_fd())?.iter().any(|name| name != LOST_FOUND && name != HALF);
    if used {
        return Ok(());
    }
    remove_tree(&work, OsStr::new(HALF))?;
    rustix::fs::mkdirat(&work, HALF, Mode::from_raw_mode(HOME_MODE))?;
    let half = folder(work.as_fd(), OsStr::new(HALF))?;
    let mut copy = Copy { entries: MAX_ENTRIES, bytes: MAX_BYTES };
    copy.folder(image.as_fd(), half.as_fd(), MAX_DEPTH)?;
    for name in names(half.as_fd())? {
        rustix::fs::renameat(&half, &name, &work, &name)?;
    }
    remove_tree(&work, OsStr::new(HALF))?;
    beneath::own(work, HOME_MODE)
}

/// What may still be copied.
struct Copy {
    entries: usize,
    bytes: u64,
}

impl Copy {
    fn folder(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        for name in names(from)? {
            let stat = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.entries = self.entries.checked_sub(1).ok_or_else(too_much)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => self.file(from, to, &name, stat.st_mode & 0o7777)?,
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(from, &name, Vec::new())?;
                    rustix::fs::symlinkat(target, to, &name)?;
                }
                FileType::Directory => {
                    let depth = depth.checked_sub(1).ok_or_else(too_much)?;
                    rustix::fs::mkdirat(to, &name, Mode::from_raw_mode(HOME_MODE))?;
                    let made = folder(to, &name)?;
                    self.folder(folder(from, &name)?.as_fd(), made.as_fd(), depth)?;
                    beneath::own(made, stat.st_mode & 0o7777)?;
                }
                // Devices, pipes and sockets belong to a running system.
                _ => {}
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        mode: u32,
    ) -> io::Result<()> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
        let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut target =
            File::from(rustix::fs::openat(to, name, write, Mode::from_raw_mode(0o600))?);
        let copied = io::copy(&mut io::Read::take(source, self.bytes + 1), &mut target)?;
        self.bytes = self.bytes.checked_sub(copied).ok_or_else(too_much)?;
        beneath::own(target, mode)
    }
}

fn folder(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn too_much() -> io::Error {
    io::Error::other("the image has more there than a home's skeleton")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn copy_paths(image: &Path, work: &Path) -> io::Result<()> {
        copy(File::open(image).expect("opens"), File::open(work).expect("opens"))
    }

    #[test]
    fn only_a_new_work_disk_gets_the_skeleton() {
        let world = tempfile::tempdir().expect("tempdir");
        let (image, work) = (world.path().join("image"), world.path().join("work"));
        fs::create_dir_all(image.join(".config/deep")).expect("made");
        fs::create_dir_all(work.join(LOST_FOUND)).expect("made");
        fs::create_dir_all(work.join(HALF).join("left")).expect("made");
        fs::write(image.join(".bashrc"), "rc").expect("written");
        fs::set_permissions(image.join(".bashrc"), PermissionsExt::from_mode(0o640)).expect("set");
        symlink("/etc/shadow", image.join("link")).expect("linked");
        nix::unistd::mkfifo(&image.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        copy_paths(&image, &work).expect("copied");
        let mut names = names(File::open(&work).expect("opens").as_fd()).expect("listed");
        names.sort();
        assert_eq!(names, [".bashrc", ".config", "link", LOST_FOUND]);
        assert_eq!(fs::read_link(work.join("link")).expect("a link"), Path::new("/etc/shadow"));
        assert!(work.join(".config/deep").is_dir());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
        assert_eq!(mode(&work), HOME_MODE);
        assert_eq!(mode(&work.join(".bashrc")), 0o640);

        fs::remove_file(work.join(".bashrc")).expect("removed");
        copy_paths(&image, &work).expect("nothing to do");
        assert!(!work.join(".bashrc").exists(), "a home in use is left alone");
    }
}
