//! The disk files of a VM: the work disk and the overlay disk, both sparse and ext4.
//!
//! The daemon never mounts, parses or writes a file system that a guest could have written. It makes an
//! empty one once per size (a *seed*), and gives every VM a copy of it: the few blocks of metadata, and
//! holes for the rest. From then on the file belongs to the guest: it is handed to a monitor, or, read only, to
//! a process that can do nothing but read it ([`reader`]).

mod copy;
pub mod reader;
mod still;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::process::{Tool, ToolError};
use crate::report::{Explain, FULL_DISK, Kind, Report};
use crate::task::blocking;
use crate::vm::ports::{ByteStream, DiskCopy, Disks, PortResult, ROOT_DISK, WORK_DISK};

pub use copy::copy_sparse;
pub use still::Readers;

/// mke2fs writes a few MiB; a slow disk may take a while for that.
const SEED_DEADLINE: Duration = Duration::from_secs(60);

/// How often a folder is removed in which somebody still makes files: whom nobody waits for any more, and who ends when
/// what they write in has gone.
const REMOVALS: u32 = 5;

/// How long is waited between two of them: so long after the first, twice as long after the second.
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// Options of every disk. The inode tables and the journal are made by the guest's kernel when it needs
/// them; an empty disk of 16 GiB takes 300 KiB on the host. Discards at making would only cost time.
const MKE2FS: &[&str] = &[
    "-q",
    "-F",
    "-t",
    "ext4",
    "-m",
    "0",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
];

/// The journal of a file system of so many bytes, in MiB: little, but enough for it to be grown while it is
/// mounted. A quarter of it is the longest transaction, and growing takes a block for each that is
/// reserved for later growth, of which all but small file systems have 1,024.
const fn journal_mib(bytes: u64) -> u64 {
    if bytes < 1 << 30 { 16 } else { 32 }
}

/// Disks could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The empty file system could not be made.
    #[error("cannot make an empty file system of {bytes} bytes in `{}`", folder.display())]
    Seed {
        /// Its size.
        bytes: u64,
        /// The folder it was to lie in.
        folder: PathBuf,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// A file or folder could not be made.
    #[error("cannot make `{}`", path.display())]
    Make {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A disk could not be made larger.
    #[error("cannot make the disk `{}` {bytes} bytes large", path.display())]
    Grow {
        /// The disk.
        path: PathBuf,
        /// The size.
        bytes: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A disk could not be looked at.
    #[error("cannot look at the disk `{}`", path.display())]
    Look {
        /// The disk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process that reads a disk could not be started.
    #[error("cannot run `{}` to read a disk", program.display())]
    Reader {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder could not be removed.
    #[error("cannot remove `{}`", path.display())]
    Remove {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder of an unknown VM could not be moved out of the way.
    #[error("cannot set `{}` aside", path.display())]
    SetAside {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Explain for DiskError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Seed { source: ToolError::Start { .. }, .. } => {
                Some("install e2fsprogs; `cove doctor` checks for it".to_owned())
            }
            // A tool has no other way to say so than this text of the C library.
            Self::Seed { source: ToolError::Failed { stderr, .. }, .. }
                if stderr.contains("No space left on device") =>
            {
                Some(FULL_DISK.to_owned())
            }
            Self::Grow { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                Some("the host's file system has no files of that size: give less".to_owned())
            }
            Self::Seed { .. }
            | Self::Make { .. }
            | Self::Grow { .. }
            | Self::Look { .. }
            | Self::Reader { .. }
            | Self::Remove { .. }
            | Self::SetAside { .. } => None,
        }
    }
}

/// Disk files below one daemon's folder.
#[derive(Debug)]
pub struct DiskFiles {
    seeds: PathBuf,
    lost: PathBuf,
    readers: Readers,
    /// One seed is made at a time; copies need no lock.
    making: Mutex<()>,
}

impl DiskFiles {
    /// Disks whose seeds are kept in one folder, and folders of unknown VMs in another; and who reads them.
    #[must_use]
    pub fn new(seeds: PathBuf, lost: PathBuf, readers: Readers) -> Self {
        Self { seeds, lost, readers, making: Mutex::new(()) }
    }

    /// The empty file system of this size, made if it is not there.
    async fn seed(&self, bytes: u64) -> Result<PathBuf, DiskError> {
        let seed = self.seeds.join(format!("{bytes}.ext4"));
        let _one_at_a_time = self.making.lock().await;
        if tokio::fs::try_exists(&seed).await.unwrap_or(false) {
            return Ok(seed);
        }
        let make = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Make { path, source }
        };
        let folder = self.seeds.clone();
        tokio::fs::create_dir_all(&folder).await.map_err(make(&folder))?;
        let begin = move || -> io::Result<_> {
            let draft = tempfile::NamedTempFile::new_in(folder)?;
            draft.as_file().set_len(bytes)?;
            Ok(draft)
        };
        let draft = blocking(begin).await.map_err(make(&seed))?;
        let journal = format!("size={}", journal_mib(bytes));
        let tool = Tool::new("mke2fs").args(MKE2FS).args(["-J", &journal]).arg(draft.path());
        let tool = tool.env("LC_ALL", "C").deadline(SEED_DEADLINE);
        let folder = self.seeds.clone();
        tool.run().await.map_err(|source| DiskError::Seed { bytes, folder, source })?;
        let place = seed.clone();
        let published = blocking(move || draft.persist(place)).await;
        published.map_err(|error| make(&seed)(error.error))?;
        Ok(seed)
    }

    async fn make_disks(&self, folder: &Path, work: u64, root: u64) -> Result<(), DiskError> {
        let (work, root) = (self.seed(work).await?, self.seed(root).await?);
        let folder = folder.to_owned();
        let copy = move || {
            make_private_folder(&folder)?;
            for (seed, name) in [(work, WORK_DISK), (root, ROOT_DISK)] {
                let path = folder.join(name);
                copy_sparse(&seed, &path).map_err(|source| DiskError::Make { path, source })?;
            }
            Ok(())
        };
        blocking(copy).await
    }
}

/// Removes a folder with all that is in it. One that is not there is no error. Blocks.
fn remove_all(folder: &Path) -> io::Result<()> {
    let mut removed = std::fs::remove_dir_all(folder);
    for attempt in 1..REMOVALS {
        match &removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(attempt * REMOVAL_PAUSE);
                removed = std::fs::remove_dir_all(folder);
            }
            Ok(()) | Err(_) => break,
        }
    }
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Moves a folder to a place of its own below another, which is returned. Blocks.
fn set_aside(folder: &Path, lost: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(lost)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let place = lost.join(&name);
    let taken = |number: &u32| lost.join(format!("{name}.{number}"));
    // The same VM can be lost again, from a copy.
    let place = match place.exists() {
        false => place,
        true => (2..).map(|number| taken(&number)).find(|place| !place.exists()).unwrap_or(place),
    };
    std::fs::rename(folder, &place)?;
    Ok(place)
}

fn make_private_folder(folder: &Path) -> Result<(), DiskError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| DiskError::Make { path: folder.to_owned(), source })
}

#[async_trait]
impl Disks for DiskFiles {
    async fn make(&self, folder: &Path, work_bytes: u64, root_bytes: u64) -> PortResult<()> {
        let made = self.make_disks(folder, work_bytes, root_bytes).await;
        if made.is_err() {
            self.remove(folder).await?;
        }
        made.map_err(|error| Report::of(&error))
    }

    async fn grow(&self, folder: &Path, work_bytes: u64) -> PortResult<()> {
        let path = folder.join(WORK_DISK);
        let work = path.clone();
        let grow = move || {
            let file = std::fs::OpenOptions::new().write(true).open(&work)?;
            if file.metadata()?.len() < work_bytes { file.set_len(work_bytes) } else { Ok(()) }
        };
        blocking(grow)
            .await
            .map_err(|source| Report::of(&DiskError::Grow { path, bytes: work_bytes, source }))
    }

    async fn taken(&self, folder: &Path) -> PortResult<(u64, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let folder = folder.to_owned();
        let taken = move |name: &str| {
            let path = folder.join(name);
            // Blocks of 512 bytes, whatever the file system's are (stat(2)).
            let blocks = std::fs::metadata(&path).map(|file| file.blocks());
            blocks
                .map(|blocks| blocks * 512)
                .map_err(|source| Report::of(&DiskError::Look { path, source }))
        };
        blocking(move || Ok((taken(WORK_DISK)?, taken(ROOT_DISK)?))).await
    }

    async fn copy_out(&self, wanted: DiskCopy) -> PortResult<Box<dyn ByteStream>> {
        self.readers.begin(wanted).await.map_err(|error| Report::of(&error))
    }

    async fn remove(&self, folder: &Path) -> PortResult<()> {
        let (path, folder) = (folder.to_owned(), folder.to_owned());
        let removed = blocking(move || remove_all(&folder)).await;
        removed.map_err(|source| Report::of(&DiskError::Remove { path, source }))
    }

    async fn set_aside(&self, folder: &Path) -> PortResult<PathBuf> {
        let (path, folder, lost) = (folder.to_owned(), folder.to_owned(), self.lost.clone());
        let moved = blocking(move || set_aside(&folder, &lost)).await;
        moved.map_err(|source| Report::of(&DiskError::SetAside { path, source }))
    }

    async fn folders(&self, all: &Path) -> PortResult<Vec<PathBuf>> {
        let (path, all) = (all.to_owned(), all.to_owned());
        let list = move || match std::fs::read_dir(all) {
            Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let listed = blocking(list).await;
        listed.map_err(|source| Report::of(&DiskError::Make { path, source }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Tasks;
    use std::os::unix::fs::MetadataExt;

    fn files(home: &Path) -> DiskFiles {
        let readers = Readers { program: "".into(), home: "/root".into(), tasks: Tasks::default() };
        DiskFiles::new(home.join("seeds"), home.join("lost"), readers)
    }

    #[tokio::test]
    async fn disks_are_sparse_private_and_clean() {
        let home = tempfile::tempdir().expect("tempdir");
        let disks = files(home.path());
        let folder = home.path().join("vms/one");
        disks.make(&folder, 16 << 30, 1 << 30).await.expect("made");
        assert_eq!(std::fs::metadata(&folder).expect("there").mode() & 0o777, 0o700);
        for (name, bytes) in [(WORK_DISK, 16_u64 << 30), (ROOT_DISK, 1 << 30)] {
            let file = std::fs::metadata(folder.join(name)).expect("there");
            assert_eq!((file.len(), file.mode() & 0o777), (bytes, 0o600), "{name}");
            assert!(file.blocks() * 512 < 8 << 20, "{name} takes {} bytes", file.blocks() * 512);
            let check = Tool::new("e2fsck").args(["-fn"]).arg(folder.join(name)).run().await;
            check.expect("a clean file system");
        }
        disks.remove(&folder).await.expect("removed");
        disks.remove(&folder).await.expect("removing twice is no error");
        let left = disks.folders(&home.path().join("vms")).await.expect("lists");
        assert_eq!(left, Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn a_disk_grows_by_a_hole_and_never_shrinks() {
        let home = tempfile::tempdir().expect("tempdir");
        let disks = files(home.path());
        let folder = home.path().join("vms/one");
        disks.make(&folder, 1 << 30, 1 << 30).await.expect("made");
        let work = folder.join(WORK_DISK);
        for (wanted, is) in [(2_u64 << 30, 2_u64 << 30), (2 << 30, 2 << 30), (1 << 30, 2 << 30)] {
            disks.grow(&folder, wanted).await.expect("grown");
            assert_eq!(std::fs::metadata(&work).expect("there").len(), is);
        }
        let (work, root) = disks.taken(&folder).await.expect("told");
        assert!(work < 8 << 20 && root < 8 << 20 && work > 0, "{work} {root}");
        let error = disks.grow(&folder, u64::MAX).await.expect_err("too large");
        assert!(error.message.contains("work.ext4") && !error.cause.is_empty(), "{error:?}");
        disks.grow(&home.path().join("vms/none"), 1).await.expect_err("there is none");
    }

    #[tokio::test]
    async fn a_size_that_cannot_be_leaves_nothing() {
        let home = tempfile::tempdir().expect("tempdir");
        let disks = files(home.path());
        let folder = home.path().join("vms/one");
        let error = disks.make(&folder, 1024, 1 << 30).await.expect_err("too small");
        assert!(error.message.contains("1024 bytes") && !error.cause.is_empty(), "{error:?}");
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn what_is_set_aside_is_kept_whole_and_never_written_over() {
        let home = tempfile::tempdir().expect("tempdir");
        let disks = files(home.path());
        let folder = home.path().join("vms/one");
        for (content, place) in [("first", "one"), ("second", "one.2"), ("third", "one.3")] {
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join(WORK_DISK), content).expect("written");
            let aside = disks.set_aside(&folder).await.expect("moved");
            assert_eq!(aside, home.path().join("lost").join(place));
            assert!(!folder.exists());
            assert_eq!(std::fs::read_to_string(aside.join(WORK_DISK)).expect("there"), content);
        }
        disks.set_aside(&folder).await.expect_err("nothing is there");
    }
}
