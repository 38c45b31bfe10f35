//! Compiled components on disk.
//!
//! Compiled code runs as the daemon, outside the sandbox, so it is loaded only from a folder that nobody
//! else can write, and only when its seal is right. A file is
//!
//! ```text
//! "cove-compiled-1\n"   HMAC-SHA256(secret of the folder, name ‖ code)   code
//! ```
//!
//! and its name says what it was made of: digest of the component, and the engine's settings, version
//! and processor. What is not right in any way is compiled again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::limits::Class;
use crate::id::Digest;

const MAGIC: &[u8; 16] = b"cove-compiled-1\n";
const MAC_BYTES: usize = 32;
/// Files that are kept: several versions of every plugin one may have.
const MAX_FILES: usize = 256;

/// The folder, checked, with its secret.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    secret: [u8; 32],
}

impl Cache {
    /// Opens the folder, and makes it with a secret of its own when it is not there. The error is a
    /// sentence.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(text)?;
        let metadata = fs::symlink_metadata(folder).map_err(text)?;
        check_owner(&metadata)?;
        if !metadata.is_dir() || metadata.mode() & 0o077 != 0 {
            return Err("others may look into it or write to it".into());
        }
        let secret = read_or_make_secret(&folder.join("secret"))?;
        Ok(Self { folder: folder.to_owned(), secret })
    }

    fn path(&self, component: &Digest, compatibility: &str) -> (PathBuf, String) {
        let name = format!("{component}-{compatibility}.compiled");
        (self.folder.join(&name), name)
    }

    fn seal(&self, name: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        mac
    }

    /// The code of a component, when it is there and its seal is right.
    pub(super) fn load(&self, component: &Digest, compatibility: &str) -> Option<Vec<u8>> {
        let (path, name) = self.path(component, compatibility);
        let mut bytes = Vec::new();
        let limit = Class::Large.ceilings().compiled_bytes + (MAGIC.len() + MAC_BYTES) as u64;
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        opened.ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        let (seal, code) = bytes.strip_prefix(MAGIC)?.split_at_checked(MAC_BYTES)?;
        self.seal(&name).chain_update(code).verify_slice(seal).ok()?;
        Some(code.to_vec())
    }

    /// Keeps the code of a component: written beside, synced, renamed.
    pub(super) fn store(
        &self,
        component: &Digest,
        compatibility: &str,
        code: &[u8],
    ) -> io::Result<()> {
        let (path, name) = self.path(component, compatibility);
        let seal = self.seal(&name).chain_update(code).finalize().into_bytes();
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        for part in [&MAGIC[..], &seal, code] {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()?;
        self.prune()
    }

    /// Removes the oldest files, when there are too many. Another daemon, which shares the folder, may do so
    /// at the same time.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)?.take(MAX_FILES * 4) {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "compiled") {
                let modified = entry.metadata().and_then(|metadata| metadata.modified());
                match modified {
                    Ok(modified) => files.push((modified, entry.path())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        files.into_iter().take(surplus).try_for_each(|(_, path)| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
    }
}

fn check_owner(metadata: &fs::Metadata) -> Result<(), String> {
    if metadata.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(format!("it belongs to user {}", metadata.uid()))
}

fn read_or_make_secret(path: &Path) -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    for _ in 0..2 {
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        match opened {
            Ok(mut file) => {
                let metadata = file.metadata().map_err(|error| error.to_string())?;
                check_owner(&metadata)?;
                if metadata.mode() & 0o077 != 0 {
                    return Err("others may read its secret".into());
                }
                return match file.read_exact(&mut secret) {
                    Ok(()) => Ok(secret),
                    Err(error) => Err(format!("its secret is too short: {error}")),
                };
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(path)?,
            Err(error) => return Err(format!("its secret cannot be read: {error}")),
        }
    }
    Err("its secret vanishes".into())
}

/// Two daemons may do this at once; the first one's secret stays.
fn make_secret(path: &Path) -> Result<(), String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let made = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&secret)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
            _ => Ok(()),
        }
    };
    made().map_err(|error| format!("its secret cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("tempdir");
        let cache = Cache::open(&folder.path().join("compiled")).expect("opens");
        (folder, cache)
    }

    #[test]
    fn code_comes_back_under_its_name_only() {
        let (_folder, cache) = cache();
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        cache.store(&one, "engine", b"code").expect("stored");
        assert_eq!(cache.load(&one, "engine").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.load(&one, "other engine"), None);
        let (from, to) = (cache.path(&one, "engine").0, cache.path(&two, "engine").0);
        fs::rename(from, to).expect("renamed");
        assert_eq!(cache.load(&two, "engine"), None, "sealed under another name");
    }

    #[test]
    fn what_is_damaged_or_from_elsewhere_is_not_loaded() {
        let (_folder, cache) = cache();
        let digest = Digest::of(b"component");
        cache.store(&digest, "engine", b"some code").expect("stored");
        let (path, _) = cache.path(&digest, "engine");
        let good = fs::read(&path).expect("there");
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            fs::write(&path, &bad).expect("written");
            assert_eq!(cache.load(&digest, "engine"), None, "byte {index}");
            fs::write(&path, &good[..index]).expect("written");
            assert_eq!(cache.load(&digest, "engine"), None, "cut at {index}");
        }
        let (_other_folder, other) = self::cache();
        other.store(&digest, "engine", b"evil code").expect("stored");
        fs::copy(other.path(&digest, "engine").0, &path).expect("copied");
        assert_eq!(cache.load(&digest, "engine"), None, "sealed with another secret");
    }

    #[test]
    fn the_oldest_files_go_when_there_are_too_many() {
        let (_folder, cache) = cache();
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..MAX_FILES {
            let (path, _) = cache.path(&digest(number), "engine");
            let file = File::create(path).expect("made");
            let age = std::time::Duration::from_secs(1_000_000 + number as u64);
            file.set_modified(std::time::UNIX_EPOCH + age).expect("set");
        }
        for number in MAX_FILES..MAX_FILES + 3 {
            cache.store(&digest(number), "engine", b"code").expect("stored");
        }
        let is_there = |number: &usize| cache.path(&digest(*number), "engine").0.exists();
        let there: Vec<_> = (0..MAX_FILES + 3).filter(is_there).collect();
        assert_eq!(there, (3..256 + 3).collect::<Vec<_>>());
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let (_folder, cache) = cache();
        fs::set_permissions(&cache.folder, fs::Permissions::from_mode(0o770)).expect("set");
        assert!(Cache::open(&cache.folder).is_err());
        fs::set_permissions(&cache.folder, fs::Permissions::from_mode(0o700)).expect("set");
        assert!(Cache::open(&cache.folder).is_ok());
        let secret = cache.folder.join("secret");
        fs::set_permissions(secret, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(Cache::open(&cache.folder).is_err());
    }
}
