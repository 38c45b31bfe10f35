//! Git's index, and what it says of files so that git need not read them (gitformat-index(5), and `racy-git` in git's
//! own documentation).
//!
//! Git takes a file as unchanged when it has the size, times, inode and owner that the index has for it, and was
//! changed last before the index was written. What the source's index says of a file goes on to hold of the same file
//! in a guest, once the numbers are those that it has there:
//!
//! ```text
//!  source's index ── means the very file that is sent ──► Promise: this object, with this size and time
//!                                                           │ put into
//!                                                           ▼
//!  guest's index, on its way: size and time ── what lies there has both ──► all numbers, as git would have them
//! ```
//!
//! A promise that is not made good tells git nothing, as there is no inode in it: git reads the file, as it would
//! without. It also reads every file that was changed in the second in which the index was written or later, by the
//! clock that the index is dated by: so an edit that comes right behind is seen, and so is what a source dates in the
//! future.
//!
//! A host could say all of it alone if git in the guest looked at nothing but size and seconds
//! (`core.checkStat=minimal`, `core.trustctime=false`), and the agent would need no index. But that would be so for
//! all of the user's work there, and for ever: a change after which some tool puts the old time back would be taken
//! for none, and so would one at the second that a clock which was set back reaches again. Filled in by the agent, the
//! numbers are what a checkout by git leaves, and git and all that reads its index are as careful as ever.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gix_index::entry::stat::{Options, Time};
use gix_index::entry::{Stage, Stat};
use gix_index::fs::Metadata;
use gix_index::hash::{Kind, ObjectId, hasher};
use gix_index::{File, State, decode, write};

/// The largest sum of the paths of an index, in bytes. The newest form says of a path only what differs from the one
/// before, so that a short file may have very long ones.
const MAX_PATHS: usize = 512 << 20;

/// An index.
#[derive(Debug)]
pub struct Index(State);

/// That a file is an object of git's, as long as it has a size and a time.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    object: ObjectId,
    /// Nothing but size and seconds of the last change.
    stat: Stat,
}

impl Index {
    /// Reads an index of our own that was written at a time.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn read(bytes: &[u8], written: SystemTime) -> io::Result<Self> {
        let kind = hash_of(bytes).ok_or_else(unsound)?;
        Self::decode(bytes, written, kind)
    }

    /// Reads the entries of an index that anybody may have made. Of a split one, entries that are in its other part are
    /// not there.
    ///
    /// # Errors
    /// When it is none, not whole, or too large.
    pub fn read_entries(bytes: &[u8], written: SystemTime) -> io::Result<Self> {
        let kind = hash_of(bytes).ok_or_else(unsound)?;
        // What follows them is decoded as deep as it is nested: a short one could use up the stack.
        let end = end_of_entries(bytes, kind).ok_or_else(unsound)?;
        let no_sum = vec![0; kind.len_in_bytes()];
        Self::decode(&[&bytes[..end], &no_sum].concat(), written, kind)
    }

    fn decode(bytes: &[u8], written: SystemTime, kind: Kind) -> io::Result<Self> {
        let options = decode::Options { thread_limit: Some(1), ..decode::Options::default() };
        let (state, _) = State::from_bytes(bytes, written.into(), kind, options).map_err(said)?;
        Ok(Self(state))
    }

    /// The index as a file has it.
    ///
    /// # Errors
    /// When it is larger than an index can be.
    pub fn write(self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::from_state(self.0, PathBuf::new());
        file.write_to(&mut bytes, write::Options::default()).map_err(said)?;
        Ok(bytes)
    }

    /// What this index says of an open file or link that has just been read and lies at this path of the working tree.
    /// None where git would read it before it said anything.
    #[must_use]
    pub fn promise(&self, path: &[u8], file: &fs::File) -> Option<Promise> {
        let entry = self.0.entry_by_path_and_stage(path.into(), Stage::Unconflicted)?;
        let found = stat(&Metadata::from_file(file).ok()?)?;
        let to_the_nanosecond = Options { use_nsec: true, ..Options::default() };
        // Where a file has whole seconds, the index's own fraction says nothing of what came first.
        let racy = Options { use_nsec: found.mtime.nsecs != 0, ..Options::default() };
        if !entry.stat.matches(&found, to_the_nanosecond)
            || entry.stat.is_racy(self.0.timestamp(), racy)
        {
            return None;
        }
        let mtime = Time { secs: found.mtime.secs, nsecs: 0 };
        let stat = Stat { mtime, size: found.size, ..Stat::default() };
        Some(Promise { object: entry.id, stat })
    }

    /// Puts promises in, by path, for the entries that are the object that is promised.
    pub fn put(&mut self, promises: &HashMap<Vec<u8>, Promise>) {
        for (entry, path) in self.0.entries_mut_with_paths() {
            let promise = promises.get::<[u8]>(path.as_ref());
            let promise = promise.filter(|promise| promise.object == entry.id);
            if let Some(promise) = promise.filter(|_| entry.stage() == Stage::Unconflicted) {
                entry.stat = promise.stat;
            }
        }
    }

    /// Takes over what the index that was there before says, of entries that are the same there and of which nothing
    /// is said here. Where the file is another by now, git sees that by the numbers.
    pub fn keep(&mut self, before: &Self) {
        for (entry, path) in self.0.entries_mut_with_paths() {
            if entry.stat != Stat::default() || entry.stage() != Stage::Unconflicted {
                continue;
            }
            let was = before.0.entry_by_path_and_stage(path, Stage::Unconflicted);
            let was = was.filter(|was| (was.id, was.mode) == (entry.id, entry.mode));
            // One that was not made good may be of a file that was there before.
            let was = was.filter(|was| !is_promise(&was.stat));
            // The new index is younger: what the old one could not tell from a change would count as none. To the
            // second, as there are gits that see no more.
            let racy = |was: &Stat| was.is_racy(before.0.timestamp(), Options::default());
            if let Some(was) = was.filter(|was| !racy(&was.stat)) {
                entry.stat = was.stat;
            }
        }
    }

    /// Makes every promise good whose file lies in this working tree as it was promised, and takes back the others.
    pub fn fulfil(&mut self, tree: &Path) {
        for (entry, path) in self.0.entries_mut_with_paths() {
            if !is_promise(&entry.stat) {
                continue;
            }
            let path: &[u8] = path.as_ref();
            let found = Metadata::from_path_no_follow(&tree.join(OsStr::from_bytes(path)));
            let found = found.ok().and_then(|found| stat(&found));
            let promised = (entry.stat.mtime, entry.stat.size);
            let kept = found.filter(|found| (found.mtime, found.size) == promised);
            entry.stat = kept.unwrap_or_default();
        }
    }
}

/// What git writes of every file, but of no promise, is its inode.
fn is_promise(stat: &Stat) -> bool {
    *stat != Stat::default() && stat.ino == 0
}

/// The numbers of a file; none for times that an index has no room for.
fn stat(file: &Metadata) -> Option<Stat> {
    Stat::from_fs(file).ok()
}

/// Which hash a repository uses is not in its index, but the index ends with one of what is before it, or with zeros
/// (`index.skipHash`, where SHA-1 is what nearly everybody has).
fn hash_of(bytes: &[u8]) -> Option<Kind> {
    let is_summed = |kind: &Kind| {
        split_end(bytes, *kind).is_some_and(|(content, sum)| {
            let mut hash = hasher(*kind);
            hash.update(content);
            hash.try_finalize().is_ok_and(|found| found.as_slice() == sum)
        })
    };
    let is_unsummed =
        || split_end(bytes, Kind::Sha1).is_some_and(|(_, sum)| sum.iter().all(|byte| *byte == 0));
    let kind = [Kind::Sha1, Kind::Sha256].into_iter().find(is_summed);
    kind.or_else(|| is_unsummed().then_some(Kind::Sha1))
}

/// Where the entries of an index end (gitformat-index(5)); none where they are not all there, or their paths are too
/// long.
fn end_of_entries(bytes: &[u8], kind: Kind) -> Option<usize> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (is_short, count) = (word(4)? == 4, word(8)?);
    let (mut at, mut path, mut paths) = (12, 0_usize, 0_usize);
    for _ in 0..count {
        let start = at;
        let flags = start + 40 + kind.len_in_bytes();
        at = flags + if bytes.get(flags)? & 0x40 == 0 { 2 } else { 4 };
        if is_short {
            let cut = number(bytes, &mut at)?;
            path = path.checked_sub(cut)?;
        } else {
            path = 0;
        }
        let name = bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
        path += name;
        paths = paths.checked_add(path).filter(|paths| *paths <= MAX_PATHS)?;
        // In the other forms, one to eight zeros fill the entry up to whole words of eight bytes.
        at = if is_short { at + name + 1 } else { start + ((at + name - start + 8) & !7) };
    }
    Some(at).filter(|at| *at <= bytes.len())
}

/// The number at a place, which goes on to its end: seven bits in each byte, whose first says whether more follow.
fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut next = || {
        let byte = *bytes.get(*at)?;
        *at += 1;
        Some(byte)
    };
    let mut byte = next()?;
    let mut number = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        byte = next()?;
        number = (number + 1).checked_mul(1 << 7)? + usize::from(byte & 0x7f);
    }
    Some(number)
}

fn unsound() -> io::Error {
    io::Error::other("it is no index of git, or only a part of one")
}

/// What is before the last bytes, as many as a hash has, and these.
fn split_end(bytes: &[u8], kind: Kind) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(kind.len_in_bytes())?)
}

fn said(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use gix_index::entry::{Flags, Mode};

    use super::*;

    /// A time in whole seconds, long ago.
    fn whole() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    }

    fn object(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    /// A file that was changed last at that time.
    fn write(folder: &Path, path: &str, text: &str) -> fs::File {
        let place = folder.join(path);
        fs::write(&place, text).expect("written");
        let file = fs::File::options().write(true).open(place).expect("opened");
        file.set_modified(whole()).expect("dated");
        file
    }

    fn numbers_of(folder: &Path, path: &str) -> Stat {
        stat(&Metadata::from_path_no_follow(&folder.join(path)).expect("there")).expect("numbers")
    }

    /// An index with these entries, which are sorted.
    fn index(entries: &[(&str, Stat, u8, Stage)], written: SystemTime) -> Index {
        let mut state = State::new(Kind::Sha1);
        for (path, stat, byte, stage) in entries {
            let flags = Flags::from_stage(*stage);
            let path = (*path).into();
            state.dangerously_push_entry(*stat, object(*byte), flags, Mode::FILE, path);
        }
        state.set_timestamp(written.into());
        Index(state)
    }

    fn said_of(index: &Index, path: &str) -> Stat {
        let entry = index.0.entry_by_path_and_stage(path.into(), Stage::Unconflicted);
        entry.expect("an entry").stat
    }

    #[test]
    fn a_promise_is_of_the_very_file_that_the_index_means() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let file = write(folder, "file", "text");
        let numbers = numbers_of(folder, "file");
        let of = |written, stage| index(&[("file", numbers, 1, stage)], written);
        let later = whole() + Duration::from_secs(1);
        let sound = of(later, Stage::Unconflicted);
        let promise = sound.promise(b"file", &file).expect("it is as git has seen it");
        assert_eq!((promise.object, promise.stat.size), (object(1), 4));
        assert!(is_promise(&promise.stat));
        assert!(sound.promise(b"other", &file).is_none());
        assert!(of(later, Stage::Ours).promise(b"file", &file).is_none(), "a conflict");
        // It can have been changed in that second without its time telling.
        let racy = of(whole() + Duration::from_millis(500), Stage::Unconflicted);
        assert!(racy.promise(b"file", &file).is_none());
        // With a fraction of its own, its time tells.
        file.set_modified(whole() + Duration::from_millis(250)).expect("dated");
        assert!(sound.promise(b"file", &file).is_none(), "it is dated anew");
        let numbers = numbers_of(folder, "file");
        let fine = [("file", numbers, 1, Stage::Unconflicted)];
        let after = |milliseconds| whole() + Duration::from_millis(milliseconds);
        assert!(index(&fine, after(500)).promise(b"file", &file).is_some());
        assert!(index(&fine, after(250)).promise(b"file", &file).is_none());
        // Another file with the same size and time.
        let other = write(folder, "other", "TEXT");
        assert!(sound.promise(b"file", &other).is_none());
    }

    #[test]
    fn promises_are_made_good_and_what_was_known_is_kept() {
        let (source, guest) = (tempfile::tempdir(), tempfile::tempdir());
        let (source, guest) = (source.expect("a folder"), guest.expect("a folder"));
        let later = whole() + Duration::from_secs(1);
        let mut promises = HashMap::new();
        for (path, byte) in [("changed", 1), ("other", 2), ("sent", 3)] {
            let file = write(source.path(), path, "text");
            let numbers = numbers_of(source.path(), path);
            let index = index(&[(path, numbers, byte, Stage::Unconflicted)], later);
            let promise = index.promise(path.as_bytes(), &file).expect("a promise");
            promises.insert(path.as_bytes().to_vec(), promise);
        }
        // What goes in is another object than the one that the source has at `other`.
        let nothing = Stat::default();
        let paths =
            [("changed", 1), ("kept", 4), ("new", 5), ("other", 6), ("racy", 7), ("sent", 3)];
        let entries = paths.map(|(path, byte)| (path, nothing, byte, Stage::Unconflicted));
        let mut coming = index(&entries, later);
        coming.put(&promises);
        let bytes = coming.write().expect("writes");
        let mut coming = Index::read(&bytes, later).expect("reads");
        for (path, text) in [("changed", "longer"), ("kept", "text"), ("other", "text")] {
            write(guest.path(), path, text);
        }
        write(guest.path(), "sent", "text");
        let racy = write(guest.path(), "racy", "text");
        racy.set_modified(later).expect("dated");
        let before = [("kept", 4), ("new", 1), ("racy", 7)].map(|(path, byte)| {
            let numbers = numbers_of(guest.path(), if path == "new" { "kept" } else { path });
            (path, numbers, byte, Stage::Unconflicted)
        });
        coming.keep(&index(&before, later + Duration::from_millis(500)));
        coming.fulfil(guest.path());
        for path in ["kept", "sent"] {
            assert_eq!(said_of(&coming, path), numbers_of(guest.path(), path), "{path}");
        }
        for path in ["changed", "new", "other", "racy"] {
            assert_eq!(said_of(&coming, path), nothing, "{path}");
        }
        // Once more, as after a cut, it stays so.
        let said: Vec<Stat> = coming.0.entries().iter().map(|entry| entry.stat).collect();
        coming.fulfil(guest.path());
        let again: Vec<Stat> = coming.0.entries().iter().map(|entry| entry.stat).collect();
        assert_eq!(again, said);
    }

    #[test]
    fn what_is_no_whole_index_is_refused() {
        let entries = [("file", Stat::default(), 1, Stage::Unconflicted)];
        let bytes = index(&entries, whole()).write().expect("writes");
        Index::read(&bytes, whole()).expect("reads");
        let mut unsummed = bytes.clone();
        let end = unsummed.len() - 20;
        unsummed[end..].fill(0);
        Index::read(&unsummed, whole()).expect("git can be told to leave the sum out");
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        for bad in [&changed[..], &bytes[..bytes.len() - 1], &[0; 40], b""] {
            Index::read(bad, whole()).expect_err("refused");
        }
        let empty = Index(State::new(Kind::Sha256)).write().expect("writes");
        assert_eq!(empty.len(), 12 + 32);
        Index::read(&empty, whole()).expect("reads the other hash, too");
    }

    /// An index as another may have made it: of one entry, with an extension of nested folders behind it.
    fn nested(levels: usize) -> Vec<u8> {
        let entries = [("file", Stat::default(), 1, Stage::Unconflicted)];
        let mut bytes = index(&entries, whole()).write().expect("writes");
        bytes.truncate(end_of_entries(&bytes, Kind::Sha1).expect("its entries"));
        let mut tree = b"\0-1 1\n".to_vec();
        for _ in 1..levels {
            tree.extend_from_slice(b"d\0-1 1\n");
        }
        tree.extend_from_slice(b"d\0-1 0\n");
        bytes.extend_from_slice(b"TREE");
        bytes.extend_from_slice(&u32::try_from(tree.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(&tree);
        let mut hash = hasher(Kind::Sha1);
        hash.update(&bytes);
        let sum = hash.try_finalize().expect("hashed");
        bytes.extend_from_slice(sum.as_slice());
        bytes
    }

    #[test]
    fn what_another_has_nested_deep_uses_up_no_stack() {
        let read = Index::read_entries(&nested(100_000), whole()).expect("its entries are sound");
        assert_eq!(said_of(&read, "file"), Stat::default());
    }
}
