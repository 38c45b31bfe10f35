//! The database: the only module that imports rusqlite.
//!
//! One thread owns the one connection and takes jobs from a bounded queue, so there is one writer and
//! no lock is held across an await. SQLite runs in WAL mode with foreign keys and a busy timeout.
//! Migrations are forward-only files; before one runs, the database is copied aside. One that is damaged is
//! left as it is, and nothing is begun on it.

mod leases;
mod migrate;
mod reserve;
mod rows;
mod spares;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::oneshot;

use crate::report::{Explain, FULL_DISK, Kind, Report};
use crate::vm::address::Ranges;

/// How many jobs may wait for the database thread before callers wait for a place.
const QUEUE: usize = 256;

/// How every database begins.
const BEGINNING: &[u8] = b"SQLite format 3\0";

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
    /// It is no database any more, or not a whole one.
    #[error("the database `{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A row of a resource is not what it should be.
    #[error("a database row of VM `{vm}` cannot be read: {problem}")]
    Corrupt {
        /// The VM's id.
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
    /// Every address of the range belongs to a VM.
    #[error("all {taken} addresses of `{range}` belong to VMs")]
    NoAddress {
        /// How many there are.
        taken: u32,
        /// The range.
        range: ipnet::Ipv4Net,
    },
    /// Nobody has said where VMs have their addresses.
    #[error("there are no addresses for VMs on the bridge")]
    NoRanges,
    /// The database thread is gone.
    #[error("the database is closed")]
    Closed,
}

impl Explain for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::NameTaken { .. } => Kind::Conflict,
            Self::FromTheFuture { .. } => Kind::Refused,
            Self::Open { .. }
            | Self::Backup { .. }
            | Self::Migrate { .. }
            | Self::Statement { .. }
            | Self::Damaged { .. }
            | Self::Corrupt { .. }
            | Self::NoAddress { .. }
            | Self::NoRanges
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
            Self::NoAddress { .. } => Some(
                "delete VMs of `--net bridge`, or give `range4` of `[net.bridge]` a larger range"
                    .to_owned(),
            ),
            Self::Open { path, .. } | Self::Migrate { path, .. } => Some(format!(
                "nothing was changed; to begin anew, move `{0}` and `{0}-wal` away: the disks of its VMs are \
                 then set aside, not deleted",
                path.display()
            )),
            Self::Backup { .. } => Some("make room on that file system".to_owned()),
            Self::Damaged { path, .. } => {
                let path = path.display();
                Some(format!(
                    "nothing of it was changed or removed: keep a copy of `{path}` and `{path}-wal`; \
                     `sqlite3 {path} .recover` may get its rows back; to begin anew, move both away: the \
                     disks of its VMs are then set aside, not deleted"
                ))
            }
            Self::Corrupt { .. } => Some(
                "nothing was changed; copy the database before you correct it with `sqlite3`"
                    .to_owned(),
            ),
            Self::Statement { source, .. } if is_damaged(source) => Some(
                "the database is damaged: `cove daemon stop`, and the next start says how to go on"
                    .to_owned(),
            ),
            Self::Statement { .. } | Self::NoRanges | Self::Closed => None,
        }
    }
}

/// Whether SQLite had no room. Its shared memory, a file beside the database, is the first thing that it
/// makes; it does not say why that file cannot grow, and nothing but a full disk keeps it from growing.
fn is_full_disk(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE))
}

/// Whether SQLite found no database, or not a whole one.
fn is_damaged(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

impl From<StoreError> for Report {
    fn from(error: StoreError) -> Self {
        Self::of(&error)
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What the database thread is told.
enum Told {
    Run(Job),
    /// Close the connection, answer, and end.
    Close(oneshot::Sender<()>),
}

/// The open database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: SyncSender<Told>,
    /// Where VMs on the bridge have their addresses.
    ranges: Option<Ranges>,
}

impl Store {
    /// Opens the database, making or migrating it as needed.
    ///
    /// # Errors
    /// When it cannot be opened or migrated, is damaged, or is from a newer cove. A damaged database is left
    /// as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = connect_whole(path)?;
        migrate::migrate(&mut connection, path)?;
        reserve::reserve(path);
        let (jobs, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("cove-store".to_owned());
        let spawned = thread.spawn(move || {
            while let Ok(told) = queue.recv() {
                match told {
                    Told::Run(job) => job(&mut connection),
                    Told::Close(closed) => {
                        drop(connection);
                        // Who asked may have stopped waiting.
                        closed.send(()).ok();
                        return;
                    }
                }
            }
        });
        spawned.map_err(|_| StoreError::Closed)?;
        Ok(Self { jobs, ranges: None })
    }

    /// The same, for a daemon whose VMs on the bridge have their addresses in `ranges`. Without them there are
    /// no such VMs.
    #[must_use]
    pub fn giving(self, ranges: Ranges) -> Self {
        Self { ranges: Some(ranges), ..self }
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
        self.tell(Told::Run(job)).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Closes the database once what was asked before is done: its log is then in its file, and nothing of it
    /// is open. Whoever asks later is refused.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.tell(Told::Close(closed)).await.is_ok() {
            // Where another has closed it meanwhile, it is closed.
            done.await.ok();
        }
    }

    async fn tell(&self, told: Told) -> Result<(), StoreError> {
        match self.jobs.try_send(told) {
            Ok(()) => Ok(()),
            // The queue is almost never full; when it is, waiting must not block the runtime.
            Err(TrySendError::Full(told)) => {
                let jobs = self.jobs.clone();
                let sent = tokio::task::spawn_blocking(move || jobs.send(told)).await;
                if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(StoreError::Closed) }
            }
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        }
    }
}

/// A connection to a database that is whole. What is not is neither changed nor removed, nor is the log
/// beside it, which may hold what the file has lost.
fn connect_whole(path: &Path) -> Result<Connection, StoreError> {
    let damaged = |problem: String| StoreError::Damaged { path: path.to_owned(), problem };
    // SQLite takes a file of a few bytes for a new one, and writes over it.
    let beginning = beginning(path);
    if !beginning.is_empty() && beginning != BEGINNING {
        return Err(damaged("it does not begin as a database does".to_owned()));
    }
    let holds_nothing = |path: &Path| std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    let log = log_of(path);
    if holds_nothing(path) && !holds_nothing(&log) {
        // SQLite would take it for a new one and throw the log away.
        let log = log.display();
        return Err(damaged(format!(
            "it is empty or not there, but its log `{log}` holds something"
        )));
    }
    let whole = || -> Result<Connection, StoreError> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let connection = connect(path)?;
        let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let found = connection.query_row("PRAGMA quick_check(1)", [], check).map_err(open)?;
        if found != "ok" {
            // Before what is wrong comes a line that says in which of several databases.
            return Err(damaged(found.lines().last().unwrap_or_default().to_owned()));
        }
        let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep, false).map_err(open)?;
        Ok(connection)
    };
    whole().map_err(|error| match error {
        StoreError::Open { source, .. } if is_damaged(&source) => damaged(source.to_string()),
        error => error,
    })
}

/// The first bytes of a file. What cannot be read here is SQLite's to complain of.
fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; BEGINNING.len()];
    let read = File::open(path).and_then(|mut file| file.read(&mut bytes));
    bytes.truncate(read.unwrap_or(0));
    bytes
}

/// The file of what has been written and is not in the database's own file yet.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// A connection with cove's settings, which hold for this connection and so are set on every one.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open(path).map_err(open)?;
    // Closed before it is known to be whole, it is left as it is.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(open)?;
    connection.busy_timeout(BUSY).map_err(open)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(open)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(open)?;
    connection.pragma_update(None, "wal_autocheckpoint", reserve::LOG_PAGES).map_err(open)?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
