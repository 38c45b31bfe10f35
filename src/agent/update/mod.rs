//! Bringing a tree up to date: what differs of it comes in, and all of that takes effect or nothing.
//!
//! ```text
//!  .cove-staging/update-ID/   everything is unpacked here, and compared with what lies in the tree
//!          │ rename: from here on it is decided
//!          ▼
//!  .cove-update/   place      the tree, below the home
//!                  removed    what is to be taken out, as the host knows it
//!                  replaced   what is to be replaced, as the host knows it
//!                  tree/      what is to be put in; each file goes to its place by rename
//! ```
//!
//! What is still in `tree` is still to be done: an update that is cut off behind that rename is finished at the
//! next boot, before anybody works in the guest, or by the next update. Files that the host does not know as they
//! are (changed since it looked, new, ignored by git) are somebody's: they stay, and where they are in the way the
//! update is refused. `.git` is brought up to date in the same way: what is only in the guest's stays in it. It comes
//! last, as the indexes in it say how the files lie in their places ([`index`]).
//!
//! No path leads through a link, neither in the tree nor in what comes.

pub(super) mod modules;
mod places;

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use self::places::{Listing, elsewhere, kind, put_in, put_in_files, shown, take_out};
use super::beneath::{self, Beneath};
use super::console;
use super::failure::{During, Failure, NotTaken};
use super::index;
use super::plan::STAGING;
use super::survey::{self, Listed};
use crate::archive::{self, Bits, LargeFiles, Limits, remove_tree};
use crate::id::BootId;
use crate::wire::guest::{UPDATE_DEEPENED, UPDATE_REMOVED, UPDATE_REPLACED, UPDATE_TREE};
use crate::wire::survey::{Known, MAX_RECORDS, Seen};

/// The folder at the home's root of an update that is decided.
pub const UPDATE: &str = ".cove-update";

/// The file that says for which tree it is.
const PLACE: &str = "place";

/// The longest path, as for the kernel.
const MAX_PLACE: u64 = 4095;

/// The largest list of commits whose parents are not there, and of packed references.
const MAX_SHALLOW: u64 = 16 << 20;

/// What lies in a git folder while git has something under way there.
const UNDER_WAY: [&str; 9] = [
    "index.lock",
    "HEAD.lock",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
];

/// Held while an update is decided and done.
static ALONE: Mutex<()> = Mutex::new(());

/// Takes the stream of an update of the tree at `path` below the home. Blocks.
///
/// # Errors
/// When there is no such tree, the stream is cut off, what lies in the tree is not what the host knows, git has
/// something under way there, or the disk is full. Nothing of it has taken effect then, nor will, unless that is
/// said not to be known: it may have been decided, and is finished later.
pub(super) fn receive(home: &Path, path: &str, stream: impl Read) -> Result<(), NotTaken> {
    let step = || format!("bring `~/{}` up to date", path.escape_debug());
    let home = Beneath::open(home).during(step()).map_err(NotTaken::untouched)?;
    let staging = || -> io::Result<OwnedFd> {
        let staging = home.make_folder(Path::new(STAGING))?;
        beneath::own(&staging, 0o700)?;
        Ok(staging)
    };
    staging().during(step()).map_err(NotTaken::untouched)?;
    let temporary = format!("update-{}", BootId::random());
    let folder = PathBuf::from(STAGING).join(&temporary);
    let unpacked = unpack(&home, &folder, path, stream).during(step());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let decided = unpacked.and_then(|()| finish(&home)).and_then(|()| {
        let decide = || -> io::Result<()> {
            let update = Update::open(&home, &folder)?;
            update.look_for_work_under_way()?;
            let deepened = home.read(&folder.join(UPDATE_DEEPENED), MAX_SHALLOW)?;
            update.keep_shallow(&deepened.unwrap_or_default())?;
            modules::keep_what_is_theirs(&update.root, &update.staged)?;
            home.sync()?;
            // As late as can be: whoever works in the guest goes on meanwhile.
            update.check()?;
            let flags = RenameFlags::NOREPLACE;
            // Opened anew: a tree that failed meanwhile may have taken the folder away, as it was empty.
            Ok(rustix::fs::renameat_with(staging()?, &temporary, &home, UPDATE, flags)?)
        };
        decide().during(step())
    });
    if decided.is_err() {
        staging().and_then(|staging| remove_tree(staging, OsStr::new(&temporary))).ok();
    }
    // Fails while another tree is on its way; then that one removes it, or the next boot.
    rustix::fs::unlinkat(&home, STAGING, AtFlags::REMOVEDIR).ok();
    decided.map_err(NotTaken::untouched)?;
    let update = Update::open(&home, Path::new(UPDATE)).during(step())?;
    // Somebody may have written there in the last moment: nothing is moved yet, so all of it is given up.
    if let Err(error) = update.check() {
        throw_away(&home).during(step())?;
        return Err(error).during(step()).map_err(NotTaken::untouched);
    }
    Ok(complete(&home, &update).during(unfinished())?)
}

/// Finishes an update that was cut off when the guest went down. What cannot be finished waits for the next
/// update, and the console says why.
pub(super) fn finish_at_boot(home: &Path) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let finished = Beneath::open(home).during("open the home").and_then(|home| finish(&home));
    if let Err(failure) = finished {
        console::line(&format!("cove-agent: {failure}: {}", failure.message()));
    }
}

fn unpack(home: &Beneath, folder: &Path, path: &str, stream: impl Read) -> io::Result<()> {
    home.folder(beneath::relative(path)?)?;
    let staged = home.make_folder(folder)?;
    archive::unpack(staged.as_fd(), stream, Bits::All, Limits::default(), LargeFiles::Direct)
        .map_err(io::Error::other)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let place = rustix::fs::openat(&staged, PLACE, flags, Mode::from_raw_mode(0o600))?;
    File::from(place).write_all(path.as_bytes())
}

/// Does what is left of an update that is decided, if there is one.
fn finish(home: &Beneath) -> Result<(), Failure> {
    if let Err(Errno::NOENT) = rustix::fs::statat(home, UPDATE, AtFlags::SYMLINK_NOFOLLOW) {
        return Ok(());
    }
    let finish = || -> io::Result<()> {
        let update = Update::open(home, Path::new(UPDATE))?;
        update.check()?;
        complete(home, &update)
    };
    finish().during(unfinished())
}

fn unfinished() -> String {
    format!("finish the update in `~/{UPDATE}`")
}

/// Does what an update says.
fn complete(home: &Beneath, update: &Update) -> io::Result<()> {
    update.apply()?;
    // Its journal keeps the order: when the update is gone, everything is in its place.
    throw_away(home)
}

/// Removes what is left of an update: its name first, at once, so that nobody finds a part of one.
fn throw_away(home: &Beneath) -> io::Result<()> {
    let staging = home.make_folder(Path::new(STAGING))?;
    beneath::own(&staging, 0o700)?;
    let name = format!("update-{}", BootId::random());
    rustix::fs::renameat_with(home, UPDATE, &staging, &name, RenameFlags::NOREPLACE)?;
    home.sync()?;
    remove_tree(&staging, OsStr::new(&name))?;
    // Fails while a tree is on its way; then that one removes it, or the next boot.
    rustix::fs::unlinkat(home, STAGING, AtFlags::REMOVEDIR).ok();
    Ok(())
}

/// An update, as far as it is still to be done.
struct Update {
    /// The tree.
    root: OwnedFd,
    /// What is to be put in.
    staged: OwnedFd,
    removed: Vec<Known>,
    replaced: Vec<Known>,
}

impl Update {
    fn open(home: &Beneath, folder: &Path) -> io::Result<Self> {
        let read = |name: &str, limit: u64| {
            let missing = || io::Error::other(format!("`{name}` is missing"));
            home.read(&folder.join(name), limit)?.ok_or_else(missing)
        };
        let place = String::from_utf8(read(PLACE, MAX_PLACE)?).map_err(io::Error::other)?;
        let known = |name: &str| Known::read_all(&read(name, MAX_RECORDS as u64)?);
        Ok(Self {
            root: home.folder(beneath::relative(&place)?)?,
            staged: home.folder(&folder.join(UPDATE_TREE))?,
            removed: known(UPDATE_REMOVED)?,
            replaced: known(UPDATE_REPLACED)?,
        })
    }

    /// Whether something of git comes. Where nothing does, `.git` in the tree is none of the host's.
    fn has_git(&self) -> io::Result<bool> {
        Ok(kind(&self.staged, b".git")?.is_some())
    }

    /// Refuses a tree in which git has something under way: half of that would be in what is put in.
    fn look_for_work_under_way(&self) -> io::Result<()> {
        if !self.has_git()? {
            return Ok(());
        }
        if kind(&self.root, b".git")? != Some(FileType::Directory) {
            return Err(io::Error::other("its `.git` is no folder"));
        }
        for git in ["".to_owned()].into_iter().chain(modules::of(&self.staged)?) {
            for name in UNDER_WAY {
                if kind(&self.root, format!(".git{git}/{name}").as_bytes())?.is_some() {
                    let why = format!(
                        "git has something under way there (`.git{git}/{name}`): finish or abort it first"
                    );
                    return Err(io::Error::other(why));
                }
            }
        }
        Ok(())
    }

    /// Keeps the guest's own list of commits without parents beside the one that comes, but for those whose parents
    /// come: what is only in the guest needs it.
    fn keep_shallow(&self, deepened: &[u8]) -> io::Result<()> {
        if !self.has_git()? {
            return Ok(());
        }
        if kind(&self.root, b".git/shallow")? != Some(FileType::RegularFile) {
            return Ok(());
        }
        modules::keep_shallow(&self.root, &self.staged, Path::new(".git/shallow"), deepened)
    }

    /// Compares what lies where something is to be put in or taken out with what the host knows of it.
    fn check(&self) -> io::Result<()> {
        if rustix::fs::fstat(&self.root)?.st_dev != rustix::fs::fstat(&self.staged)?.st_dev {
            return Err(elsewhere(b"."));
        }
        let Listing { mut files, folders } = Listing::of(&self.staged)?;
        for link in modules::links(&files) {
            if modules::is_same(&self.root, &self.staged, &link)? {
                files.remove(&link);
            } else if !self.replaced.iter().any(|known| known.path == link) {
                return Err(theirs(&link));
            }
        }
        let going: HashSet<&[u8]> = self.removed.iter().map(|known| &known.path[..]).collect();
        let replaced = self.replaced.iter().filter(|known| files.contains(&known.path));
        let known = self.removed.iter().chain(replaced);
        // Looked for whatever git would say of it.
        let known = known.map(|known| Known { went_in: true, ..known.clone() }).collect();
        let listed = Listed { paths: files.iter().cloned().collect(), ..Listed::default() };
        let root = format!("/proc/self/fd/{}", self.root.as_raw_fd());
        let look = survey::look(Path::new(&root), known, listed);
        let look = look.map_err(|failure| {
            io::Error::other(format!("cannot {failure}: {}", failure.message()))
        })?;
        for seen in Seen::read_all(&look.records)? {
            match seen {
                Seen::Same { .. } | Seen::Absent { .. } => {}
                Seen::Changed { path, .. } | Seen::Unseen { path } | Seen::Nested { path } => {
                    return Err(theirs(&path));
                }
            }
        }
        for folder in &folders {
            let lies = kind(&self.root, folder)?;
            let fits = lies.is_none_or(|lies| lies == FileType::Directory);
            if !fits && !going.contains(&folder[..]) {
                return Err(theirs(folder));
            }
        }
        for file in &files {
            match kind(&self.root, file)? {
                Some(FileType::Directory) => self.check_folder(file, &going)?,
                // What the look at it does not see.
                Some(lies) if lies != FileType::RegularFile && lies != FileType::Symlink => {
                    return Err(theirs(file));
                }
                Some(_) | None => {}
            }
        }
        self.check_git()
    }

    /// Looks whether everything of git has room. What is there already is replaced, but neither a folder with
    /// something in it by a file nor the other way round: the guest may have a branch `a` where `a/b` comes.
    fn check_git(&self) -> io::Result<()> {
        let in_the_way = |path: &[u8]| {
            let why = "is in the way: rename or remove what git has by that name there";
            Err(io::Error::other(format!("`{}` {why}", shown(path))))
        };
        if !self.has_git()? {
            return Ok(());
        }
        let Listing { files, folders } = Listing::below(&self.staged, b".git")?;
        for folder in &folders {
            if kind(&self.root, folder)?.is_some_and(|lies| lies != FileType::Directory) {
                return in_the_way(folder);
            }
        }
        for file in &files {
            if kind(&self.root, file)? == Some(FileType::Directory)
                && !Listing::below(&self.root, file)?.files.is_empty()
            {
                return in_the_way(file);
            }
        }
        let packed = beneath_of(&self.root)?.read(Path::new(".git/packed-refs"), MAX_SHALLOW)?;
        let packed = packed.unwrap_or_default();
        let packed: BTreeSet<&[u8]> = lines(&packed).filter_map(reference).collect();
        for file in files.iter().filter_map(|file| file.strip_prefix(b".git/")) {
            let inside = [file, b"/"].concat();
            let below = packed.range(&inside[..]..).next();
            let mut above = (0..file.len()).filter(|at| file[*at] == b'/').map(|at| &file[..at]);
            if below.is_some_and(|name| name.starts_with(&inside))
                || above.any(|name| packed.contains(name))
            {
                return in_the_way(file);
            }
        }
        Ok(())
    }

    /// A folder in whose place a file is to be: everything in it must be going.
    fn check_folder(&self, folder: &[u8], going: &HashSet<&[u8]>) -> io::Result<()> {
        let Listing { files, .. } = Listing::below(&self.root, folder)?;
        match files.iter().find(|file| !going.contains(&file[..])) {
            Some(file) => Err(theirs(file)),
            None => Ok(()),
        }
    }

    fn apply(&self) -> io::Result<()> {
        for known in &self.removed {
            take_out(&self.root, &known.path).map_err(|error| {
                let shown = shown(&known.path);
                io::Error::new(error.kind(), format!("cannot take out `{shown}`: {error}"))
            })?;
        }
        put_in_files(&self.staged, &self.root)?;
        index::complete_update(&self.staged, &self.root);
        put_in(&self.staged, &self.root, Path::new(""))
    }
}

pub(super) fn beneath_of(opened: &OwnedFd) -> io::Result<Beneath> {
    Beneath::open(Path::new(&format!("/proc/self/fd/{}", opened.as_raw_fd())))
}

/// The name in a line of `packed-refs`: `OBJECT NAME`.
fn reference(line: &[u8]) -> Option<&[u8]> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    Some(&line[space + 1..]).filter(|name| name.starts_with(b"refs/"))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn theirs(path: &[u8]) -> io::Error {
    let why = "is not as the host knows it, and would be lost: move it away";
    io::Error::other(format!("`{}` {why}", shown(path)))
}

#[cfg(test)]
mod tests;
