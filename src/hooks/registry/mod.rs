//! The registry: which plugins are installed, in which versions, with which grants.
//!
//! ```text
//! FOLDER/                        only the daemon writes here, and only its user can look in
//!   ID/
//!     record.json                releases, grant, failures: replaced as a whole
//!     releases/KEY/              plugin.toml, the component, its signature; KEY stands for the first two
//!   .incoming-…/                 a release on its way in
//! ```
//!
//! A release is copied beside, renamed to its place and only then written into the record; a release
//! leaves the record first and then the disk. Whatever a killed daemon leaves behind is in no record, and is
//! removed at the next start.
//!
//! Rules that hold here:
//! - This is the one way in. What somebody puts into the folder by hand does not take part; it is listed,
//!   with the command that installs it.
//! - What is installed and was never granted does not take part, and keeps no VM from starting: whoever
//!   installed it was told so, and lists and `doctor` go on saying it. What was granted and has changed since,
//!   or is broken, keeps VMs from starting unless it is optional.
//! - A grant is in the record, or in the configuration. What the configuration says of a plugin is all that
//!   is granted to it.
//! - Plugins that came with cove lie elsewhere. Their records say what was revoked, and that they failed.

mod change;
mod error;
mod record;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use change::FAILURES;
pub(super) use change::{Came, Fit, Granting, Placed};
pub(super) use error::circle;
pub use error::{GrantError, InstallError};
pub(super) use record::{GrantRecord, Off, Record, Release, Revoked};

use super::limits;
use super::needs::Grant;
use super::package::Package;
use super::problem::Problem;
use crate::id::{Digest, PluginId};

/// How folders begin that hold a release on its way in.
const INCOMING: &str = ".incoming-";
/// The folder of a plugin's releases.
const RELEASES: &str = "releases";

/// The registry of one daemon.
#[derive(Debug)]
pub(super) struct Registry {
    folder: PathBuf,
    /// Replaced as a whole. Held while a record is written.
    entries: Mutex<Arc<Entries>>,
}

/// What is known of each plugin.
pub(super) type Entries = BTreeMap<PluginId, Entry>;

/// What is known of one plugin.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Known(Box<Record>),
    /// Its record cannot be read.
    Damaged(Problem),
}

/// Why a record is not what it was asked to become.
#[derive(Debug)]
pub(super) enum ChangeError {
    /// There is none.
    NoRecord,
    Damaged(Problem),
    /// There are as many plugins as there may be.
    TooMany,
    Disk(io::Error),
}

impl From<io::Error> for ChangeError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Registry {
    /// Opens the folder, and makes it when it is not there. What a killed daemon left is removed. A plugin
    /// that cannot be looked at keeps no other from being used.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut entries = Entries::new();
        for item in fs::read_dir(folder)? {
            let item = item?;
            let name = item.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(INCOMING) {
                warn_of(&item.path(), fs::remove_dir_all(item.path()));
            } else if let Ok(id) = name.parse::<PluginId>()
                && item.file_type().is_ok_and(|kind| kind.is_dir())
                && let Some(entry) = find(&item.path())
            {
                entries.insert(id, entry);
            }
        }
        Ok(Self { folder: folder.to_owned(), entries: Mutex::new(Arc::new(entries)) })
    }

    /// What is known of each plugin now.
    pub(super) fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.lock())
    }

    /// The folder of a release.
    pub(super) fn place(&self, id: &PluginId, key: &Digest) -> PathBuf {
        self.folder.join(id.as_str()).join(RELEASES).join(key.as_str())
    }

    /// What is in the folder without having been installed: folders with a manifest, and loose components.
    pub(super) fn strangers(&self) -> io::Result<Vec<PathBuf>> {
        let entries = self.entries();
        let mut found = Vec::new();
        for item in fs::read_dir(&self.folder)?.take(limits::PLUGINS * 2) {
            let item = item?;
            let name = item.file_name().to_string_lossy().into_owned();
            let loose = [".wasm", ".cwasm", ".wat"].iter().any(|end| name.ends_with(end));
            let known = name.parse().is_ok_and(|id: PluginId| entries.contains_key(&id));
            let manifest = item.path().join("plugin.toml");
            if !known && !name.starts_with('.') && (loose || manifest.exists()) {
                found.push(item.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Keeps a package and writes it down.
    pub(super) fn install(
        &self,
        package: &Package,
        release: &Release,
        configured: Option<&Grant>,
        fit: Fit,
    ) -> Result<(Record, Placed), ChangeError> {
        let id = &package.manifest.id;
        let incoming = tempfile::Builder::new().prefix(INCOMING).tempdir_in(&self.folder)?;
        for (name, bytes) in package.files() {
            write_new(&incoming.path().join(name), bytes)?;
        }
        record::sync(incoming.path())?;
        let mut entries = self.lock();
        let before = match entries.get(id) {
            Some(Entry::Known(record)) => Record::clone(record),
            Some(Entry::Damaged(problem)) => return Err(ChangeError::Damaged(problem.clone())),
            None if entries.len() >= limits::PLUGINS => return Err(ChangeError::TooMany),
            None => Record::default(),
        };
        let new = before.releases().next().is_none() && before == Record::default();
        let kept = self.keep(&incoming, id, &release.key).map_err(ChangeError::Disk);
        let unchanged = before.clone();
        let (after, placed) = before.install(release.clone(), configured, fit);
        let written = kept.and_then(|()| self.write(&mut entries, id, after.clone()));
        let folder = self.folder.join(id.as_str());
        match &written {
            Ok(()) => tidy(&folder, &after),
            // The record is as it was: what it does not name must not stay.
            Err(_) if new => fs::remove_dir_all(folder).unwrap_or_else(|error| {
                tracing::warn!(plugin = %id, %error, "what was not installed stays on disk until the next start");
            }),
            Err(_) => tidy(&folder, &unchanged),
        }
        written.map(|()| (after, placed))
    }

    /// Puts a release into its place. One that is there already is replaced: its files may have changed.
    fn keep(&self, incoming: &tempfile::TempDir, id: &PluginId, key: &Digest) -> io::Result<()> {
        let place = self.place(id, key);
        let releases = place.parent().unwrap_or(&self.folder);
        DirBuilder::new().recursive(true).mode(0o700).create(releases)?;
        match fs::rename(incoming.path(), &place) {
            Ok(()) => {}
            Err(error) if is_occupied(error.kind()) => {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                rustix::fs::renameat_with(here, incoming.path(), here, &place, flags)?;
            }
            Err(error) => return Err(error),
        }
        record::sync(releases)?;
        record::sync(&self.folder.join(id.as_str()))?;
        record::sync(&self.folder)
    }

    /// Changes a record. One that is not there is an empty one, where the plugin came with cove.
    pub(super) fn change<T>(
        &self,
        id: &PluginId,
        missing: Missing,
        change: impl FnOnce(Record) -> (Record, T),
    ) -> Result<(Record, T), ChangeError> {
        let mut entries = self.lock();
        let before = match (entries.get(id), missing) {
            (Some(Entry::Known(record)), _) => Record::clone(record),
            (Some(Entry::Damaged(problem)), _) => {
                return Err(ChangeError::Damaged(problem.clone()));
            }
            (None, Missing::IsEmpty) => Record::default(),
            (None, Missing::IsAnError) => return Err(ChangeError::NoRecord),
        };
        let (after, told) = change(before.clone());
        if after != before {
            self.write(&mut entries, id, after.clone())?;
        }
        tidy(&self.folder.join(id.as_str()), &after);
        Ok((after, told))
    }

    /// Removes a plugin with its files.
    pub(super) fn remove(&self, id: &PluginId) -> Result<(), ChangeError> {
        let mut entries = self.lock();
        if !entries.contains_key(id) {
            return Err(ChangeError::NoRecord);
        }
        let folder = self.folder.join(id.as_str());
        record::remove(&folder)?;
        Arc::make_mut(&mut entries).remove(id);
        fs::remove_dir_all(folder)?;
        Ok(())
    }

    fn write(
        &self,
        entries: &mut Arc<Entries>,
        id: &PluginId,
        record: Record,
    ) -> Result<(), ChangeError> {
        let folder = self.folder.join(id.as_str());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        record::write(&folder, &record)?;
        Arc::make_mut(entries).insert(id.clone(), Entry::Known(Box::new(record)));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Entries>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record is that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// An empty one: the plugin came with cove.
    IsEmpty,
    IsAnError,
}

/// Whether a folder could not take a place because another one is there: file systems say it in two ways.
fn is_occupied(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// What is in a plugin's folder at a start. What a killed daemon left in it is removed.
fn find(folder: &Path) -> Option<Entry> {
    match record::read(folder) {
        Ok(Some(record)) => {
            tidy(folder, &record);
            warn_of(folder, record::sweep(folder));
            Some(Entry::Known(Box::new(record)))
        }
        Ok(None) => {
            match record::is_cut_off(folder, RELEASES) {
                Ok(true) => warn_of(folder, fs::remove_dir_all(folder)),
                Ok(false) => {}
                Err(error) => warn_of(folder, Err(error)),
            }
            None
        }
        Err(error) => {
            let (file, reason) = (folder.join(record::FILE), error.to_string());
            Some(Entry::Damaged(Problem::Record { file, reason }))
        }
    }
}

/// Removes the releases that are in no record any more. One that stays is removed at the next start.
fn tidy(plugin: &Path, record: &Record) {
    warn_of(plugin, forget_others(plugin, record));
}

/// Says that something in a folder could not be removed. It is in nobody's way.
fn warn_of(folder: &Path, removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(folder = %folder.display(), %error, "what no plugin needs any more stays on disk");
    }
}

/// Removes the releases that are in no record any more.
fn forget_others(folder: &Path, record: &Record) -> io::Result<()> {
    let releases = match fs::read_dir(folder.join(RELEASES)) {
        Ok(releases) => releases,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for item in releases {
        let item = item?;
        let name = item.file_name();
        let is_known = |release: &Release| name.to_str() == Some(release.key.as_str());
        if !record.releases().any(is_known) {
            fs::remove_dir_all(item.path())?;
        }
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_taken_is_told_from_other_failures() {
        for (number, taken) in [
            (nix::libc::ENOTEMPTY, true),
            (nix::libc::EEXIST, true),
            (nix::libc::ENOSPC, false),
            (nix::libc::EACCES, false),
        ] {
            let kind = io::Error::from_raw_os_error(number).kind();
            assert_eq!(is_occupied(kind), taken, "{kind}");
        }
    }
}
