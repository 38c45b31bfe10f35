//! The database: the only module that imports rusqlite.
//!
//! One thread owns the one connection and takes jobs from a bounded queue, so there is one writer and
//! no lock is held across an await. SQLite runs in WAL mode with foreign keys and a busy timeout.
//! Migrations are forward-only files; before one runs, the database is copied aside. One that is damaged is
//! kept, and nothing is done with it.

mod damage;
mod migrate;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use crate::report::{Explain, FULL_DISK, Kind, Report};

/// How many jobs may wait for the database thread before callers wait for a place.
const QUEUE: usize = 256;

/// How long SQLite waits for another process that holds the database (a backup, a curious user).
const BUSY: Duration = Duration::from_secs(5);

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// It is damaged.
    #[error("the database `{}` is damaged: {problem}{}", path.display(), kept(copy.as_deref()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// A copy of it, unless there could be none.
        copy: Option<PathBuf>,
        /// What SQLite says.
        problem: String,
    },
    /// It was written by a newer cove.
    #[error(
        "the database `{}` is of version {found}, and this cove knows versions up to {known}",
        path.display()
    )]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// It could not be copied aside before a migration.
    #[error("cannot copy the database to `{}` before changing it", copy.display())]
    Backup {
        /// The copy.
        copy: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A migration failed.
    #[error("cannot bring the database `{}` to version {to}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The version.
        to: u32,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A statement failed.
    #[error("the database refused to {doing}")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A row is not what it should be.
    #[error("the database row of VM `{vm}` cannot be read: {problem}")]
    Corrupt {
        /// The VM's id as it is written there.
        vm: String,
        /// What is wrong.
        problem: String,
    },
    /// The name is taken.
    #[error("there is a VM named `{name}` already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The database thread is gone.
    #[error("the database is closed")]
    Closed,
}

fn kept(copy: Option<&Path>) -> String {
    copy.map(|copy| format!("; a copy is kept at `{}`", copy.display())).unwrap_or_default()
}

impl Explain for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::NameTaken { .. } => Kind::Conflict,
            Self::FromTheFuture { .. } => Kind::Refused,
            Self::Open { .. }
            | Self::Damaged { .. }
            | Self::Backup { .. }
            | Self::Migrate { .. }
            | Self::Statement { .. }
            | Self::Corrupt { .. }
            | Self::Closed => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. }
            | Self::Backup { source, .. }
            | Self::Migrate { source, .. }
            | Self::Statement { source, .. }
                if is_full_disk(source) =>
            {
                Some(FULL_DISK.to_owned())
            }
            Self::FromTheFuture { .. } => {
                Some("install the newer cove again, or set COVE_HOME to another folder".to_owned())
            }
            Self::NameTaken { .. } => Some("choose another `--name`, or delete that VM".to_owned()),
            Self::Open { path, .. } | Self::Damaged { path, .. } | Self::Migrate { path, .. } => Some(format!(
                "nothing was changed; to begin anew, move `{}` away: the disks of its VMs are then set \
                 aside, not deleted",
                path.display()
            )),
            Self::Backup { .. } => Some("make room on that file system".to_owned()),
            Self::Corrupt { .. } => Some(
                "nothing was changed; to go on without this VM, copy the database and remove its row with \
                 `sqlite3`: its disks are then set aside, not deleted"
                    .to_owned(),
            ),
            Self::Statement { .. } | Self::Closed => None,
        }
    }
}

/// Whether SQLite had no room. Its shared memory, a file beside the database, is the first thing that it
/// makes; it does not say why that file cannot grow, and nothing but a full disk keeps it from growing.
fn is_full_disk(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE))
}

impl From<StoreError> for Report {
    fn from(error: StoreError) -> Self {
        Self::of(&error)
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The open database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
}

impl Store {
    /// Opens the database, making or migrating it as needed.
    ///
    /// # Errors
    /// When it cannot be opened or migrated, or is from a newer cove.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = connect(path)?;
        damage::check(&connection, path)?;
        migrate::migrate(&mut connection, path)?;
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new().name("cove-store".to_owned());
        let spawned = thread.spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&mut connection);
            }
        });
        spawned.map_err(|_| StoreError::Closed)?;
        Ok(Self { jobs })
    }

    /// Runs one job on the database thread.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // A caller that has gone away does not need the answer.
            answer.send(job(connection)).ok();
        });
        let jobs = self.jobs.clone();
        // The queue is almost never full; when it is, waiting must not block the runtime.
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(std::sync::mpsc::TrySendError::Full(job)) => {
                let sent = tokio::task::spawn_blocking(move || jobs.send(job)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Err(StoreError::Closed);
                }
            }
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err(StoreError::Closed),
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// A connection with cove's settings, which hold for this connection and so are set on every one.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = |source| damage::explain(path, source);
    let connection = Connection::open(path).map_err(open)?;
    connection.busy_timeout(BUSY).map_err(open)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(open)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(open)?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
