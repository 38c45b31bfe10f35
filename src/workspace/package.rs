//! The tar stream of a checkout: the files as they are now, then `.git`.
//!
//! GNU format, so that names of any bytes and any length fit. Entries are sorted, every folder comes
//! before what is in it, everything belongs to 0:0, and no entry names anything outside.

mod parts;
mod promises;

use std::collections::HashSet;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

use tar::{Builder, EntryType, Header};

use self::parts::Exact;
use self::promises::{Place, Promises};
use super::WorkspaceError;
use super::import::TreeWriter;
use super::inspection::{Contents, Entry, Inspection};
use super::lfs::Lfs;
use super::listing::shown;
use super::metadata::Metadata;
use super::modules::{Module, Modules, WentIn};
use super::settings::{self, Setting};
use super::tree::{Found, Kind};
use super::unchanged::{Status, Unchanged};
use crate::wire::guest::UPDATE_TREE;
use crate::wire::rpc::WorkspaceMode;
use crate::wire::survey::EntryKind;

/// How much is handed to the sink at once: a write may become one frame on its way to the guest.
const BUFFER: usize = 256 * 1024;

/// The modes of folders, and of files in `.git`: git tracks neither, and the host's may be narrower
/// than a checkout in the guest needs.
const FOLDER_MODE: u32 = 0o755;
const METADATA_MODE: u32 = 0o644;

/// How many bytes of a name fit into an entry's header.
const NAME_IN_HEADER: usize = 100;

/// A checkout ready to be sent, as often as it takes. Its scratch folder goes when it is dropped.
#[derive(Debug)]
pub struct Package {
    contents: Arc<Contents>,
    pub(super) mode: WorkspaceMode,
    pub(super) metadata: Metadata,
    /// The submodules whose git is sent.
    pub(super) modules: Vec<Module>,
    /// Those whose git is in the guest as it is to be.
    there: Vec<WentIn>,
    /// A line for the user about submodules without one.
    alone: Option<String>,
    pub(super) lfs: Lfs,
    /// What git in a guest that has an older package is to be told.
    pub(super) settings: Vec<Setting>,
    pub(super) object_format: String,
    /// The commit that is checked out, where its history goes in; none before the first one.
    pub(super) commit: Option<String>,
    /// Where the source's indexes are.
    indexes: Vec<Place>,
    /// The time before a reading begins.
    clock: fn() -> SystemTime,
}

/// What of a package is written.
pub(super) enum Part<'a> {
    /// Everything.
    Whole,
    /// The files of the working tree, for the record alone: those that are unchanged are not read.
    Files(&'a Unchanged),
    /// What differs from what is in the guest: these files in front of it, these of the working tree, and the git
    /// metadata without its configuration, all in the folder of an update.
    Update { front: [(&'a str, &'a [u8]); 3], changed: &'a HashSet<Vec<u8>> },
}

impl Part<'_> {
    fn has(&self, entry: &Entry) -> bool {
        match self {
            Self::Whole | Self::Files(_) => true,
            Self::Update { changed, .. } => entry.is_folder() || changed.contains(&entry.path),
        }
    }

    /// The object that a file is, where it need not be read.
    fn object(&self, path: &[u8], found: &Found) -> Option<&str> {
        match self {
            Self::Files(unchanged) => unchanged.object(path, kind(found), Status::of(found)),
            Self::Whole | Self::Update { .. } => None,
        }
    }
}

/// What a tar stream held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSummary {
    /// Files and symlinks of the working tree, without `.git`.
    pub files: u64,
    /// Their contents in bytes.
    pub bytes: u64,
    /// Files that were there at the inspection and were gone or replaced when they were to be read: to
    /// git they are deleted in the guest. Paths fit for a terminal.
    pub gone: Vec<String>,
}

impl Package {
    pub(super) fn new(
        inspection: &Inspection,
        metadata: Metadata,
        modules: Modules,
        lfs: Lfs,
        clock: fn() -> SystemTime,
    ) -> Self {
        let Modules { made: modules, there, alone } = modules;
        let object_format = inspection.repository.object_format.clone();
        let history = inspection.mode != WorkspaceMode::Full;
        let commit = inspection.head.commit.clone().filter(|_| history);
        let (contents, mode) = (Arc::clone(&inspection.contents), inspection.mode);
        let (settings, indexes) = (Vec::new(), promises::places(inspection));
        let mut package = Self {
            contents,
            mode,
            metadata,
            modules,
            there,
            alone,
            lfs,
            settings,
            object_format,
            commit,
            indexes,
            clock,
        };
        let goes_in = |place: &str| package.submodules().any(|inside| inside.place == place);
        package.settings = settings::of(inspection, goes_in);
        package
    }

    /// The submodules whose git goes in.
    pub fn submodules(&self) -> impl Iterator<Item = &WentIn> {
        self.sent_submodules().chain(&self.there)
    }

    /// Those of them whose git is sent.
    pub fn sent_submodules(&self) -> impl Iterator<Item = &WentIn> {
        self.modules.iter().map(|module| &module.went_in)
    }

    /// Whether a submodule's folder goes in at this path, with or without its git.
    pub(super) fn has_submodule(&self, path: &str) -> bool {
        let folder = format!("{path}/").into_bytes();
        let entries = self.contents.in_mode(self.mode);
        entries.binary_search_by(|entry| entry.path.cmp(&folder)).is_ok()
    }

    /// Lines for the user about submodules whose git cannot be read and about objects of git-lfs, where there are any.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.alone.clone().into_iter().chain(self.lfs.note())
    }

    /// Writes the whole tar stream, its end included. Blocks: run it where that is fine. After an error
    /// the sink has had the beginning of a stream that must not be taken for a whole one.
    ///
    /// # Errors
    /// When a file cannot be read or shrinks meanwhile, or when the sink fails.
    pub fn write_tar(&self, sink: impl Write) -> Result<PackageSummary, WorkspaceError> {
        self.write(sink, TreeWriter::to_nowhere(), &Part::Whole)
    }

    /// The same, and writes down what went in, without `.git`. That this fails does not keep the stream from
    /// being whole: whoever asked for the record learns of it.
    ///
    /// # Errors
    /// As [`Self::write_tar`].
    pub fn write_tar_recorded(
        &self,
        sink: impl Write,
        record: TreeWriter,
    ) -> Result<PackageSummary, WorkspaceError> {
        self.write(sink, record, &Part::Whole)
    }

    /// Writes a part of it. Blocks.
    pub(super) fn write(
        &self,
        sink: impl Write,
        record: TreeWriter,
        part: &Part<'_>,
    ) -> Result<PackageSummary, WorkspaceError> {
        let mut stream = Stream {
            builder: Builder::new(BufWriter::with_capacity(BUFFER, sink)),
            prefix: Vec::new(),
            folder: Vec::new(),
            summary: PackageSummary { files: 0, bytes: 0, gone: Vec::new() },
            record,
            promises: self.promises(part),
            begun: (self.clock)(),
        };
        if let Part::Update { front, .. } = part {
            for (name, content) in front {
                let mut header = header(EntryType::Regular, METADATA_MODE, 0);
                header.set_size(content.len() as u64);
                stream.append(header, name.as_bytes(), *content).map_err(send)?;
            }
            // It may stay empty.
            let folder = header(EntryType::Directory, FOLDER_MODE, 0);
            let name = format!("{UPDATE_TREE}/");
            stream.append(folder, name.as_bytes(), io::empty()).map_err(send)?;
            stream.prefix = format!("{UPDATE_TREE}/").into_bytes();
        }
        for absent in &self.metadata.absent {
            stream.record.put(&absent.path, absent.kind, &absent.object);
        }
        let entries = self.contents.in_mode(self.mode);
        for entry in entries.iter().filter(|entry| part.has(entry)) {
            stream.folders_of(&entry.path)?;
            if !entry.is_folder() {
                stream.entry(&self.contents, &entry.path, part)?;
            }
        }
        match (part, self.mode) {
            (Part::Files(_), _) | (_, WorkspaceMode::Full) => {}
            (
                Part::Whole | Part::Update { .. },
                WorkspaceMode::Shallow | WorkspaceMode::Metadata,
            ) => {
                stream.metadata(&self.metadata.git_folder(), b".git/", Some(b""))?;
                stream.modules(&self.modules, &self.there)?;
                stream.lfs(&self.lfs)?;
            }
        }
        let buffer = stream.builder.into_inner().map_err(send)?;
        buffer.into_inner().map_err(|error| send(error.into_error()))?.flush().map_err(send)?;
        stream.record.finish();
        Ok(stream.summary)
    }

    /// What the source's indexes say of files, where an index goes along and they are not left out in it.
    fn promises(&self, part: &Part<'_>) -> Promises {
        match (part, self.mode) {
            (Part::Whole | Part::Update { .. }, WorkspaceMode::Shallow) => {
                Promises::of(&self.indexes)
            }
            (Part::Files(_), _) | (_, WorkspaceMode::Full | WorkspaceMode::Metadata) => {
                Promises::default()
            }
        }
    }
}

struct Stream<W: Write> {
    builder: Builder<BufWriter<W>>,
    /// In front of every path: nothing, or the folder of an update.
    prefix: Vec<u8>,
    /// The folder of the last entry, with a slash at the end.
    folder: Vec<u8>,
    summary: PackageSummary,
    record: TreeWriter,
    promises: Promises,
    /// Before anything was read.
    begun: SystemTime,
}

impl<W: Write> Stream<W> {
    /// Writes the folders that lead to `path` and have not been written yet. In a sorted list, what lies
    /// in one folder is contiguous.
    fn folders_of(&mut self, path: &[u8]) -> Result<(), WorkspaceError> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let folder = &path[..=at];
            if !self.folder.starts_with(folder) {
                let header = header(EntryType::Directory, FOLDER_MODE, 0);
                self.append(header, folder, io::empty()).map_err(send)?;
                self.folder = folder.to_vec();
            }
        }
        Ok(())
    }

    /// Writes one file or symlink of the working tree.
    fn entry(
        &mut self,
        contents: &Contents,
        path: &[u8],
        part: &Part<'_>,
    ) -> Result<(), WorkspaceError> {
        let read = |source| WorkspaceError::Read { path: shown(path), source };
        let found = contents.root.look(path).map_err(read)?;
        match found {
            Some(found @ Found { kind: Kind::Link, .. }) => {
                let target = found.target().map_err(read)?;
                let mut header = header(EntryType::Symlink, 0o777, found.mtime);
                self.long_name(&target, EntryType::GNULongLink).map_err(send)?;
                put(&mut header.as_old_mut().linkname, &target);
                self.append(header, path, io::empty()).map_err(send)?;
                self.record.begin(path, EntryKind::Link, target.len() as u64);
                self.record.content(&target);
                self.promises.take(path, &found.handle);
                self.summary.files += 1;
                Ok(())
            }
            Some(found @ Found { kind: Kind::File(_), .. }) => {
                let Some(object) = part.object(path, &found) else {
                    return self.file(contents, path, &found);
                };
                self.record.put(path, kind(&found), object);
                self.record.know(path, Status::of(&found));
                self.summary.files += 1;
                self.summary.bytes += found.stamp.bytes;
                Ok(())
            }
            Some(Found { kind: Kind::Folder | Kind::Special, .. }) | None => {
                self.summary.gone.push(shown(path));
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        contents: &Contents,
        path: &[u8],
        found: &Found,
    ) -> Result<(), WorkspaceError> {
        let read = |source| WorkspaceError::Read { path: shown(path), source };
        let (file, size) = contents.root.read(path).map_err(read)?;
        let mut header = header(EntryType::Regular, found.mode, found.mtime);
        header.set_size(size);
        // Taken out meanwhile: the header's name and the content go through `self`.
        let mut record = std::mem::replace(&mut self.record, TreeWriter::to_nowhere());
        record.begin(path, kind(found), size);
        let mut exact = Exact { file, left: size, failure: None, record };
        self.exactly(header, path, &mut exact)?;
        self.promises.take(path, &exact.file);
        self.record = exact.record;
        if let Some(status) = Status::lasting(found, &exact.file, self.begun) {
            self.record.know(path, status);
        }
        self.summary.files += 1;
        self.summary.bytes += size;
        Ok(())
    }

    fn append(&mut self, mut header: Header, path: &[u8], data: impl Read) -> io::Result<()> {
        let path = [&self.prefix, path].concat();
        self.long_name(&path, EntryType::GNULongName)?;
        put(&mut header.as_old_mut().name, &path);
        header.set_cksum();
        self.builder.append(&header, data)
    }

    /// Writes a name that does not fit into a header as an entry in front of it. The builder's own way
    /// takes names apart into components and refuses or changes some: a target such as `a//b`, a long
    /// name whose first byte is not UTF-8.
    fn long_name(&mut self, name: &[u8], kind: EntryType) -> io::Result<()> {
        if name.len() <= NAME_IN_HEADER {
            return Ok(());
        }
        let mut header = header(kind, 0o644, 0);
        put(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        self.builder.append(&header, name.chain(&b"\0"[..]))
    }
}

/// What a regular file is to git.
fn kind(found: &Found) -> EntryKind {
    if found.mode & 0o100 != 0 { EntryKind::Executable } else { EntryKind::File }
}

fn header(kind: EntryType, mode: u32, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_size(0);
    header
}

/// Puts as much of `name` into a header's field as fits.
fn put(field: &mut [u8; NAME_IN_HEADER], name: &[u8]) {
    let length = name.len().min(NAME_IN_HEADER);
    field[..length].copy_from_slice(&name[..length]);
}

fn send(source: io::Error) -> WorkspaceError {
    WorkspaceError::Send { source }
}
