//! A database that is damaged: found before anything is done with it, and kept.
//!
//! A daemon that went on with half of its rows would tear down the VMs of the other half, so it refuses to.
//! The file stays as it is, and a copy lies beside it, so that nothing that somebody tries on the one costs
//! what is left in the other.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ffi};

use super::StoreError;

/// How many copies there are at most: one for each time that a database was damaged in another way.
const COPIES: u32 = 100;

/// Looks through all pages.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        // Before what is wrong comes a line that says in which of several databases.
        Ok(found) => Err(damaged(path, found.lines().last().unwrap_or_default().to_owned())),
        Err(source) => Err(explain(path, source)),
    }
}

/// What an error says of a database that was to be opened.
pub(super) fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error().map(|error| error.extended_code & 0xff) {
        Some(ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => damaged(path, source.to_string()),
        Some(_) | None => StoreError::Open { path: path.to_owned(), source },
    }
}

fn damaged(path: &Path, problem: String) -> StoreError {
    let copy = keep_aside(path).inspect_err(|error| {
        tracing::warn!(%error, path = %path.display(), "cannot copy a damaged database aside");
    });
    StoreError::Damaged { path: path.to_owned(), copy: copy.ok(), problem }
}

/// Copies the database, with what SQLite has not yet moved into it, beside it. A copy that is there already
/// is never written over.
fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1..=COPIES {
        let copy = match number {
            1 => with(path, ".damaged"),
            number => with(path, &format!(".damaged-{number}")),
        };
        if !copy.try_exists()? {
            let log = with(path, "-wal");
            if log.try_exists()? {
                fs::copy(log, with(&copy, "-wal"))?;
            }
            fs::copy(path, &copy)?;
            return Ok(copy);
        }
        if fs::read(path)? == fs::read(&copy)? {
            return Ok(copy);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use crate::report::Report;

    #[test]
    fn a_damaged_database_is_kept_and_copied_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cove.db");
        for (content, copy) in [("no", ".damaged"), ("no", ".damaged"), ("nor this", ".damaged-2")]
        {
            let content = content.repeat(1000);
            fs::write(&path, &content).expect("written");
            let report = Report::from(Store::open(&path).expect_err("refused"));
            let copy = with(&path, copy);
            assert!(report.message.contains(copy.to_str().expect("UTF-8")), "{report:?}");
            for file in [&path, &copy] {
                assert_eq!(fs::read_to_string(file).expect("readable"), content);
            }
        }
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 3);
    }

    #[test]
    fn damage_behind_the_first_page_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cove.db");
        drop(Store::open(&path).expect("opens"));
        // The last connection moves everything into the one file when it is closed.
        let connection = Connection::open(&path).expect("opens");
        connection.query_row("SELECT count(*) FROM vm", [], |_| Ok(())).expect("read");
        connection.close().expect("closed");
        let mut bytes = fs::read(&path).expect("readable");
        bytes[4096..8192].fill(0xa5);
        fs::write(&path, &bytes).expect("written");
        let error = Store::open(&path).expect_err("refused");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(fs::read(with(&path, ".damaged")).expect("readable") == bytes);
    }
}
