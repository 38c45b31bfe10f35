//! What is written down of one plugin: `record.json` in its folder. Replaced as a whole: written beside,
//! synced, renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::wire::rpc::{HookPoint, HookSigner};

/// The name of the file.
pub(super) const FILE: &str = "record.json";
/// How the names of records begin that are being written.
const HALF: &str = ".record-";
/// The version of its format.
const FORMAT: u32 = 1;
/// Bytes of a record, at most: a few releases with a few hundred words.
const BYTES: u64 = 1 << 20;

/// All that is known of one plugin, besides its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hooks) struct Record {
    /// The release that takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) active: Option<Active>,
    /// The release that waits for a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) pending: Option<Release>,
    /// Failures of an optional plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) failures: Option<Failures>,
    /// What was taken back from a plugin that came with cove.
    #[serde(default, skip_serializing_if = "Revoked::is_nothing")]
    pub(in crate::hooks) revoked: Revoked,
}

/// A release that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hooks) struct Active {
    pub(in crate::hooks) release: Release,
    /// What it is granted; none where the configuration grants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) grant: Option<GrantRecord>,
}

/// One manifest with one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hooks) struct Release {
    /// Stands for both; the name of their folder.
    pub(in crate::hooks) key: Digest,
    /// The version, as the manifest says it.
    pub(in crate::hooks) version: String,
    /// The digest of the manifest's file.
    pub(in crate::hooks) manifest: Digest,
    /// The digest of the component.
    pub(in crate::hooks) component: Digest,
    /// What it asks for, in the words of a grant.
    pub(in crate::hooks) asks: BTreeSet<String>,
    /// Whose signature was verified when it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) signer: Option<HookSigner>,
    /// When it was installed.
    pub(in crate::hooks) installed_at: String,
    /// From where.
    pub(in crate::hooks) from: String,
}

/// What somebody granted: to exactly this component with exactly these needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hooks) struct GrantRecord {
    /// The digest of the component.
    pub(in crate::hooks) component: Digest,
    /// The digest of what it asks for.
    pub(in crate::hooks) needs: Digest,
    /// What is granted of it.
    pub(in crate::hooks) words: BTreeSet<String>,
    /// What stands behind the logical names of its host files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::hooks) host_files: BTreeMap<String, Vec<String>>,
    /// Whose signature the files bore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) signer: Option<HookSigner>,
    pub(in crate::hooks) by: By,
    pub(in crate::hooks) at: String,
}

/// Who granted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::hooks) enum By {
    /// The user of this number, by a command or another client.
    User(u32),
    /// Nobody anew: it held for this version, and the next one asks for no more.
    CarriedOver(String),
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::CarriedOver(version) => write!(f, "carried over from {version}"),
        }
    }
}

/// Failures in a row of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hooks) struct Failures {
    pub(in crate::hooks) component: Digest,
    pub(in crate::hooks) in_a_row: BTreeMap<HookPoint, u32>,
    /// That they were too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hooks) off: Option<Off>,
}

/// That a plugin was switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::hooks) struct Off {
    pub(in crate::hooks) point: HookPoint,
    /// How it failed last.
    pub(in crate::hooks) failure: String,
    pub(in crate::hooks) at: String,
}

/// What was taken back from a plugin that came with cove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::hooks) enum Revoked {
    #[default]
    Nothing,
    /// These words, also in versions of cove to come.
    Words(BTreeSet<String>),
    /// All of it: it does not take part.
    Everything,
}

impl Revoked {
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// The file: the format and the record.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    record: Record,
}

/// Reads the record in a plugin's folder; none where there is none.
pub(super) fn read(folder: &Path) -> io::Result<Option<Record>> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, BYTES), &mut text)?;
    let written: Written = serde_json::from_slice(&text)?;
    if written.format != FORMAT {
        let format = written.format;
        return Err(io::Error::other(format!(
            "its format is {format}, of another version of cove"
        )));
    }
    Ok(Some(written.record))
}

/// Whether a folder without a record holds nothing but what an installation makes before the record: a folder
/// of releases and a record that is being written. What somebody put there has more in it.
pub(super) fn is_cut_off(folder: &Path, releases: &str) -> io::Result<bool> {
    let mut found = false;
    for item in fs::read_dir(folder)? {
        let name = item?.file_name();
        let is_releases = name == releases;
        if !is_releases && !name.to_string_lossy().starts_with(HALF) {
            return Ok(false);
        }
        found |= is_releases;
    }
    Ok(found)
}

/// Removes records that were never renamed to their place.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        if item.file_name().to_string_lossy().starts_with(HALF) {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

/// Writes the record into a plugin's folder, which is there. One that could not be read again is refused.
pub(super) fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let written = Written { format: FORMAT, record: record.clone() };
    let text = serde_json::to_vec_pretty(&written)?;
    if text.len() as u64 > BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut file = tempfile::Builder::new().prefix(HALF).tempfile_in(folder)?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(FILE)).map_err(|error| error.error)?;
    sync(folder)
}

/// Makes sure that what was made and renamed in a folder is there after a power failure.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes the record, and with it the plugin.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    sync(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_could_not_be_read_again_is_not_written() {
        let folder = tempfile::tempdir().expect("tempdir");
        let words = |length| Record {
            revoked: Revoked::Words(BTreeSet::from(["w".repeat(length)])),
            ..Record::default()
        };
        let (least, most) = (words(1), usize::try_from(BYTES).expect("it fits"));
        write(folder.path(), &least).expect("written");
        let error = write(folder.path(), &words(most)).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(folder.path()).expect("as it was"), Some(least));
        let large = words(most - 200);
        write(folder.path(), &large).expect("written");
        assert_eq!(read(folder.path()).expect("read"), Some(large));
    }
}
