//! Files of the host behind the logical names of a manifest.
//!
//! What the operator mapped is resolved once, links followed, so that linked dotfiles work. Below it
//! nothing is followed: names are opened with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
//! RESOLVE_NO_MAGICLINKS)`, and type and size are taken from the open descriptor. Nothing here knows of
//! WebAssembly.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::limits;
use super::refusal::Refusal;

/// What stands behind one logical name.
#[derive(Debug, Clone)]
pub enum HostFilesSource {
    /// Files and folders of the host.
    Paths(Vec<HostPath>),
    /// Files that the daemon makes up, such as the keys of the client's ssh agent.
    Virtual(Vec<VirtualFile>),
}

/// One mapped path.
#[derive(Debug, Clone)]
pub struct HostPath {
    /// Absolute, or below `~/`. With `*`, `?` or `[` in it, a pattern.
    pub path: String,
    /// Where it goes in the guest, relative to the home.
    pub guest: Option<String>,
    /// Permission bits of the files in the guest.
    pub mode: Option<u32>,
}

/// A file that is not on the host's disk.
#[derive(Debug, Clone)]
pub struct VirtualFile {
    /// How to call it towards the user.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Folder,
    Link,
    Other,
    Missing,
}

/// One entry of a list.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) label: String,
    pub(super) path: String,
    pub(super) kind: EntryKind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) guest_path: Option<String>,
    pub(super) guest_mode: Option<u32>,
    origin: Origin,
}

/// Where an entry's bytes are.
#[derive(Debug, Clone)]
enum Origin {
    /// Nowhere: it is no file.
    None,
    /// In this file, which was mapped itself.
    Root(Arc<Held>),
    /// Below this folder, at the entry's path.
    Below(Arc<Held>),
    /// In memory.
    Memory(Arc<[u8]>),
}

/// What was mapped, held open for as long as a handle needs it.
#[derive(Debug)]
struct Held {
    descriptor: OwnedFd,
    _place: OpenFiles,
}

/// How much one run holds open: every clone is one of them.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenFiles(Arc<()>);

impl OpenFiles {
    fn another(&self) -> Result<Self, Refusal> {
        let limit = limits::OPEN_FILES;
        // The run itself has one that is for no file.
        if Arc::strong_count(&self.0) > limit {
            let message = format!("a plugin holds at most {limit} mapped files and folders open");
            return Err(Refusal::new("too-many", message));
        }
        Ok(self.clone())
    }
}

/// An opened entry.
#[derive(Debug)]
pub(super) enum Opened {
    /// A regular file of this size.
    File(File, u64),
    /// Bytes in memory.
    Memory(Arc<[u8]>),
}

impl Entry {
    /// Whether it is a file of the host that only its owner may read.
    pub(super) fn is_private(&self) -> bool {
        match &self.origin {
            Origin::Root(_) | Origin::Below(_) => self.mode & 0o044 == 0,
            Origin::None | Origin::Memory(_) => false,
        }
    }

    /// Opens the entry and makes sure that it is a regular file now.
    pub(super) fn open(&self) -> Result<Opened, Refusal> {
        let failed = |error: io::Error| Refusal::io(&self.label, &error);
        let file = match &self.origin {
            Origin::None => {
                let message = format!("`{}` is no file", self.label.escape_debug());
                return Err(Refusal::new("bad-argument", message));
            }
            Origin::Memory(bytes) => return Ok(Opened::Memory(Arc::clone(bytes))),
            Origin::Root(file) => File::from(file.descriptor.try_clone().map_err(failed)?),
            Origin::Below(folder) => {
                let flags = OFlags::RDONLY | OFlags::NOCTTY;
                let folder = folder.descriptor.as_fd();
                File::from(open_below(folder, &self.path, flags).map_err(failed)?)
            }
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is no regular file any more")));
        }
        Ok(Opened::File(file, metadata.len()))
    }
}

/// The entries behind a source, in the order of the mapping, folders before what is in them. What was mapped
/// itself stays open with its entries, and counts.
pub(super) fn entries(
    source: &HostFilesSource,
    home: &Path,
    open: &OpenFiles,
) -> Result<Vec<Entry>, Refusal> {
    let mut list = List { entries: Vec::new(), open };
    match source {
        HostFilesSource::Virtual(files) => {
            files.iter().try_for_each(|file| list.push(virtual_entry(file)))?;
        }
        HostFilesSource::Paths(mapped) => {
            for path in mapped {
                for found in expand(path, home)? {
                    list.add(path, &found)?;
                }
            }
        }
    }
    Ok(list.entries)
}

fn virtual_entry(file: &VirtualFile) -> Entry {
    Entry {
        label: file.name.clone(),
        path: String::new(),
        kind: EntryKind::File,
        size: file.bytes.len() as u64,
        mode: 0o600,
        guest_path: None,
        guest_mode: None,
        origin: Origin::Memory(file.bytes.as_slice().into()),
    }
}

/// The paths on the host that a mapped path means.
fn expand(mapped: &HostPath, home: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let text = &mapped.path;
    let bad = |reason: &str| {
        let message = format!("the mapped path `{}` {reason}", text.escape_debug());
        Refusal::new("bad-path", message)
    };
    let pattern = text.contains(['*', '?', '[']);
    let path = match text.strip_prefix("~/") {
        // The home itself is no pattern, whatever letters it has.
        Some(rest) if pattern => {
            let home = home.to_str().ok_or_else(|| bad("is below a home that is not UTF-8"))?;
            PathBuf::from(glob::Pattern::escape(home)).join(rest)
        }
        Some(rest) => home.join(rest),
        None if text == "~" => home.to_owned(),
        None => PathBuf::from(text),
    };
    if !path.is_absolute() {
        return Err(bad("must be absolute or begin with `~/`"));
    }
    if !pattern {
        return Ok(vec![path]);
    }
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        require_literal_separator: true,
        ..glob::MatchOptions::new()
    };
    let pattern = path.to_str().ok_or_else(|| bad("is not UTF-8"))?;
    let found = glob::glob_with(pattern, options).map_err(|error| bad(error.msg))?;
    let found = found.take(limits::LISTED_ENTRIES + 1);
    found.map(|path| path.map_err(|error| Refusal::io(text, error.error()))).collect()
}

/// A list while it grows.
struct List<'a> {
    entries: Vec<Entry>,
    open: &'a OpenFiles,
}

impl List<'_> {
    fn push(&mut self, entry: Entry) -> Result<(), Refusal> {
        if self.entries.len() >= limits::LISTED_ENTRIES {
            let limit = limits::LISTED_ENTRIES;
            let message = format!("more than {limit} files: the last was `{}`", entry.label);
            return Err(Refusal::new("too-many", message));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Adds what was mapped, and what is in it.
    fn add(&mut self, mapped: &HostPath, found: &Path) -> Result<(), Refusal> {
        let label = if mapped.path.contains(['*', '?', '[']) {
            found.to_string_lossy().into_owned()
        } else {
            mapped.path.clone()
        };
        let mut entry = Entry {
            label,
            path: String::new(),
            kind: EntryKind::Missing,
            size: 0,
            mode: 0,
            guest_path: mapped.guest.clone(),
            guest_mode: mapped.mode,
            origin: Origin::None,
        };
        let place = self.open.another()?;
        let opened = match open_root(found) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.push(entry),
            Err(error) => return Err(Refusal::io(&entry.label, &error)),
        };
        let Some((descriptor, stat)) = opened else {
            return self.push(Entry { kind: EntryKind::Other, ..entry });
        };
        entry.mode = stat.st_mode & 0o7777;
        let held = Arc::new(Held { descriptor, _place: place });
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            entry.kind = EntryKind::Folder;
            let walk = Walk { root: &held, top: entry.clone() };
            self.push(entry)?;
            return self.walk(&walk, held.descriptor.as_fd(), "", 1);
        }
        entry.kind = EntryKind::File;
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.origin = Origin::Root(held);
        self.push(entry)
    }

    /// Adds what is in a folder, sorted by name.
    fn walk(
        &mut self,
        walk: &Walk<'_>,
        folder: BorrowedFd<'_>,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        let here = walk.label(path);
        let failed = |error: io::Error| Refusal::io(&here, &error);
        if depth > limits::WALK_DEPTH {
            return Err(Refusal::new("too-many", format!("`{here}` is too deep")));
        }
        for name in names(folder).map_err(failed)? {
            let stat = match rustix::fs::statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            {
                Ok(stat) => stat,
                // It was removed since its name was read.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(failed(error.into())),
            };
            let Ok(name) = std::str::from_utf8(&name) else {
                self.push(walk.unnamed(path, &name))?;
                continue;
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let entry = walk.entry(&path, &stat);
            let kind = entry.kind;
            self.push(entry)?;
            if kind == EntryKind::Folder {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let below = open_below(folder, name, flags).map_err(failed)?;
                self.walk(walk, below.as_fd(), &path, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// What all entries below one mapped folder share.
struct Walk<'a> {
    root: &'a Arc<Held>,
    top: Entry,
}

impl Walk<'_> {
    fn label(&self, path: &str) -> String {
        if path.is_empty() {
            return self.top.label.clone();
        }
        format!("{}/{path}", self.top.label.trim_end_matches('/'))
    }

    fn entry(&self, path: &str, stat: &Stat) -> Entry {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Other,
        };
        let file = kind == EntryKind::File;
        Entry {
            label: self.label(path),
            path: path.to_owned(),
            kind,
            size: if file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            mode: stat.st_mode & 0o7777,
            guest_path: self.top.guest_path.as_ref().map(|guest| format!("{guest}/{path}")),
            guest_mode: self.top.guest_mode,
            origin: if file { Origin::Below(Arc::clone(self.root)) } else { Origin::None },
        }
    }

    /// A name that is not UTF-8 cannot be said in the contract.
    fn unnamed(&self, path: &str, name: &[u8]) -> Entry {
        let shown = String::from_utf8_lossy(name);
        let path = if path.is_empty() { shown.into_owned() } else { format!("{path}/{shown}") };
        let origin = Origin::None;
        let kind = EntryKind::Other;
        Entry { label: self.label(&path), kind, path, size: 0, mode: 0, origin, ..self.top.clone() }
    }
}

/// The names in a folder, sorted. Reading stops at the limit, so that a huge folder costs little.
fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
        if names.len() > limits::LISTED_ENTRIES {
            break;
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens what the operator mapped, links followed. `None` when it is neither a file nor a folder:
/// a device or a pipe is looked at, but never opened.
fn open_root(path: &Path) -> io::Result<Option<(OwnedFd, Stat)>> {
    let looked = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&looked)?;
    let folder = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => OFlags::DIRECTORY,
        FileType::RegularFile => OFlags::empty(),
        _ => return Ok(None),
    };
    // The very thing that was looked at, whatever is at the path now.
    let same = format!("/proc/self/fd/{}", looked.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | folder;
    let opened = rustix::fs::open(same.as_str(), flags, Mode::empty())?;
    Ok(Some((opened, stat)))
}

/// Opens a name below a folder without following any link.
pub(super) fn open_below(folder: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = std::ffi::OsStr::from_bytes(path.as_bytes());
    Ok(rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)?)
}
