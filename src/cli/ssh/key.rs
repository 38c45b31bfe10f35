//! Cove's own ssh key: who may speak to the daemon may enter its VMs, whether they have an ssh key or not.
//!
//! It lies in the daemon's home, for its owner alone. `cove proxy` says its public half to the daemon, for one
//! connection; it is never put into a guest's files.

use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::config::Paths;
use crate::keys::KeyPair;
use crate::report::{Kind, Report};

/// The longest file that is taken for a key, in bytes.
const MAX_FILE: u64 = 16 * 1024;

/// The key.
#[derive(Debug)]
pub(in super::super) struct OwnKey {
    /// Its public half.
    pub(in super::super) public: String,
}

impl OwnKey {
    /// Where it lies.
    pub(super) fn path(paths: &Paths) -> PathBuf {
        paths.home.join("ssh/id_ed25519")
    }

    /// The key that is there, or a new one.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub(in super::super) fn ensure(paths: &Paths) -> Result<Self, Report> {
        let path = Self::path(paths);
        let failed = |error: &dyn std::error::Error| {
            let message = format!("cannot make cove's own ssh key `{}`", path.display());
            Report::new(Kind::Failed, message).with_cause(error)
        };
        if !path.exists() {
            let pair = KeyPair::new("cove").map_err(|error| failed(&error))?;
            publish(&path, pair.private.as_bytes()).map_err(|error| failed(&error))?;
        }
        read(&path)
    }
}

/// Puts the file there as a whole, unless another process was faster.
fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // For its owner alone from the beginning.
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(content)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn read(path: &Path) -> Result<OwnKey, Report> {
    let unusable = |error: &dyn std::error::Error| {
        let shown = path.display();
        Report::new(Kind::Failed, format!("cove's own ssh key `{shown}` cannot be used"))
            .with_cause(error)
            .with_hint(format!("remove `{shown}`, and another one is made"))
    };
    let text = || {
        if std::fs::metadata(path)?.len() > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for a key"));
        }
        std::fs::read_to_string(path)
    };
    let text = text().map_err(|error| unusable(&error))?;
    let pair = KeyPair::read(&text).map_err(|error| unusable(&error))?;
    Ok(OwnKey { public: pair.public })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn paths(home: &Path) -> Paths {
        Paths::from_environment().expect("a home").of_another(home.to_owned())
    }

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = paths(&home.path().join("not there yet"));
        let keys: Vec<_> = std::thread::scope(|scope| {
            let make = || OwnKey::ensure(&paths).expect("made").public;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let path = OwnKey::path(&paths);
        assert_eq!(mode(&path), 0o600);
        let folder = path.parent().expect("a folder");
        assert_eq!(mode(folder), 0o700);
        assert_eq!(fs::read_dir(folder).expect("readable").count(), 1, "no draft is left");
    }

    #[test]
    fn a_damaged_one_is_named_and_left_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let paths = paths(home.path());
        let path = OwnKey::path(&paths);
        fs::create_dir(home.path().join("ssh")).expect("made");
        for damaged in ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", &"x".repeat(20_000)] {
            fs::write(&path, damaged).expect("written");
            let report = OwnKey::ensure(&paths).expect_err("no key");
            assert!(report.message.contains("id_ed25519") && report.hint.is_some(), "{report:?}");
            assert_eq!(fs::read_to_string(&path).expect("there"), damaged);
        }
    }
}
