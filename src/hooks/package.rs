//! The files of one plugin as they are brought to us: read once, below one folder, no link followed, and
//! checked as far as bytes go.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::files::other_than_component;
use super::inputs::SignatureRules;
use super::limits;
use super::manifest::Manifest;
use super::problem::Problem;
use super::registry::Release;
use super::signature::{Signed, verify};
use super::source::open_below;
use super::words::all_words;
use crate::id::Digest;

/// The name of a manifest.
pub(super) const MANIFEST: &str = "plugin.toml";
/// What a signature's name ends in, after the component's.
const SIGNATURE: &str = ".minisig";

/// A plugin's files.
#[derive(Debug)]
pub(super) struct Package {
    /// The folder they were read from.
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
    manifest_text: Vec<u8>,
    pub(super) component: Vec<u8>,
    pub(super) digest: Digest,
    signature: Option<Vec<u8>>,
    pub(super) signed: Signed,
}

impl Package {
    /// Reads the files of a folder, or of the folder that a manifest or the component that it names is in.
    pub(super) fn read(path: &Path, rules: &SignatureRules) -> Result<Self, Problem> {
        let named = |reason| Err(Problem::Name { path: path.to_owned(), reason });
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        let folder = if metadata.is_dir() {
            path
        } else if path.file_name().is_some_and(|name| name == MANIFEST) {
            path.parent().unwrap_or(path)
        } else if metadata.is_file() {
            let folder = path.parent().unwrap_or(path);
            let component = match read_manifest(folder) {
                Ok((_, manifest)) => Some(manifest.component),
                Err(Problem::Missing { .. }) => None,
                Err(problem) => return Err(problem),
            };
            if component.is_none_or(|component| path.file_name() != Some(component.as_ref())) {
                return named(
                    "is neither a plugin's folder, nor its `plugin.toml`, nor the component that a `plugin.toml` beside it names",
                );
            }
            folder
        } else {
            return named("is neither a file nor a folder");
        };
        Self::read_folder(folder, rules)
    }

    /// Reads the files of a folder.
    pub(super) fn read_folder(folder: &Path, rules: &SignatureRules) -> Result<Self, Problem> {
        let (text, manifest) = read_manifest(folder)?;
        let file = folder.join(&manifest.component);
        let limit = manifest.limits.class.ceilings().component_bytes;
        let component = read(folder, &manifest.component, limit)?;
        if let Some(what) = other_than_component(&component) {
            return Err(Problem::NotAComponent { file, what });
        }
        let name = format!("{}{SIGNATURE}", manifest.component);
        let signature = match read(folder, &name, limits::SIGNATURE_BYTES) {
            Ok(signature) => Some(signature),
            Err(Problem::Missing { .. }) => None,
            Err(problem) => return Err(problem),
        };
        let signed = match &signature {
            None => Signed::No,
            Some(signature) => {
                let signature = String::from_utf8_lossy(signature);
                let verified = verify(&signature, &component, &Digest::of(&text), &rules.signers);
                verified
                    .map_err(|reason| Problem::Signature { file: folder.join(&name), reason })?
            }
        };
        match (&signed, rules.required) {
            (Signed::No, true) => return Err(Problem::Unsigned { file }),
            (Signed::ByUnknown, true) => return Err(Problem::UnknownSigner { file }),
            (Signed::By(_), true) | (Signed::No | Signed::ByUnknown | Signed::By(_), false) => {}
        }
        let digest = Digest::of(&component);
        let folder = folder.to_owned();
        Ok(Self { folder, manifest, manifest_text: text, component, digest, signature, signed })
    }

    /// The path of its component.
    pub(super) fn component_path(&self) -> PathBuf {
        self.folder.join(&self.manifest.component)
    }

    /// The digest of its manifest's file.
    pub(super) fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest_text)
    }

    /// What stands for manifest and component.
    pub(super) fn key(&self) -> Digest {
        release_key(&self.manifest_digest(), &self.digest)
    }

    /// How the registry writes it down.
    pub(super) fn release(&self) -> Release {
        Release {
            key: self.key(),
            version: self.manifest.version.clone(),
            manifest: self.manifest_digest(),
            component: self.digest.clone(),
            asks: all_words(&self.manifest.needs),
            signer: self.signed.signer().cloned(),
            installed_at: crate::vm::now(),
            from: self.folder.display().to_string(),
        }
    }

    /// Its files with their names.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let component = &self.manifest.component;
        let signature = self.signature.as_deref();
        let signature = signature.map(|bytes| (format!("{component}{SIGNATURE}"), bytes));
        [(MANIFEST.to_owned(), &*self.manifest_text), (component.clone(), &*self.component)]
            .into_iter()
            .chain(signature)
    }
}

/// What stands for a manifest and a component.
pub(super) fn release_key(manifest: &Digest, component: &Digest) -> Digest {
    Digest::of(format!("{manifest} {component}").as_bytes())
}

/// Reads the manifest in a folder.
pub(super) fn read_manifest(folder: &Path) -> Result<(Vec<u8>, Manifest), Problem> {
    let file = folder.join(MANIFEST);
    let text = read(folder, MANIFEST, limits::MANIFEST_BYTES)?;
    let manifest = std::str::from_utf8(&text).map_err(|_| "it is not UTF-8".to_owned());
    let manifest = manifest.and_then(Manifest::parse);
    let manifest = manifest.map_err(|reason| Problem::Manifest { file, reason })?;
    Ok((text, manifest))
}

/// Reads a regular file of at most `limit` bytes right in a folder.
fn read(folder: &Path, name: &str, limit: u64) -> Result<Vec<u8>, Problem> {
    let file = folder.join(name);
    let bytes = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        // A pipe opens at once, because nothing here waits, and is then no regular file.
        let opened = open_below(folder.as_fd(), name, OFlags::RDONLY | OFlags::NOCTTY)?;
        let opened = File::from(opened);
        if !opened.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        opened.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match bytes() {
        Ok(bytes) if bytes.len() as u64 > limit => Err(Problem::TooLarge { file, limit }),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(unreadable(&file, &error)),
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Problem {
    let file = file.to_owned();
    match error.raw_os_error() {
        Some(nix::libc::ENOENT) => Problem::Missing { file },
        Some(nix::libc::ELOOP) => {
            Problem::Unreadable { file, reason: "it is a symbolic link".to_owned() }
        }
        _ => Problem::Unreadable { file, reason: error.to_string() },
    }
}
