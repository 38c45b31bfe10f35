//! The JSON files that setup writes beside images and kernels, and the one that names the defaults.
//!
//! Unknown keys are errors: a cache of a later version must not be half understood.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ImageError;
use crate::id::{Digest, ImageName};

/// A manifest has some hundred bytes; what is longer is something else.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// `image.json`, beside `root.ext4`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageManifest {
    /// The name users know it by.
    pub name: ImageName,
    /// The sha256 of `root.ext4`; also the name of the folder.
    pub digest: Digest,
    /// The size of `root.ext4`.
    pub bytes: u64,
    /// What it is, for people.
    pub description: String,
    /// The Debian suite it was made of.
    pub suite: String,
    /// When: RFC 3339, UTC.
    pub made_at: String,
    /// The digest of what it was made by: setup makes a new image when that changes.
    pub recipe: Digest,
}

/// `kernel.json`, beside `vmlinuz` and `modules/`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KernelManifest {
    /// The sha256 of `vmlinuz`; also the name of the folder.
    pub digest: Digest,
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The package it was unpacked from.
    pub package: String,
    /// The version of that package.
    pub package_version: String,
    /// When: RFC 3339, UTC.
    pub made_at: String,
    /// The digest of what it was made by.
    pub recipe: Digest,
}

/// `default.json`: what a VM is made of when nothing else is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    /// The image.
    pub image: NamedDigest,
    /// The kernel.
    pub kernel: PlainDigest,
}

/// An entry with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedDigest {
    /// The name.
    pub name: ImageName,
    /// The digest, and so the folder.
    pub digest: Digest,
}

/// An entry without a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainDigest {
    /// The digest, and so the folder.
    pub digest: Digest,
}

/// Reads a manifest; `None` when the file is not there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    let failed = |source| ImageError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ImageError::Damaged {
            path: path.to_owned(),
            reason: format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes"),
        });
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| ImageError::Manifest { path: path.to_owned(), source })
}

/// Whether an error says that the thing is not there.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
