//! The private folder in which a copy lies until it is whole, and what dead copies have left of theirs.
//!
//! Whoever makes one holds the kernel's lock on it (`flock`), which ends with the process however that ends. So one
//! that nobody holds is a dead copy's: the next copy that comes to the same folder removes it first.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::remove_tree;
use crate::wire::proof::nonce;

/// How a staging folder's name begins.
const PREFIX: &str = ".cove-cp-";

/// How many random characters follow.
const RANDOM: usize = 16;

/// How often a staging folder is tried to be made: another copy may just be removing the folder around it, or
/// take it for a dead copy's before it is locked.
const ATTEMPTS: usize = 8;

/// Its permissions: nobody but its owner has any.
const PRIVATE: u32 = 0o700;

/// The bits of a mode that are permissions. A folder may get others from the one around it.
const PERMISSIONS: u32 = 0o777;

/// How many entries of a folder are looked at for what dead copies have left there.
const MAX_LOOKED_AT: usize = 100_000;

/// A private folder in which a copy lies until it is whole. Dropping it removes it with what is left in it.
#[derive(Debug)]
pub struct Staging {
    holder: OwnedFd,
    name: OsString,
    folder: OwnedFd,
}

impl Staging {
    /// Makes one in the folder that `holder` opens, and removes there what dead copies have left.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn make<Holder: AsFd>(mut holder: impl FnMut() -> io::Result<Holder>) -> io::Result<Self> {
        remove_dead(holder()?.as_fd());
        for _ in 1..ATTEMPTS {
            match Self::within(holder()?.as_fd()) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
                    ) => {}
                made => return made,
            }
        }
        Self::within(holder()?.as_fd())
    }

    fn within(holder: BorrowedFd<'_>) -> io::Result<Self> {
        let name = OsString::from(format!("{PREFIX}{}", &nonce()[..RANDOM]));
        let holder = holder.try_clone_to_owned()?;
        rustix::fs::mkdirat(&holder, &name, Mode::RWXU)?;
        match open(holder.as_fd(), &name).and_then(|folder| hold(holder.as_fd(), &name, folder)) {
            Ok(folder) => Ok(Self { holder, name, folder }),
            Err(error) => {
                rustix::fs::unlinkat(&holder, &name, AtFlags::REMOVEDIR).ok();
                Err(error.into())
            }
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed stays for the next copy; whoever made this one has an error to tell already.
        remove_tree(&self.holder, &self.name).ok();
    }
}

fn open(holder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(holder, name, flags, Mode::empty())
}

/// Locks a staging folder that has just been made. Where the file system has no locks it is never taken for a
/// dead copy's either.
fn hold(holder: BorrowedFd<'_>, name: &OsStr, folder: OwnedFd) -> rustix::io::Result<OwnedFd> {
    let locked = rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive);
    if locked == Err(Errno::WOULDBLOCK) {
        return Err(Errno::WOULDBLOCK);
    }
    // Another copy may have removed it before.
    let there = rustix::fs::statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if same(&rustix::fs::fstat(&folder)?, &there) { Ok(folder) } else { Err(Errno::NOENT) }
}

/// Removes what dead copies have left in a folder. What cannot be removed, or not be known as theirs, stays.
fn remove_dead(holder: BorrowedFd<'_>) {
    let Ok(entries) = Dir::read_from(holder) else { return };
    for entry in entries.take(MAX_LOOKED_AT).map_while(Result::ok) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_staging(name) {
            remove_if_dead(holder, name).ok();
        }
    }
}

fn remove_if_dead(holder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let folder = open(holder, name)?;
    let stat = rustix::fs::fstat(&folder)?;
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
    if !is_own || stat.st_mode & PERMISSIONS != PRIVATE {
        return Ok(());
    }
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    // Another may have come to its name before it was locked.
    let there = rustix::fs::statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if same(&stat, &there) { remove_tree(holder, name) } else { Ok(()) }
}

/// Whether this is a name that staging folders get.
fn is_staging(name: &OsStr) -> bool {
    let random = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_hexdigit))
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).expect("readable");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("read").file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_dead_copies_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let make = || Staging::make(|| fs::File::open(folder.path())).expect("made");
        let alive = make();
        let dead = folder.path().join(".cove-cp-0123456789abcdef");
        fs::create_dir_all(dead.join("copy/deep")).expect("made");
        fs::set_permissions(&dead, PermissionsExt::from_mode(PRIVATE)).expect("set");
        // Names that are none of cove's, a folder that is not as cove makes it, and what is no folder.
        let open = ".cove-cp-cccccccccccccccc";
        let others = [".cove-cp-0123456789abcde", ".cove-cp-0123456789abcdeg", "cove-cp-", open];
        for other in others {
            fs::create_dir(folder.path().join(other)).expect("made");
        }
        let permissions = PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path().join(open), permissions).expect("set");
        std::os::unix::fs::symlink("/", folder.path().join(".cove-cp-aaaaaaaaaaaaaaaa"))
            .expect("linked");
        fs::write(folder.path().join(".cove-cp-bbbbbbbbbbbbbbbb"), "a file").expect("written");
        let newer = make();
        let mut expected: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        expected
            .extend([".cove-cp-aaaaaaaaaaaaaaaa", ".cove-cp-bbbbbbbbbbbbbbbb"].map(str::to_owned));
        let mut with_both = expected.clone();
        with_both.extend(
            [&alive, &newer].map(|staging| staging.name.to_str().expect("UTF-8").to_owned()),
        );
        expected.sort();
        with_both.sort();
        assert_eq!(names(&folder), with_both);
        drop((alive, newer));
        assert_eq!(names(&folder), expected);
    }

    #[test]
    fn one_that_another_copy_has_in_hand_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let holder = fs::File::open(folder.path()).expect("opened");
        let name = OsStr::new(".cove-cp-0123456789abcdef");
        fs::create_dir(folder.path().join(name)).expect("made");
        let (first, second) = (open(holder.as_fd(), name), open(holder.as_fd(), name));
        let first = hold(holder.as_fd(), name, first.expect("opened")).expect("nobody has it");
        let held = hold(holder.as_fd(), name, second.expect("opened"));
        assert_eq!(held.expect_err("another has it"), Errno::WOULDBLOCK);
        fs::remove_dir(folder.path().join(name)).expect("removed");
        let held = hold(holder.as_fd(), name, first);
        assert_eq!(held.expect_err("it is gone"), Errno::NOENT);
    }
}
