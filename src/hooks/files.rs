//! The files of plugins on disk: what is in the folders, what has changed, and what a file is before
//! anything parses it. Knows nothing of the engine but two magic numbers.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::HookError;
use super::limits;
use super::manifest::Manifest;
use super::problem::Problem;
use crate::id::{Digest, PluginId};

/// How a component begins: magic, version 13, layer 1.
pub(super) const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
/// How a core module begins: magic, version 1.
const MODULE_HEADER: &[u8] = b"\0asm\x01\0\0\0";

/// Where a plugin lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Home {
    /// Beside the programs: it came with cove.
    Standard,
    /// In the registry.
    Registry,
    /// In the registry's folder, where somebody put it by hand.
    Stranger,
}

/// A plugin's folder as it is now. When it is equal to an earlier one, nothing in it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) home: Home,
    pub(super) path: PathBuf,
    pub(super) name: String,
    files: Vec<Trace>,
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Trace {
    name: Vec<u8>,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The plugins in the folder of those that came with cove, sorted by name. A folder that is not there has
/// none.
pub(super) fn scan(folder: &Path) -> Result<Vec<Found>, HookError> {
    let failed = |source| HookError::Folder { folder: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let is_folder = fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let loose = [".wasm", ".cwasm", ".wat"].iter().any(|end| name.ends_with(end));
        // Read-me files and the like do not matter; a component that lies loose was meant to run.
        if name.starts_with('.') || (!is_folder && !loose) {
            continue;
        }
        if found.len() >= limits::PLUGINS {
            return Err(failed(io::Error::other("there are too many plugins in it")));
        }
        // One that cannot be looked into is broken, and keeps no other from being used.
        let files = if is_folder { traces(&path).unwrap_or_default() } else { Vec::new() };
        found.push(Found { home: Home::Standard, path, name, files });
    }
    found.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(found)
}

fn traces(folder: &Path) -> io::Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for entry in fs::read_dir(folder)?.take(limits::PLUGINS) {
        let entry = entry?;
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        traces.push(Trace {
            name: entry.file_name().into_encoded_bytes(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
    }
    traces.sort();
    Ok(traces)
}

/// A plugin's files, as far as they could be read.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) manifest: Option<Manifest>,
    /// The digest of the component.
    pub(super) digest: Option<Digest>,
    /// The component, or what is wrong with the files.
    pub(super) component: Result<Component, Problem>,
}

/// The file of a component.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Found {
    /// A folder that is looked at once.
    pub(super) fn at(home: Home, path: PathBuf, name: String) -> Self {
        Self { home, path, name, files: Vec::new() }
    }

    /// A plugin in the registry. A folder that is gone has no files.
    pub(super) fn in_registry(path: PathBuf, id: &PluginId) -> Self {
        let files = traces(&path).unwrap_or_default();
        Self { home: Home::Registry, path, name: id.as_str().to_owned(), files }
    }

    /// What somebody put into the registry's folder.
    pub(super) fn stranger(path: PathBuf) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Self { home: Home::Stranger, path, name: name.unwrap_or_default(), files: Vec::new() }
    }

    /// The plugin's id: the name of its folder, as far as it is one.
    pub(super) fn id(&self) -> PluginId {
        let letter = |c: char| {
            if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }
        };
        let likeness: String = self.name.chars().take(63).map(letter).collect();
        let likeness = likeness.trim_matches('-').parse();
        self.name.parse().or(likeness).unwrap_or_else(|_| "unnamed".parse().expect("an id"))
    }

    /// Reads the files and looks at what they are.
    pub(super) fn read(&self) -> Files {
        let (mut manifest, mut digest) = (None, None);
        let component = self.read_manifest().and_then(|read| {
            let read = manifest.insert(read);
            let path = self.path.join(&read.component);
            let bytes = read_file(&path, read.limits.class.ceilings().component_bytes)?;
            digest = Some(Digest::of(&bytes));
            match other_than_component(&bytes) {
                None => Ok(Component { path, bytes }),
                Some(what) => Err(Problem::NotAComponent { file: path, what }),
            }
        });
        Files { manifest, digest, component }
    }

    fn read_manifest(&self) -> Result<Manifest, Problem> {
        let named = |reason| Err(Problem::Name { path: self.path.clone(), reason });
        if !self.path.is_dir() {
            return named("lies loose in the folder of plugins");
        }
        if self.name.parse::<PluginId>().is_err() {
            return named("is not named by a plugin id");
        }
        let file = self.path.join("plugin.toml");
        let text = String::from_utf8(read_file(&file, limits::MANIFEST_BYTES)?);
        let parsed = text.map_err(|_| "it is not UTF-8".to_owned());
        let parsed = parsed.and_then(|text| Manifest::parse(&text)).and_then(|manifest| {
            if manifest.id.as_str() == self.name {
                return Ok(manifest);
            }
            Err(format!("its id is `{}`, and its folder is `{}`", manifest.id, self.name))
        });
        parsed.map_err(|reason| Problem::Manifest { file, reason })
    }
}

/// Reads a regular file of at most `limit` bytes.
fn read_file(file: &Path, limit: u64) -> Result<Vec<u8>, Problem> {
    let bytes = || {
        // A pipe must not hold up the daemon.
        if !fs::metadata(file)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match bytes() {
        Ok(bytes) if bytes.len() as u64 > limit => {
            Err(Problem::TooLarge { file: file.to_owned(), limit })
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(Problem::Unreadable { file: file.to_owned(), reason: error.to_string() }),
    }
}

/// What a file is that is not a component, judged by its first bytes.
pub(super) fn other_than_component(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        bytes if bytes.starts_with(COMPONENT_HEADER) => None,
        bytes if bytes.starts_with(MODULE_HEADER) => Some("a core module"),
        bytes if bytes.starts_with(b"\0asm") => Some("WebAssembly of another version"),
        [] => Some("empty"),
        // Compiled components are ELF files; taking one from outside would be running its code.
        bytes if bytes.starts_with(b"\x7fELF") => Some("machine code"),
        bytes if std::str::from_utf8(bytes).is_ok() => Some("text"),
        _ => Some("data of an unknown format"),
    }
}
