//! Folders for a moment, in which git makes what goes into a guest, or compares what comes out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::task::blocking;

/// A folder for a moment. It goes with all that is in it when the last of its clones is dropped: beside the async
/// threads, so perhaps a little later.
#[derive(Debug, Clone)]
pub struct ScratchFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder(PathBuf);

impl ScratchFolder {
    /// Makes one in a folder, with a name of its own that begins like this.
    pub(super) async fn make(above: &Path, prefix: &'static str) -> io::Result<Self> {
        let above = above.to_owned();
        let make = move || tempfile::Builder::new().prefix(prefix).tempdir_in(above);
        // Up to here it is removed when nobody waits for it any more.
        Ok(Self(Arc::new(Folder(blocking(make).await?.keep()))))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// Does something in it, beside the async threads. It stays until that has ended.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let folder = self.clone();
        let held = move || {
            let done = work();
            drop(folder);
            done
        };
        blocking(held).await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.0);
        let remove = move || {
            // What stays is removed at the next start.
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a scratch folder stays for now");
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
