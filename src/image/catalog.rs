//! Which images and kernels there are, and where their files lie.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::adopt;
use super::error::ImageError;
use super::manifest::{self, Defaults, ImageManifest, KernelManifest};
use crate::id::{Digest, ImageName};
use crate::wire::rpc;

const IMAGES: &str = "images";
const KERNELS: &str = "kernels";
const DEFAULTS: &str = "default.json";

/// A root image in the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootImage {
    /// The name users know it by.
    pub name: ImageName,
    /// The sha256 of its file. A VM remembers this, not the name: an overlay fits one base only.
    pub digest: Digest,
    /// The ext4 file. It is shared by all VMs (and by other homes): only ever opened for reading.
    pub path: PathBuf,
    /// The size of the file.
    pub bytes: u64,
    /// What it is, for people.
    pub description: String,
}

/// A kernel in the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFiles {
    /// The sha256 of `vmlinuz`.
    pub digest: Digest,
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The compressed kernel.
    pub vmlinuz: PathBuf,
    /// The folder with `modules.builtin` and uncompressed modules below `kernel/`.
    pub modules: PathBuf,
}

/// The images and kernels of one home, filled from a cache. Cheap to clone.
///
/// All methods block on files. When an entry is there, they take microseconds; the first use of an
/// entry takes milliseconds, and a second or so where it has to be copied: from async code, run them
/// on a blocking thread.
#[derive(Debug, Clone)]
pub struct Images {
    pub(super) home: PathBuf,
    cache: PathBuf,
}

impl Images {
    /// The images of the home folder `home`, taken from the cache folder `cache`. Touches neither.
    #[must_use]
    pub fn open(home: &Path, cache: &Path) -> Self {
        Self { home: home.to_owned(), cache: cache.to_owned() }
    }

    /// The image that has this name now.
    ///
    /// # Errors
    /// When no image has it, or its files are damaged or cannot be taken into the home.
    pub fn resolve(&self, name: &ImageName) -> Result<RootImage, ImageError> {
        let defaults = self.defaults()?;
        if let Some(defaults) = defaults.filter(|defaults| defaults.image.name == *name) {
            return self.image(&defaults.image.digest);
        }
        let known = self.list_images()?;
        if known.is_empty() {
            return Err(self.no_default());
        }
        Err(ImageError::Unknown {
            name: name.clone(),
            known: known.into_iter().map(|image| image.name).collect(),
        })
    }

    /// The image with this digest: what a VM made earlier starts with.
    ///
    /// # Errors
    /// When it is neither in the home nor in the cache, or is damaged.
    pub fn image(&self, digest: &Digest) -> Result<RootImage, ImageError> {
        let gone = || ImageError::Gone { what: "image", digest: digest.clone() };
        let folder = self.take_in(IMAGES, digest)?.ok_or_else(gone)?;
        let manifest: ImageManifest = entry_manifest(&folder, "image.json")?;
        check_digest(&folder, digest, &manifest.digest)?;
        let path = folder.join("root.ext4");
        check_file(&path, Some(manifest.bytes))?;
        Ok(RootImage {
            name: manifest.name,
            digest: manifest.digest,
            path,
            bytes: manifest.bytes,
            description: manifest.description,
        })
    }

    /// The kernel that new VMs start with.
    ///
    /// # Errors
    /// When there is none, or its files are damaged or cannot be taken into the home.
    pub fn kernel(&self) -> Result<KernelFiles, ImageError> {
        let defaults = self.defaults()?.ok_or_else(|| self.no_default())?;
        self.kernel_with(&defaults.kernel.digest)
    }

    /// The kernel with this digest.
    ///
    /// # Errors
    /// When it is neither in the home nor in the cache, or is damaged.
    pub fn kernel_with(&self, digest: &Digest) -> Result<KernelFiles, ImageError> {
        let gone = || ImageError::Gone { what: "kernel", digest: digest.clone() };
        let folder = self.take_in(KERNELS, digest)?.ok_or_else(gone)?;
        let manifest: KernelManifest = entry_manifest(&folder, "kernel.json")?;
        check_digest(&folder, digest, &manifest.digest)?;
        let (vmlinuz, modules) = (folder.join("vmlinuz"), folder.join("modules"));
        check_file(&vmlinuz, None)?;
        check_file(&modules.join("modules.builtin"), None)?;
        Ok(KernelFiles { digest: manifest.digest, release: manifest.release, vmlinuz, modules })
    }

    /// The images that can be asked for by name. Takes nothing into the home.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub fn list_images(&self) -> Result<Vec<rpc::Image>, ImageError> {
        let (Some(defaults), _) = self.named()? else {
            return Ok(Vec::new());
        };
        let digest = &defaults.image.digest;
        let manifest: Option<ImageManifest> = self.manifest(IMAGES, digest, "image.json")?;
        Ok(Vec::from_iter(manifest.map(|manifest| rpc::Image {
            name: manifest.name,
            digest: manifest.digest,
            bytes: manifest.bytes,
            description: manifest.description,
        })))
    }

    /// The kernels in home and cache, the default first. Takes nothing into the home.
    ///
    /// # Errors
    /// When a manifest or a folder cannot be read.
    pub fn list_kernels(&self) -> Result<Vec<rpc::Kernel>, ImageError> {
        let default = self.named()?.0.map(|defaults| defaults.kernel.digest);
        let mut digests = digests_in(&self.home.join(KERNELS))?;
        digests.extend(digests_in(&self.cache.join(KERNELS))?);
        digests.sort();
        digests.dedup();
        digests.sort_by_key(|digest| Some(digest) != default.as_ref());
        let mut kernels = Vec::new();
        for digest in digests {
            let manifest: Option<KernelManifest> =
                self.manifest(KERNELS, &digest, "kernel.json")?;
            kernels.extend(manifest.map(|manifest| rpc::Kernel {
                digest: manifest.digest,
                release: manifest.release,
            }));
        }
        Ok(kernels)
    }

    fn no_default(&self) -> ImageError {
        ImageError::NoDefault { cache: self.cache.clone() }
    }

    /// What the cache names, taken into the home and remembered; without a cache, what it named last.
    fn defaults(&self) -> Result<Option<Defaults>, ImageError> {
        let (named, remembered) = self.named()?;
        let Some(named) = named.filter(|named| remembered.as_ref() != Some(named)) else {
            return Ok(remembered);
        };
        // Its files come first: a default that is remembered can be had without the cache.
        self.take_in(IMAGES, &named.image.digest)?;
        self.take_in(KERNELS, &named.kernel.digest)?;
        let text = serde_json::to_vec(&named)
            .map_err(|source| ImageError::Manifest { path: self.home.join(DEFAULTS), source })?;
        adopt::write_file(&self.home.join(DEFAULTS), &text)?;
        Ok(Some(named))
    }

    /// What is in force, and what the home remembers. A cache that lost the files it names counts as
    /// no cache.
    fn named(&self) -> Result<(Option<Defaults>, Option<Defaults>), ImageError> {
        let remembered: Option<Defaults> = manifest::read(&self.home.join(DEFAULTS))?;
        let named: Option<Defaults> = manifest::read(&self.cache.join(DEFAULTS))?;
        let named = named.filter(|named| {
            self.has(IMAGES, &named.image.digest) && self.has(KERNELS, &named.kernel.digest)
        });
        Ok((named.or_else(|| remembered.clone()), remembered))
    }

    fn has(&self, shelf: &str, digest: &Digest) -> bool {
        [&self.home, &self.cache].iter().any(|root| root.join(shelf).join(digest.as_str()).is_dir())
    }

    /// The folder of an entry in the home, taken from the cache when it is not there yet; `None` when
    /// neither has it.
    fn take_in(&self, shelf: &str, digest: &Digest) -> Result<Option<PathBuf>, ImageError> {
        let place = self.home.join(shelf).join(digest.as_str());
        if place.is_dir() {
            return Ok(Some(place));
        }
        let source = self.cache.join(shelf).join(digest.as_str());
        if !source.is_dir() {
            return Ok(None);
        }
        adopt::publish(&self.home.join(shelf), digest.as_str(), |entry| {
            adopt::bring_tree(&source, entry)
        })?;
        Ok(Some(place))
    }

    fn manifest<T: DeserializeOwned>(
        &self,
        shelf: &str,
        digest: &Digest,
        file: &str,
    ) -> Result<Option<T>, ImageError> {
        for root in [&self.home, &self.cache] {
            let path = root.join(shelf).join(digest.as_str()).join(file);
            if let Some(manifest) = manifest::read(&path)? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }
}

fn damaged(path: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::Damaged { path: path.to_owned(), reason: reason.into() }
}

fn entry_manifest<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<T, ImageError> {
    manifest::read(&folder.join(file))?
        .ok_or_else(|| damaged(folder, format!("`{file}` is missing")))
}

fn check_digest(folder: &Path, asked: &Digest, said: &Digest) -> Result<(), ImageError> {
    if asked == said {
        return Ok(());
    }
    Err(damaged(folder, format!("its manifest speaks of `{said}`")))
}

/// A plain file that is not empty and, where it is known, has its size.
fn check_file(path: &Path, bytes: Option<u64>) -> Result<(), ImageError> {
    let length = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(damaged(path, "it is not a plain file")),
        Err(error) if manifest::is_absent(&error) => return Err(damaged(path, "it is missing")),
        Err(source) => {
            return Err(ImageError::Io { action: "read", path: path.to_owned(), source });
        }
    };
    match bytes {
        Some(bytes) if bytes != length => {
            Err(damaged(path, format!("it has {length} bytes instead of {bytes}")))
        }
        None if length == 0 => Err(damaged(path, "it is empty")),
        Some(_) | None => Ok(()),
    }
}

/// The digests that name folders of a shelf. What is not a digest is a lock or unfinished.
fn digests_in(shelf: &Path) -> Result<Vec<Digest>, ImageError> {
    let failed = |source| ImageError::Io { action: "read", path: shelf.to_owned(), source };
    let entries = match fs::read_dir(shelf) {
        Ok(entries) => entries,
        Err(error) if manifest::is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut digests = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        digests.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(digests)
}
