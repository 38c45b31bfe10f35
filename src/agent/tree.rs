//! Trees and files that come into the guest and go out of it.
//!
//! Everything comes to a staging folder and is renamed at the end: whole or not at all. Where the destination
//! is on the home's mount, that folder lies in the one that the next boot clears, so that nothing is left of a
//! copy that the end of the machine has cut off; elsewhere it lies beside the destination, and the next copy to
//! there clears it.

use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;

use super::beneath::{self, Beneath};
use super::failure::{Failure, NotTaken};
use super::plan::STAGING;
use super::{index, survey, update};
use crate::archive::{ArchiveError, Bits, LargeFiles, Limits, Place, Source, Staging, TOP, unpack};
use crate::wire::guest::{Incoming, ReceiveTree, TreeChange, TreeFailure, place_of};
use crate::wire::survey::MAX_RECORDS;

/// That something has the place of a folder that is to be made.
#[derive(Debug, thiserror::Error)]
#[error("something is there already")]
struct ThereAlready;

/// Takes the stream of a tree for a folder below the home. Blocks. What is returned are records by which the files
/// of a new one are known again.
///
/// # Errors
/// When the stream is cut off or no plain tree, the disk is full, or there is a folder that is to be made, or
/// none that is to be brought up to date. What that means for the folder is said with it.
pub fn receive(home: &Path, tree: &ReceiveTree, stream: impl Read) -> Result<Vec<u8>, NotTaken> {
    match tree.how {
        TreeChange::Make => make(home, &tree.path, stream),
        TreeChange::Update => {
            // What is put in its place is dated anew by that.
            update::receive(home, &tree.path, stream).map(|()| Vec::new())
        }
    }
}

/// Makes a new folder at `path` below the home. It appears as the last thing that can fail, so that after a failure
/// nothing of it is there.
fn make(home: &Path, path: &str, stream: impl Read) -> Result<Vec<u8>, NotTaken> {
    unpack_into(home, path, stream).map_err(|source| {
        let reason = match source.is::<ThereAlready>() {
            true => TreeFailure::ThereAlready,
            false => TreeFailure::Untouched,
        };
        let step = format!("unpack `~/{}`", path.escape_debug());
        NotTaken { reason, failure: Failure { step, source } }
    })
}

/// Unpacks the stream into a new folder at `path` below the home.
fn unpack_into(
    home: &Path,
    path: &str,
    stream: impl Read,
) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let inside = beneath::relative(path)?;
    let home = Beneath::open(home)?;
    let (parent, name) = home.make_parent(inside)?;
    if rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(ThereAlready.into());
    }
    let staging = Staging::make(|| staging_of(&home))?;
    let unpack = || -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let tree = staging.folder();
        rustix::fs::mkdirat(tree, TOP, rustix::fs::Mode::RWXU)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let tree = rustix::fs::openat(tree, TOP, flags, rustix::fs::Mode::empty())?;
        beneath::own(&tree, beneath::PARENT_MODE)?;
        unpack(tree.as_fd(), stream, Bits::All, Limits::default(), LargeFiles::Direct)?;
        index::complete_new(&tree);
        home.sync()?;
        // Without records, or where they are more than the host takes, the files are only read once more.
        let arrived = survey::arrived(tree.as_fd()).ok();
        let arrived = arrived.filter(|records| records.len() <= MAX_RECORDS).unwrap_or_default();
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(staging.folder(), TOP, &parent, &name, flags) {
            Err(Errno::EXIST) => Err(ThereAlready.into()),
            renamed => Ok(renamed.map(|()| arrived)?),
        }
    };
    let unpacked = unpack();
    drop(staging);
    clear(&home);
    unpacked
}

/// Unpacks the stream, in which there is one thing, at `path` (relative to the home, or absolute). Blocks.
///
/// # Errors
/// When something is in its way, the stream is cut off or no plain tree, or the disk is full. Then nothing of
/// it is left, and what was there is as it was.
pub fn take_in(
    home: &Path,
    path: &str,
    incoming: &Incoming,
    stream: impl Read,
) -> Result<(), ArchiveError> {
    let name = incoming.name.as_deref().map(OsStr::new);
    let place = Place::find(&place_of(home, path), name)?;
    place.admit(incoming.kind)?;
    let beneath = Beneath::open(home).map_err(|source| place.unwritable(source))?;
    let shares = shares_mount(&beneath, &place);
    let staging = match shares {
        true => Staging::make(|| staging_of(&beneath)),
        false => Staging::make(|| Ok(place.parent())),
    };
    let staging = staging.map_err(|source| place.unwritable(source))?;
    let (bits, limits) = (Bits::Permissions, Limits::default());
    let came = unpack(staging.folder(), stream, bits, limits, LargeFiles::Direct)
        .and_then(|()| place.publish(&staging));
    drop(staging);
    if shares {
        clear(&beneath);
    }
    came
}

/// Opens what is at `path` (relative to the home, or absolute), to be packed. Blocks.
///
/// # Errors
/// When it is not there, or is neither file, folder nor link.
pub fn open(home: &Path, path: &str) -> Result<Source, ArchiveError> {
    Source::open(&place_of(home, path))
}

/// The folder that the next boot clears.
fn staging_of(home: &Beneath) -> io::Result<OwnedFd> {
    let staging = home.make_folder(Path::new(STAGING))?;
    beneath::own(&staging, 0o700)?;
    Ok(staging)
}

/// Whether something can be renamed from the home to a place: between two mounts of one disk it cannot.
fn shares_mount(home: &Beneath, place: &Place) -> bool {
    let home = mount(home);
    home.is_some() && home == mount(place.parent())
}

/// The kernel's number of the mount that a folder is reached by; none where it does not say.
fn mount(folder: impl AsFd) -> Option<u64> {
    let status = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(status.stx_mask)
        .contains(StatxFlags::MNT_ID)
        .then_some(status.stx_mnt_id)
}

/// Removes the staging folder, unless something else is on its way; then that one removes it, or the next boot.
fn clear(home: &Beneath) {
    rustix::fs::unlinkat(home, STAGING, AtFlags::REMOVEDIR).ok();
}
