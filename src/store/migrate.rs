//! Bringing a database to the newest version.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// The migrations, oldest first. Version n is the result of the first n.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_leases.sql"),
    include_str!("migrations/0003_spares.sql"),
];

/// Runs the migrations that are missing, each in a transaction of its own, after copying an existing
/// database to `NAME.before-vN`.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    if found > known {
        return Err(StoreError::FromTheFuture { path: path.to_owned(), found, known });
    }
    if found > 0 && found < known {
        let mut copy = path.as_os_str().to_owned();
        copy.push(format!(".before-v{known}"));
        let copy = Path::new(&copy);
        connection
            .backup("main", copy, None::<fn(rusqlite::backup::Progress)>)
            .map_err(|source| StoreError::Backup { copy: copy.to_owned(), source })?;
    }
    for (to, sql) in (1_u32..).zip(MIGRATIONS).skip(found as usize) {
        let failed = |source| StoreError::Migrate { path: path.to_owned(), to, source };
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(sql).map_err(failed)?;
        transaction.pragma_update(None, "user_version", to).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}
