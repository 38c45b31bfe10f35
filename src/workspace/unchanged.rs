//! Files of the source that are as they were when they were read for the tree that is in the guest: the next time, the
//! object that the tree has for them stands for them, and they are not read again.
//!
//! ```text
//!  a file, read to its end ── nothing of it has changed meanwhile ──► Status ─┐
//!                                                                             ├─► FOLDER/unchanged
//!  the tree that it has become a part of ─────────────────────────────────────┘          │
//!                                                                                        ▼
//!  the same file, looked at ── its status is the same ──► its object in that tree ──► the next tree
//! ```
//!
//! A file counts as unchanged by what git believes of one as well: device, inode, size and both times, to the
//! nanosecond. The time of the inode's last change (`ctime`) is what no program can set: so an edit is seen after which
//! somebody puts the old time back, and so is another file in that place, and a change of the mode, which need not be
//! written down therefore.
//!
//! Times do not tell all: they go on by ticks of some milliseconds, by whole seconds on some file systems, and a file is
//! dated when a write begins, or the first of many into a mapping of it, until the kernel has written that to the disk.
//! So nothing is written down of a file that was changed less than [`SETTLED`] before the reading began, and whatever is
//! done to any other from then on gives it a later time. One that is dated in the future is read each time, too.
//!
//! All of this is so where the kernel itself numbers and dates the files, and has a disk below them. On others everything
//! is read each time: a file in memory (tmpfs) is not dated again while it is mapped, an overlay may lie on such a one,
//! what is said of files in a network may be older than they are and by another clock, what a program says of its own
//! (FUSE, shared folders of virtual machines) may be anything, and FAT makes inodes up.
//!
//! What is written down names the tree and the host's boot, and says nothing of any other: when the power is cut, a new
//! content can be on a disk before its time is.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, fstatfs};

use super::WorkspaceError;
use super::git::{self, Size};
use super::kept::{self, Kept, READING};
use super::listing;
use super::tree::{Found, Stamp};
use crate::report::Report;
use crate::wire::survey::EntryKind;

/// So long ago a file must have changed last when it is read: more than the kernel leaves a page unwritten into which a
/// program has stored (`dirty_expire_centisecs` and `dirty_writeback_centisecs`, 35 s where nobody has set them), and
/// longer than one write takes.
const SETTLED: Duration = Duration::from_secs(120);

/// Which boot of the host it is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The most bytes of all that is written down: a million files with names of a hundred bytes and more.
const MAX_RECORDS: usize = 256 << 20;

/// The file systems on disks whose files the kernel numbers and dates by itself. `EXT4` is its predecessors, too.
const TRUSTED: [FsType; 6] = [
    BTRFS_SUPER_MAGIC,
    EXT4_SUPER_MAGIC,
    F2FS_SUPER_MAGIC,
    FsType(0x5846_5342), // XFS
    FsType(0x2fc1_2fc1), // ZFS
    FsType(0xca45_1a4e), // bcachefs
];

/// By what a file is known to have the content that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    stamp: Stamp,
    /// When anything of it last changed.
    changed: (i64, i64),
}

/// The statuses of files that were read for a tree, by path.
#[derive(Debug, Default)]
pub struct Statuses(HashMap<Vec<u8>, Status>);

/// What files were when they went in: their statuses, and what they are to git.
#[derive(Debug, Default)]
pub(super) struct Unchanged(HashMap<Vec<u8>, (Status, EntryKind, String)>);

impl Status {
    /// That of a file which was looked at.
    pub(super) fn of(found: &Found) -> Self {
        Self { stamp: found.stamp, changed: found.changed }
    }

    /// That of a file which was looked at and then read to its end, not before the time `begun`: if it has not changed
    /// meanwhile, and whatever is done to it from now on shows.
    pub(super) fn lasting(found: &Found, read: &File, begun: SystemTime) -> Option<Self> {
        let before = Self::of(found);
        let is_same = read.metadata().is_ok_and(|after| Self::of_metadata(&after) == before);
        (is_same && before.is_settled(begun) && is_trusted(read)).then_some(before)
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { stamp: Stamp::of(metadata), changed }
    }

    /// Whether a file that is read from this time on and changed after that cannot keep this status.
    fn is_settled(&self, begun: SystemTime) -> bool {
        let limit = begun.checked_sub(SETTLED);
        let limit = limit.and_then(|limit| limit.duration_since(UNIX_EPOCH).ok());
        let limit = limit.and_then(|limit| {
            let seconds = i64::try_from(limit.as_secs()).ok()?;
            Some((seconds, i64::from(limit.subsec_nanos())))
        });
        limit.is_some_and(|limit| self.stamp.written < limit && self.changed < limit)
    }

    /// Appends the record of a file at a path.
    fn write(&self, to: &mut Vec<u8>, path: &[u8]) {
        let Self { stamp: Stamp { device, inode, bytes, written }, changed } = self;
        let times = format!("{}.{} {}.{}", written.0, written.1, changed.0, changed.1);
        to.extend_from_slice(format!("{device} {inode} {bytes} {times}\t").as_bytes());
        to.extend_from_slice(path);
        to.push(0);
    }

    /// Takes a record apart.
    fn read(record: &[u8]) -> Option<(Vec<u8>, Self)> {
        let tab = record.iter().position(|byte| *byte == b'\t')?;
        let (words, path) = (str::from_utf8(&record[..tab]).ok()?, record[tab + 1..].to_vec());
        let words: Vec<&str> = words.split(' ').collect();
        let [device, inode, bytes, written, changed] = words[..] else {
            return None;
        };
        let time = |word: &str| -> Option<(i64, i64)> {
            let (seconds, nanoseconds) = word.split_once('.')?;
            Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
        };
        let stamp = Stamp {
            device: device.parse().ok()?,
            inode: inode.parse().ok()?,
            bytes: bytes.parse().ok()?,
            written: time(written)?,
        };
        Some((path, Self { stamp, changed: time(changed)? }))
    }
}

/// Whether the kernel itself numbers and dates this file, which is on a disk.
fn is_trusted(file: &File) -> bool {
    fstatfs(file).is_ok_and(|system| TRUSTED.contains(&system.filesystem_type()))
}

impl Statuses {
    /// Takes that of a file which has become a part of the tree.
    pub(super) fn insert(&mut self, path: &[u8], status: Status) {
        self.0.insert(path.to_vec(), status);
    }

    /// Takes those that are known of `paths` from now on, which were read anew: perhaps none.
    pub(super) fn replace(&mut self, paths: &HashSet<Vec<u8>>, read: Self) {
        self.0.retain(|path, _| !paths.contains(path));
        self.0.extend(read.0);
    }

    /// All of them as a file has them: a line with what they are `of`, then `DEVICE INODE BYTES WRITTEN CHANGED<tab>PATH<nul>`.
    /// Each holds without the others, so that as many are there as may be.
    fn write(&self, of: &str) -> Vec<u8> {
        let mut records = format!("{of}\n").into_bytes();
        for (path, status) in &self.0 {
            let end = records.len();
            status.write(&mut records, path);
            if records.len() > MAX_RECORDS {
                records.truncate(end);
                break;
            }
        }
        records
    }

    /// Reads them, if they are `of` this.
    fn read(records: &[u8], of: &str) -> io::Result<Self> {
        let unsound = || io::Error::other("it is no record of files, or not a whole one");
        let end = records.iter().position(|byte| *byte == b'\n').ok_or_else(unsound)?;
        let (named, records) = (&records[..end], &records[end + 1..]);
        if named != of.as_bytes() || records.is_empty() {
            return Ok(Self::default());
        }
        let records = records.strip_suffix(b"\0").ok_or_else(unsound)?;
        let statuses = records.split(|byte| *byte == 0).map(Status::read);
        statuses.collect::<Option<HashMap<_, _>>>().map(Self).ok_or_else(unsound)
    }
}

impl Unchanged {
    /// Whether nothing is known of any file.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object that a file is, of this kind and with this status now, if it is as it was.
    pub(super) fn object(&self, path: &[u8], kind: EntryKind, now: Status) -> Option<&str> {
        let (status, was, object) = self.0.get(path)?;
        (*status == now && *was == kind).then_some(object.as_str())
    }
}

impl Kept {
    /// What the files of the source were that are in the tree that went in, as far as that was written down. Without
    /// it, they are only read once more.
    pub(super) async fn unchanged(&self) -> Unchanged {
        self.read_unchanged().await.unwrap_or_else(|error| {
            let (folder, error) = (self.folder().display(), Report::of(&error).one_line());
            tracing::warn!(%folder, error, "what is known of unchanged files cannot be read");
            Unchanged::default()
        })
    }

    async fn read_unchanged(&self) -> Result<Unchanged, WorkspaceError> {
        let tree = self.base().await?;
        let list = self.git(Size::Work).args(["ls-tree", "-r", "-z", "--full-tree", &tree]);
        let mut statuses =
            self.blocking(move |kept| read(&kept.unchanged_file(), &of(&tree)?)).await?;
        let mut unchanged = Unchanged::default();
        if statuses.0.is_empty() {
            return Ok(unchanged);
        }
        let listing = git::run(list, READING).await?;
        for line in listing::paths(&listing) {
            let known = kept::entry(line).ok_or(WorkspaceError::Unexpected { doing: READING })?;
            if let Some(status) = statuses.0.remove(&known.path) {
                unchanged.0.insert(known.path, (status, known.kind, known.object));
            }
        }
        Ok(unchanged)
    }

    /// Writes down the statuses of files of the tree that has just gone in.
    pub(super) async fn keep_statuses(&self, statuses: Statuses) {
        let keep = async {
            let tree = self.base().await?;
            let write = move |kept: &Self| {
                let place = kept.unchanged_file();
                let new = place.with_extension("new");
                fs::write(&new, statuses.write(&of(&tree)?))?;
                fs::rename(&new, &place)
            };
            self.blocking(write).await
        };
        // Without them, files are only read once more.
        if let Err(error) = keep.await {
            let (folder, error) = (self.folder().display(), Report::of(&error).one_line());
            tracing::warn!(%folder, error, "cannot keep what is known of unchanged files");
        }
    }

    /// Forgets what files were, so that the next reading is of all.
    ///
    /// # Errors
    /// When it is there and stays.
    pub(super) async fn forget_statuses(&self) -> Result<(), WorkspaceError> {
        self.blocking(|kept| match fs::remove_file(kept.unchanged_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    fn unchanged_file(&self) -> PathBuf {
        self.folder().join("unchanged")
    }
}

/// What statuses are of: the files of a tree, in this boot of the host.
fn of(tree: &str) -> io::Result<String> {
    Ok(format!("{tree} {}", fs::read_to_string(BOOT)?.trim_end()))
}

/// Reads what a file has of this; nothing where none was written. Blocks.
fn read(place: &Path, of: &str) -> io::Result<Statuses> {
    let file = match File::open(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Statuses::default()),
        opened => opened?,
    };
    if file.metadata()?.len() > MAX_RECORDS as u64 {
        return Err(io::Error::other("it is too large"));
    }
    let mut records = Vec::new();
    file.take(MAX_RECORDS as u64).read_to_end(&mut records)?;
    Statuses::read(&records, of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::tree::Root;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn status(written: (i64, i64), changed: (i64, i64)) -> Status {
        Status { stamp: Stamp { device: 1, inode: u64::MAX, bytes: 3, written }, changed }
    }

    #[test]
    fn only_what_was_left_alone_for_a_while_is_settled() {
        let begun = UNIX_EPOCH + Duration::new(1_000_000_000, 500);
        let (at, before) = ((999_999_880, 500), (999_999_880, 499));
        for (written, changed, settled) in [
            (before, before, true),
            ((999_999_879, 999_999_999), before, true),
            ((-1, 999_999_999), before, true),
            (at, before, false),
            (before, at, false),
            (before, (999_999_999, 0), false),
            (before, (1_000_000_000, 500), false),
            // Dated in the future.
            ((1_000_000_100, 0), before, false),
            (before, (1_000_000_100, 0), false),
        ] {
            let status = status(written, changed);
            assert_eq!(status.is_settled(begun), settled, "{status:?}");
        }
        assert!(!status((0, 0), (0, 0)).is_settled(UNIX_EPOCH), "the clock was never set");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_known_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("file");
        fs::write(&place, "text").expect("written");
        let root = Root::open(folder.path()).expect("opened");
        let look = || root.look(b"file").expect("looked").expect("there");
        let read = || root.read(b"file").expect("opened").0;
        let later = SystemTime::now() + Duration::from_secs(3600);
        let (found, file) = (look(), read());
        assert_eq!(Status::lasting(&found, &file, later), Some(Status::of(&found)));
        let written = file.metadata().expect("there").modified().expect("a time");
        assert_eq!(Status::lasting(&found, &file, written), None, "it may change at that time");
        let writer = File::options().write(true).open(&place).expect("opened");
        writer.set_modified(UNIX_EPOCH).expect("dated");
        assert_eq!(Status::lasting(&found, &file, later), None, "it has changed");
        let found = look();
        fs::rename(&place, folder.path().join("away")).expect("renamed");
        fs::write(&place, "text").expect("written");
        assert_eq!(Status::lasting(&found, &read(), later), None, "another was read");
    }

    #[test]
    fn statuses_are_read_as_they_were_written_and_of_no_other_tree() {
        let mut statuses = Statuses::default();
        for (number, path) in (0..).zip([&b"a"[..], b"dir/\xff\t\n b", b"-"]) {
            statuses.insert(path, status((-number, 7), (number, 999_999_999)));
        }
        let records = statuses.write(TREE);
        assert_eq!(Statuses::read(&records, TREE).expect("reads").0, statuses.0);
        assert!(Statuses::read(&records, &"0".repeat(40)).expect("reads").0.is_empty());
        let none = Statuses::default().write(TREE);
        assert!(Statuses::read(&none, TREE).expect("reads").0.is_empty());
        for bad in ["1 2 3 4.5 6.7\tx", "1 2 3 4.5 6\tx\0", "1 2 3 4.5 6.7 8\tx\0", "\0", "x"] {
            let bad = format!("{TREE}\n{bad}");
            assert!(Statuses::read(bad.as_bytes(), TREE).is_err(), "{bad:?}");
        }
        assert!(Statuses::read(b"", TREE).is_err());
    }

    #[test]
    fn what_was_sent_is_known_by_its_last_reading_or_not_at_all() {
        let (early, late) = (status((1, 0), (1, 0)), status((2, 0), (2, 0)));
        let mut statuses = Statuses::default();
        for path in ["kept", "sent", "racy"] {
            statuses.insert(path.as_bytes(), early);
        }
        let mut sent = Statuses::default();
        sent.insert(b"sent", late);
        statuses.replace(&HashSet::from([b"sent".to_vec(), b"racy".to_vec()]), sent);
        let expected = [(b"kept".to_vec(), early), (b"sent".to_vec(), late)];
        assert_eq!(statuses.0, HashMap::from(expected));
    }

    #[test]
    fn only_the_same_status_and_kind_stand_for_an_object() {
        let was = status((1, 0), (1, 0));
        let known = (was, EntryKind::File, "ab".to_owned());
        let unchanged = Unchanged(HashMap::from([(b"x".to_vec(), known)]));
        assert_eq!(unchanged.object(b"x", EntryKind::File, was), Some("ab"));
        assert_eq!(unchanged.object(b"x", EntryKind::Executable, was), None);
        assert_eq!(unchanged.object(b"y", EntryKind::File, was), None);
        let other = status((1, 0), (1, 1));
        assert_eq!(unchanged.object(b"x", EntryKind::File, other), None);
    }
}
