//! One daemon of root for one bridge: two would take each other's VMs off it.
//!
//! Bridges belong to a network namespace, so the lock does too. The network helper needs none: it serves one
//! daemon at a time.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{BridgeError, Refusal};

/// Where what lives as long as the host runs has its files.
const FOLDER: &str = "/run/cove";

/// How often a file that goes in the very moment is looked for again.
const TRIES: usize = 16;

/// A bridge that is this process's, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held: what is taken next is another file. One that stays does no harm.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Takes the bridge of this name for this process.
///
/// # Errors
/// When another one has it.
pub(super) fn take(bridge: &str) -> Result<Lock, BridgeError> {
    let failed = |source: io::Error| BridgeError::Lock { bridge: bridge.to_owned(), source };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(FOLDER);
    made.map_err(failed)?;
    let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_err(failed)?.ino();
    let path = Path::new(FOLDER).join(format!("bridge-{bridge}-{namespace}.lock"));
    for _ in 0..TRIES {
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => break,
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        // Its holder may have removed it between the two.
        let number = |metadata: io::Result<std::fs::Metadata>| metadata.ok().map(|one| one.ino());
        if number(file.metadata()) == number(std::fs::metadata(&path)) {
            return Ok(Lock { path, _file: file });
        }
    }
    Err(Refusal::Taken { bridge: bridge.to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn a_bridge_is_one_daemons_and_free_again_after_it() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root takes bridges");
            return;
        }
        let name = format!("t{}", std::process::id());
        let lock = take(&name).expect("free");
        let error = take(&name).expect_err("taken").to_string();
        assert_eq!(error, format!("another daemon of this user has the bridge `{name}`"));
        let path = lock.path.clone();
        drop(lock);
        assert!(!path.exists());
        drop(take(&name).expect("free again"));
    }
}
